"""The attachment commands as processes: output, exit status, and effect on the files."""

import json
import os
import re

import aiohttp
import pytest

from tests.support.calls import eventually, expect_json, open_case, read_case, stored_files, upload
from tests.support.constants import with_constants
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def variables(migrated_folder, s3):
    """The variables of a service with a folder and a bucket of its own."""
    return {
        "cwd": migrated_folder,
        "SUPPORT_PORT": str(free_port()),
        "SUPPORT_S3_BUCKET": s3.create_bucket(),
        "SUPPORT_S3_ENDPOINT": s3.url,
        "SUPPORT_LOG_LEVEL": "warning",
        **with_constants({"attachments.maintenance.offload.DELETE_GRACE": 0.1}),
    }


@pytest.fixture
async def session(variables):
    """A client session of that service, which runs during the test."""
    address = f"http://127.0.0.1:{variables['SUPPORT_PORT']}"
    async with running("serve", **variables) as service, aiohttp.ClientSession(address) as session:
        await service.wait_until_ready(address)
        yield session


@pytest.fixture
async def attach(shared_address, tmp_path):
    """Run the command at the service that tests share; gives its status, its lines of JSON, and its errors."""

    async def attach(*arguments):
        return await command({"cwd": tmp_path, "SUPPORT_PORT": shared_address.rpartition(":")[2]}, "attach", *arguments)

    return attach


@pytest.fixture
async def shared_session(shared_address):
    async with aiohttp.ClientSession(shared_address) as session:
        yield session


async def command(variables, *arguments):
    """Run a command; return its status, its lines of JSON, and its errors."""
    async with running(*arguments, **variables) as process:
        status, out, errors = await process.wait_for_exit()
    return status, [json.loads(line) for line in out.splitlines()], errors


async def test_offload_moves_files_to_s3(variables, session, tmp_path):
    """`--dry-run` moves nothing, and `--limit` bounds the number of files."""
    case = await open_case(session)
    uploaded = [await upload(session, case, bytes([number]) * 1000, filename=f"{number}.bin") for number in range(3)]
    for options, files in ((["--dry-run"], 3), (["--dry-run", "--limit", "2"], 2)):
        status, lines, _ = await command(variables, "offload", "--older-than", "0s", *options)
        assert (status, lines) == (0, [{"summary": True, "dryRun": True, "files": files, "bytes": 1000 * files}])
    status, lines, _ = await command(variables, "offload", "--older-than", "1d")
    assert (status, lines[-1]["moved"]) == (0, 0)
    status, lines, _ = await command(variables, "offload", "--older-than", "0s", "--limit", "2", "--rate", "50MB/s")
    assert (status, {line["id"]: line["outcome"] for line in lines[:-1]}) == (
        0, {each["id"]: "moved" for each in uploaded[:2]}
    )  # fmt: skip
    removed = lines[-1]["removed"]  # the service may remove some files first
    freed = {"removed": removed, "freedBytes": 1000 * removed}
    assert lines[-1] == {"summary": True, "moved": 2, "movedBytes": 2000, **freed}
    await eventually(lambda: len(stored_files(tmp_path / "var" / "attachments")) == 1)
    for each in uploaded:
        async with session.get(each["uri"]) as response:
            assert len(await response.read()) == 1000
    assert await command(variables, "sweep") == (0, [{"summary": True, **dict.fromkeys(KINDS, 0)}], "")


async def test_command_moves_files_without_a_reader_and_names_what_it_lacks(on_terminal, variables, session, tmp_path):
    """Without a reader of its output the command ends quietly, and a later run removes the former copy.

    An error is one line, with status 2. On a terminal a sentence and a progress bar replace the JSON.
    """

    async def former_copy_is_removed():
        status, lines, _ = await command(variables, "offload", "--older-than", "0s")
        assert (status, lines[-1]["moved"]) == (0, 0)
        return stored_files(tmp_path / "var" / "attachments") == []

    case = await open_case(session)
    uploaded = await upload(session, case, b"a", filename="a")
    reader, writer = os.pipe()
    os.close(reader)
    async with running("offload", "--older-than", "0s", output=writer, **variables) as process:
        os.close(writer)
        assert await process.wait_for_exit() == (141, "", "")
    async with session.get(uploaded["uri"]) as response:
        assert await response.read() == b"a"
    await eventually(former_copy_is_removed)  # the first run may come before the end of the grace period
    await upload(session, case)
    status, shown, errors = await on_terminal("offload", "--older-than", "0s")
    assert (status, "to S3: 100%" in errors) == (0, True), errors
    # The service may remove the file first.
    assert re.search(r"Moved 1 files \(5 B\) to S3; removed (1 files \(5 B\)|0 files \(0 B\))", shown), shown
    await upload(session, case)
    down = {"SUPPORT_S3_ENDPOINT": "http://127.0.0.1:1"}
    for arguments, changes, expected in (
        (["offload"], {"SUPPORT_S3_BUCKET": ""}, "SUPPORT_S3_BUCKET"),
        (["offload", "--older-than", "0s"], down, "object storage"),
        (["sweep"], down, "object storage"),
    ):
        status, _, errors = await command(variables | changes, *arguments)
        assert (status, "Traceback" in errors) == (2, False), errors
        assert expected in errors.splitlines()[-1]


KINDS = ("unfinished", "orphan", "leftover", "ledger", "missing", "damaged", "young")


