"""Uploads: the names of files, and refused ones: each problem has a stable code, and no file, row or count remains."""

import asyncio
import gzip
from urllib.parse import unquote

import aiohttp
import pytest
import pytest_asyncio

from support_service.cases.sql import attachment_rows
from tests.support.attachments.raw_uploads import (
    BODIES,
    END,
    FORM,
    MAX,
    OTHER,
    PART,
    chunks,
    send_body,
    send_open,
    write_chunk,
)
from tests.support.calls import eventually, expect_json, expect_problem, open_case, read_case, stored_files
from tests.support.each import each_row
from tests.support.service import service_of


@pytest.fixture(scope="module")
def attachment_dir(tmp_path_factory):
    """The directory in which the service of this module stores attachments."""
    return tmp_path_factory.mktemp("attachments")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_shared_client, attachment_dir):
    """A client of one service for all tests of this module, with a small limit on file size."""
    return await make_shared_client(SUPPORT_ATTACHMENT_MAX_BYTES=str(MAX), SUPPORT_ATTACHMENT_DIR=str(attachment_dir))


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    return await open_case(client)


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_is_stored(client, case, attachment_dir, metric_changes):
    """Check after the test that no file, row or total was stored and nothing was counted."""
    before = (
        stored_files(attachment_dir),
        await attachment_rows.read_ledger_totals(service_of(client).database, "local"),
    )
    yield
    assert (
        stored_files(attachment_dir),
        await attachment_rows.read_ledger_totals(service_of(client).database, "local"),
    ) == before
    assert (await read_case(client, case))["attachments"] == []
    assert metric_changes.value("support_attachment_backlog_bytes") == 0
    assert metric_changes.total("support_attachment_stored_total") == 0


@each_row("name", BODIES)
async def test_invalid_upload_is_refused(client, case, nothing_is_stored, name):
    """Each kind of invalid body has its own stable code, and nothing is stored.

    A problem names the rule, without the parser's exception and the bytes that it quotes.
    """
    body, content_type, status, code = BODIES[name]
    problem = await expect_problem(await send_body(client, case, body, content_type), status, code)
    if name == "a filename that is not UTF-8":
        assert problem["detail"] == "The multipart body is invalid: Segment header failed to decode."


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("content_type", [FORM, "application/json"])
async def test_compressed_body_is_refused(client, case, nothing_is_stored, encoding, content_type):
    """The service never decompresses a body, valid or not: 1 MB could expand to 1 GB."""
    path = f"/support/cases/{case['id']}/" + ("attachments" if content_type == FORM else "messages")
    for body in (b"this is not compressed", gzip.compress(PART + b"hello" + END)):
        headers = {"Content-Type": content_type, "Content-Encoding": encoding}
        await expect_problem(client.post(path, data=body, headers=headers), 415, "unsupported_type")


