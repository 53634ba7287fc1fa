"""`retention` of whole cases as a process: what it lists, stores and deletes, and its exit status."""

import sqlite3

import pytest

from tests.support.importing import write_lines

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
async def cases(run_json, tmp_path):
    """Import cases that were closed in different years; return the file."""
    (tmp_path / "label.txt").write_text("a label")
    closed = [
        {
            "externalId": f"c{year}",
            "subject": f"Case of {year}",
            "channel": "email",
            "status": "closed",
            "tags": ["hold"] if year == 2021 else [],
            "sentAt": f"{year}-01-01T08:00:00Z",
            "closedAt": f"{year}-01-02T08:00:00Z",
            "messages": [{"authorType": "customer", "message": "Hello", "sentAt": f"{year}-01-01T08:00:00Z"}],
            "attachments": [{"path": "label.txt", "sentAt": f"{year}-01-01T09:00:00Z"}],
        }
        for year in (2020, 2021, 2022)
    ]
    path = write_lines(tmp_path / "cases.jsonl", closed)
    assert (await run_json("import", path))[0] == 0
    return path


async def test_cases_are_listed_stored_deleted_and_imported_again(run_json, cases, tmp_path, database_url):
    """Without --erase and --export nothing changes. A tag protects a case."""
    selection = ("retention", "--closed-for", "365d", "--keep-tag", "hold")
    for listing in ([*selection], [*selection, "--erase", "--export", tmp_path / "none", "--dry-run"]):
        status, lines, errors = await run_json(*listing)
        assert (status, [line.get("outcome") for line in lines], errors) == (0, ["would be deleted"] * 2 + [None], "")
        assert (lines[-1]["dryRun"], lines[-1]["due"], lines[-1]["deleted"]) == (True, 2, 0)
    assert not (tmp_path / "none").exists()
    archive = tmp_path / "archive"
    status, lines, _ = await run_json(*selection, "--export", archive, "--limit", "1")
    assert (status, lines[0]["outcome"], lines[-1]["stored"], lines[-1]["deleted"]) == (0, "stored", 1, 0)
    status, lines, _ = await run_json(*selection, "--export", archive, "--erase")
    assert (status, lines[-1]["stored"], lines[-1]["deleted"], lines[-1]["files"]) == (0, 2, 2, 2)
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as database:
        assert database.execute("SELECT external_id FROM tickets").fetchall() == [("c2021",)]
    first, second = sorted(archive.glob("*.jsonl"))
    assert [len(each.read_text().splitlines()) for each in (first, second)] == [1, 2]
    for path, imported, known in ((second, 2, 0), (first, 0, 1)):
        status, lines, _ = await run_json("import", path)
        assert (status, lines[-1]["imported"], lines[-1]["known"]) == (0, imported, known)
    status, lines, _ = await run_json("audit", "verify")
    assert (status, lines[-1]["holds"]) == (0, True)


async def test_options_that_do_not_fit_together_are_refused(run_json):
    """Nothing is deleted by a command that can be read in two ways."""
    for expected, *arguments in (
        ("--erase is for --closed-for only", "--older-than", "1d", "--erase"),
        ("--keep-tag is for --closed-for only", "--older-than", "1d", "--keep-tag", "hold"),
        ("--status is for --older-than only", "--closed-for", "1d", "--status", "resolved"),
    ):
        status, lines, errors = await run_json("retention", *arguments)
        assert (status, lines, expected in errors) == (2, [], True), errors