async def test_damaged_and_missing_files_are_named(variables, session, tmp_path):
    """`sweep`, `scrub` and `offload` name them, and end with status 1. The next `offload` counts what waits."""
    case = await open_case(session)
    bad, lost = [await upload(session, case, name.encode(), filename=name) for name in ("bad", "lost")]
    for path in (tmp_path / "var" / "attachments").rglob("*"):
        if path.is_file() and path.read_bytes() == b"bad":
            path.write_bytes(b"BAD")
        elif path.is_file():
            path.unlink()
    status, lines, _ = await command(variables, "sweep", "--dry-run")
    assert (status, lines[0]["kind"], lines[0]["name"], len(lines)) == (1, "missing", f"{lost['id']} (lost)", 2)
    status, lines, _ = await command(variables, "scrub")
    assert (status, lines[-1]["mismatch"]) == (1, 2)
    assert {line["id"] for line in lines[:-1]} == {bad["id"], lost["id"]}
    status, lines, _ = await command(variables, "scrub", "--sample", "0%")
    assert (status, lines[-1]["ok"]) == (0, 0)
    offload = ("offload", "--older-than", "0s")
    status, (*lines, summary), _ = await command(variables, *offload)
    outcomes = {line["id"]: line["outcome"] for line in lines}
    assert (status, outcomes) == (1, {bad["id"]: "mismatch", lost["id"]: "unreadable"})
    assert (summary["moved"], summary["mismatch"], summary["unreadable"], "waiting" in summary) == (0, 1, 1, False)
    status, lines, _ = await command(variables, *offload)
    assert (status, len(lines), lines[-1]["moved"], lines[-1]["waiting"]) == (1, 1, 0, 2)
    status, lines, _ = await command(variables, "offload", "--older-than", "0s", "--dry-run")
    assert (status, lines[-1]["files"], lines[-1]["waiting"]) == (0, 0, 2)


async def test_retention_deletes_only_files_of_closed_cases(on_terminal, variables, session):
    """`--dry-run` names the files and deletes nothing. On a terminal it prints a sentence."""
    closed, still_open = await open_case(session), await open_case(session)
    deleted = await upload(session, closed)
    await upload(session, still_open)
    await expect_json(session.post(f"/support/cases/{closed['id']}/close"))
    status, lines, _ = await command(variables, "retention", "--older-than", "0s", "--dry-run")
    assert (status, lines[0]["id"], lines[0]["outcome"]) == (0, deleted["id"], "would be deleted")
    status, shown, errors = await on_terminal("retention", "--older-than", "0s", "--dry-run")
    assert status == 0, errors
    assert f"Would delete {deleted['id']} ({deleted['filename']}) of case {closed['id']}" in shown
    assert len((await read_case(session, closed))["attachments"]) == 1
    status, lines, _ = await command(variables, "retention", "--older-than", "0s")
    assert (status, lines[-1]["files"]) == (0, 1)
    assert (await read_case(session, closed))["attachments"] == []
    assert len((await read_case(session, still_open))["attachments"]) == 1


async def test_attach_uploads_files_and_names_failures(attach, shared_session, tmp_path):
    """The URI of each uploaded file is printed. A file that cannot be uploaded does not stop the others.

    The reason has no exception name and no error number.
    """
    case = await open_case(shared_session)
    for name, size in (("a.txt", 10), ("đơn hàng.bin", 3_000_000), ("empty", 0)):
        (tmp_path / name).write_bytes(os.urandom(size))
    (tmp_path / "folder").mkdir()
    paths = [str(tmp_path / name) for name in ("a.txt", "empty", "nowhere", "folder", "đơn hàng.bin")]
    status, lines, errors = await attach(case["id"], *paths)
    assert status == 1
    assert [line["filename"] for line in lines] == ["a.txt", "empty", "đơn hàng.bin"]
    assert errors.splitlines() == [
        f"support-service: {paths[2]}: the file can't be opened: No such file or directory",
        f"support-service: {paths[3]}: the file can't be opened: Is a directory",
    ]
    async with shared_session.get(lines[-1]["uri"]) as response:
        assert await response.read() == (tmp_path / "đơn hàng.bin").read_bytes()
    status, _, errors = await attach("nobody", paths[0])
    assert status == 1
    assert "There is no case 'nobody'" in errors


async def test_attach_accepts_any_filename(attach, shared_session, tmp_path):
    """The attachment keeps the characters of the name that can be shown.

    A filename that is too long is reported like a missing file, and an undecodable id like an unknown case.
    """
    case = await open_case(shared_session)
    names = {b"a\xff.txt": "a\ufffd.txt", b"two\nlines": "twolines", b'q"u;o%41.txt': 'q"u;o%41.txt', b"-x": "-x"}
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"hello")
    status, lines, errors = await attach(case["id"], "--", "b" * 300, *map(os.fsdecode, names))
    assert (status, [line["filename"] for line in lines]) == (1, list(names.values()))
    assert ("File name too long" in errors, errors.count("\n")) == (True, 1)
    status, lines, errors = await attach("\udcff", "--", "-x")
    assert (status, lines, errors) == (1, [], "support-service: -x: There is no case '%FF'.\n")


async def test_attach_uploads_an_internal_file(attach, shared_session, tmp_path):
    """Without `--internal` the file is public."""
    case = await open_case(shared_session)
    (tmp_path / "a.txt").write_bytes(b"hello")
    for option, visibility in (([], "public"), (["--internal"], "internal")):
        status, lines, _ = await attach(*option, case["id"], "a.txt")
        assert (status, lines[0]["visibility"]) == (0, visibility)