async def test_file_up_to_the_size_limit_is_stored(client, case, attachment_dir):
    """With a Content-Length and in chunks. A larger one is refused as soon as it exceeds the limit."""
    before = len(stored_files(attachment_dir))
    for body in (PART + b"x" * MAX + END, chunks(PART, b"x" * MAX, END)):
        assert (await expect_json(await send_body(client, case, body), 201))["sizeBytes"] == MAX
    for size in (MAX + 1, 200_000):
        response = await send_body(client, case, chunks(PART, *[b"x" * 1000] * (size // 1000), b"x", END))
        problem = await expect_problem(response, 413, "attachment_too_large")
        assert problem["limitBytes"] == MAX
    assert len(stored_files(attachment_dir)) == before + 2


@pytest.mark.parametrize("before", [b"", OTHER])
async def test_endless_preamble_or_field_is_refused(client, case, nothing_is_stored, before):
    """The limit also applies to the parts of a chunked body that are not the file."""
    async with send_open(client, case) as (reader, writer):
        await write_chunk(writer, before[:-3] + b"\r\n")
        writer.transport.set_write_buffer_limits(0)
        writing = asyncio.create_task(_write_endlessly(writer))
        status = await reader.readline()
        writing.cancel()
        assert status.split()[1] in (b"400", b"413")


async def test_only_the_file_of_a_form_is_stored(client, case):
    """A part that is itself a multipart body is an ordinary file. Fields before and after it are no part of it."""
    nested = b"--n\r\nContent-Disposition: form-data; name=file\r\n\r\ninner\r\n--n--\r\n"
    part = OTHER + PART.replace(b"text/plain", b"multipart/mixed; boundary=n")
    async with await send_body(client, case, part + nested + b"\r\n" + OTHER + b"--b--\r\n") as response:
        answer = await response.json()
    assert (answer["contentType"], answer["sizeBytes"]) == ("multipart/mixed", len(nested))
    async with client.get(answer["uri"]) as response:
        assert await response.read() == nested


@each_row("name", BODIES)
async def test_missing_case_is_reported_before_an_invalid_body(client, case, nothing_is_stored, name):
    """A body that has arrived whole is read before the case is. The answer is that of a body that arrives later."""
    body, content_type, *_ = BODIES[name]
    for sent in (body, chunks(body)):
        await expect_problem(await send_body(client, {"id": "nobody"}, sent, content_type), 404, "case_not_found")


@pytest.mark.parametrize("sent", [b"", PART[:20], PART, PART + b"x" * 10])
async def test_nothing_is_stored_when_the_client_disconnects(client, case, nothing_is_stored, sent, metric_changes):
    """The request counts with the status 499, and not as a server error."""
    async with send_open(client, case) as (_, writer):
        await write_chunk(writer, sent)
    upload = "/support/cases/{case_id}/attachments"
    await eventually(lambda: statuses(metric_changes, upload) != [])
    assert statuses(metric_changes, upload) == ["499"]


async def test_partial_file_is_removed_when_the_client_disconnects(make_client, tmp_path):
    """Blocks that were already written are deleted."""
    attachment_dir = tmp_path / "files"
    client = await make_client(SUPPORT_ATTACHMENT_MAX_BYTES="10000000", SUPPORT_ATTACHMENT_DIR=str(attachment_dir))
    async with send_open(client, await open_case(client)) as (_, writer):
        await write_chunk(writer, PART)
        for _ in range(20):
            await write_chunk(writer, b"x" * 65_536)
        await eventually(lambda: len(stored_files(attachment_dir)) == 1)
    await eventually(lambda: stored_files(attachment_dir) == [])


def statuses(metrics, route):
    """Return the response statuses that were counted for a route."""
    counted = metrics.nonzero_labels("http_server_request_duration_seconds_count")
    return [labels["http_response_status_code"] for labels in counted if labels["http_route"] == route]


async def _write_endlessly(writer) -> None:
    while True:
        await write_chunk(writer, b"x" * 1000)


async def test_percent_encoded_filename_is_decoded(client, case):
    """Some clients, such as aiohttp, percent-encode characters beyond ASCII."""
    document = aiohttp.FormData()  # quotes the filename
    document.add_field("file", b"hello", filename="đơn hàng 100%.txt", content_type="text/plain")
    async with client.post(f"/support/cases/{case['id']}/attachments", data=document) as response:
        assert (await response.json())["filename"] == "đơn hàng 100%.txt"


FILENAME_IS_SHOWN_WITHOUT_PATH = [
    ("../../etc/passwd", "passwd"),
    ("..\\..\\boot.ini", "boot.ini"),
    ("C:\\Users\\lan\\hoá đơn.pdf", "hoá đơn.pdf"),
    ("/etc/shadow", "shadow"),
    ("a\0b.txt", "ab.txt"),
    ("a\x1b[31mb\u202e\u200b.txt", "a[31mb.txt"),
    ("Đơn hàng số 1.txt", "Đơn hàng số 1.txt"),
    ("x" * 400, "x" * 255),
    ("đ" * 400, "đ" * 127),
    ("", "file"),
    (".", "file"),
    ("..", "file"),
    ("   ", "file"),
    ('quo"te%.txt', 'quo"te%.txt'),
    ("..hidden", "..hidden"),
    ("{3f2504e0}.pdf", "{3f2504e0}.pdf"),
]


@each_row("sent, shown", FILENAME_IS_SHOWN_WITHOUT_PATH)
async def test_filename_is_shown_without_path_and_control_characters(client, case, attachment_dir, sent, shown):
    """The file is stored under a generated key, whatever its name."""
    body = _form_with_filename(sent)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    before = stored_files(attachment_dir)
    answer = await expect_json(client.post(f"/support/cases/{case['id']}/attachments", data=body, headers=headers), 201)
    assert answer["filename"] == shown
    (path,) = {*stored_files(attachment_dir)} - {*before}
    assert len(path.relative_to(attachment_dir).parts) == 2
    assert path.name.isalnum()
    async with client.get(answer["uri"]) as response:
        assert await response.read() == b"hello"
        disposition = response.headers["Content-Disposition"]
        assert unquote(disposition.rpartition("filename*=UTF-8''")[2]) == shown


def _form_with_filename(filename: str) -> bytes:
    name = filename.replace("\\", "\\\\").replace('"', '\\"') if "\\" in filename or '"' in filename else filename
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + b"hello\r\n--b--\r\n"
