"""`import` as a process: its last line, its exit status, the file of refused cases, and the standard input."""

import json
import os
import resource
import sqlite3
import stat
from pathlib import Path

import pytest

from tests.support.importing import write_lines
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")
ADDRESS_SPACE = 2 * 1024**3  # bytes, of which the code of the service takes half
SAMPLES = Path(__file__).parents[2] / "data" / "importing"


@pytest.fixture
def variables(migrated_folder):
    """The variables of a service with a migrated database in a folder of its own."""
    return {"cwd": migrated_folder, "SUPPORT_LOG_LEVEL": "warning"}


def new(number, **fields):
    return {"externalId": str(number), "subject": f"Case {number}", "channel": "email", **fields}


async def run(*arguments, sent=b"", **variables):
    """Run a command that reads some bytes from a pipe; return its status, its last line as JSON, and its errors."""
    reader, writer = os.pipe()
    os.write(writer, sent)
    os.close(writer)
    async with running("import", *map(str, arguments), stdin=reader, **variables) as process:
        os.close(reader)
        status, out, errors = await process.wait_for_exit(60)
    return status, json.loads(out.splitlines()[-1]) if out else None, errors


async def test_status_and_last_line(variables, tmp_path):
    """0 if all cases are there, 1 if some were refused, with the reasons in a file that only its owner reads."""
    good = write_lines(tmp_path / "good.jsonl", [new(1), new(2)])
    assert await run(good, "--dry-run", **variables) == (
        0, {"dryRun": True, "read": 2, "imported": 2, "known": 0, "refused": 0}, ""
    )  # fmt: skip
    assert await run(good, **variables) == (0, {"read": 2, "imported": 2, "known": 0, "refused": 0}, "")
    refused = tmp_path / "good.jsonl.refused.jsonl"
    assert not refused.exists()
    bad = write_lines(tmp_path / "bad.jsonl", [new(1), new(3), new(4, status="done"), b"no json"])
    summary = {"read": 4, "imported": 1, "known": 1, "refused": 2, "refusedFile": f"{bad}.refused.jsonl"}
    assert await run(bad, **variables) == (1, summary, "")
    refused = tmp_path / "bad.jsonl.refused.jsonl"
    assert stat.S_IMODE(refused.stat().st_mode) == 0o600
    first, second = map(json.loads, refused.read_text().splitlines())
    assert (first["line"], first["code"], first["case"]) == (3, "invalid_request", new(4, status="done"))
    assert [each["field"] for each in first["errors"]] == ["status"]
    assert (second["line"], second["code"], "case" in second) == (4, "malformed_json", False)
    status, summary, _ = await run(bad, "--refused", tmp_path / "other.jsonl", **variables)
    assert (status, summary["refusedFile"]) == (1, str(tmp_path / "other.jsonl"))


async def test_standard_input(variables, tmp_path):
    """Files are read below the working directory."""
    (tmp_path / "a.txt").write_text("a")
    lines = write_lines(tmp_path / "x", [new(1, attachments=["a.txt"]), new(2, attachments=["b.txt"])]).read_bytes()
    status, summary, _ = await run("-", sent=lines, **variables)
    assert (status, summary["imported"], summary["refused"]) == (1, 1, 1)
    assert (tmp_path / "import.refused.jsonl").exists()
    status, summary, _ = await run("-", "--skip-missing-files", sent=lines, **variables)
    assert (status, summary) == (0, {"read": 2, "imported": 1, "known": 1, "refused": 0, "missingFiles": 1})


@pytest.mark.parametrize(("system", "messages", "form"), [("zammad", 4, "list"), ("chatwoot", 5, "lines")])
async def test_exports_of_other_systems(variables, tmp_path, system, messages, form):
    """One list of cases, or one case per line; files lie in the folder of the export."""
    (tmp_path / "label.txt").write_text("To Ann")
    cases = json.loads((SAMPLES / f"{system}.json").read_text())
    export = tmp_path / "export.json"
    if form == "list":
        export.write_text(json.dumps(cases))
    else:
        write_lines(export, cases)
    assert await run(export, "--from", system, **variables) == (
        0, {"read": 2, "imported": 2, "known": 0, "refused": 0}, ""
    )  # fmt: skip
    with sqlite3.connect(tmp_path / "var" / "support.db") as database:
        assert database.execute("SELECT count(*) FROM messages").fetchone() == (messages,)
        assert database.execute("SELECT filename, size_bytes FROM attachments").fetchall() == [("label.txt", 6)]


async def test_list_that_ends_early(variables, tmp_path):
    """What precedes the end is imported; the error is one line, and the totals are printed before it."""
    export = tmp_path / "export.json"
    export.write_text(json.dumps(json.loads((SAMPLES / "zammad.json").read_text())[1:])[:-1] + ', {"id":')
    status, summary, errors = await run(export, "--from", "zammad", **variables)
    assert (status, summary["imported"]) == (2, 1)
    assert (errors.count("\n"), "after 1 cases" in errors) == (1, True)


@pytest.mark.parametrize(("system", "depth"), [("zammad", 40_000), ("chatwoot", 500_000)])
async def test_deep_nesting_is_refused_in_little_memory(variables, tmp_path, system, depth):
    """The case is refused like one of JSON Lines, and the others are imported."""
    (tmp_path / "label.txt").write_text("To Ann")
    case = (SAMPLES / f"{system}.json").read_text().strip().removeprefix("[")
    export = tmp_path / "export.json"
    export.write_text(f"[{'[' * depth}{']' * depth},{case}")
    async with running("import", str(export), "--from", system, **variables) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        status, out, errors = await process.wait_for_exit(60)
    summary = json.loads(out.splitlines()[-1])
    assert (status, summary["imported"], summary["refused"], errors) == (1, 2, 1, "")
    refused = json.loads((tmp_path / "export.json.refused.jsonl").read_text().splitlines()[0])
    assert refused == {
        "line": 1, "code": "malformed_json", "reason": "The case is nested deeper than 32 levels, the limit."
    }  # fmt: skip


async def test_arguments_that_do_not_fit(variables, tmp_path):
    """Status 2, and no password in the error. Refused cases do not replace the file, which may be the only copy."""
    cases = write_lines(tmp_path / "cases.jsonl", [new(1)])
    before = cases.read_bytes()
    for text, *arguments in (
        ("none.jsonl", "none.jsonl"),
        ("--files is for --from dataflow", "a", "--files", "b"),
        ("is not the URL of a database", "mysql://user:secret@host/x", "--from", "dataflow"),
        ("can't be read", "sqlite:///none.db", "--from", "dataflow"),
        ("Is a directory", "."),
        ("--refused names FILE itself", cases, "--refused", cases),
    ):
        status, _, errors = await run(*arguments, **variables)
        assert (status, text in errors, "secret" in errors) == (2, True, False), errors
    assert cases.read_bytes() == before


async def test_progress_bar_on_a_terminal(on_terminal, tmp_path):
    """It counts the bytes of the file; the last line is the same JSON."""
    cases = write_lines(tmp_path / "cases.jsonl", [new(number) for number in range(500)])
    _, shown, errors = await on_terminal("import", cases)
    assert "import: 100%" in errors
    assert json.loads(shown.splitlines()[-1])["imported"] == 500
