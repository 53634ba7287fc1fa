"""A retention that is killed at any step: each case is whole in the database or in a sealed file. The next run ends.

The short form kills one retention at a step of each kind. The long form kills RETENTION_KILLS retentions on each
database, each of a database of its own.
"""

import hashlib
import json
import os
import signal
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.reconcile import compare_ledger
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import attachments, messages, metadata, tickets
from tests.support.crash.kills import kill_at_each, opened, run_victim
from tests.support.crash.victim import before, modules
from tests.support.importing import ImportRunner

pytestmark = pytest.mark.usefixtures("processes")

KILLS = int(os.environ.get("RETENTION_KILLS", "0"))  # on each database; 0 is the short form
CASES, EVERY = 130, 20  # two transactions; each 20th case has a file
STEPS = (
    before("importing/archive.py", "versions[case_id] = stored.version"),  # the file has no seal
    before("importing/archive.py", "new.finish()"),  # the seal is written
    before("privacy/retention.py", "at = utc_now()"),  # the file is sealed, and nothing is deleted
    before("privacy/retention.py", "await audit.erase_cases("),  # in the middle of a transaction
    before("privacy/retention.py", "self._instruments.add("),  # the first batch is committed
)
WATCHED = modules("importing/archive.py", "privacy/retention.py", "platform/unit_of_work.py", "platform/audit/log.py")


def lines():
    """Yield cases that were closed long ago."""
    for number in range(CASES):
        said = [{"authorType": "customer", "message": f"text {number}", "sentAt": "2020-01-01T08:00:00Z"}]
        case = {"externalId": f"c{number}", "subject": f"Case {number}", "channel": "email", "messages": said}
        case |= {"status": "closed", "closedAt": "2020-01-02T08:00:00Z"}
        yield case | {"attachments": [f"{number}.txt"]} if number % EVERY == 0 else case


async def kill_and_complete(parent, new_database, *points, record=None):
    """Retain cases with a kill at each point, then to the end, with a check after each; return the kills."""
    folder = Path(mkdtemp(dir=parent))
    url = new_database(folder)
    for number in range(0, CASES, EVERY):
        (folder / f"{number}.txt").write_text(f"file {number}")
    async with opened(url) as database:
        assert (await ImportRunner(database, folder, folder / "files").run_lines(lines())).imported == CASES
        ends = []
        for point in points:
            ends.append(await retain(folder, url, point))
            await check(folder, database)
        assert await retain(folder, url, record=record) == 0
        await check(folder, database)
        await check_end(folder, database)
    return ends.count(-signal.SIGKILL)


async def retain(folder, url, point=None, record=None):
    """Run a retention to a point, or to its end."""
    variables = {"SUPPORT_DATABASE_URL": url, "SUPPORT_ATTACHMENT_DIR": str(folder / "files")}
    command = ("retention", "--closed-for", "365d", "--export", str(folder / "archive"), "--erase")
    return await run_victim(command, variables, folder, point, record, WATCHED)


async def check(folder, database):
    """Each case is in the database with its message, or in a sealed file that has its text and its file."""
    statement = sa.select(tickets.c.external_id, messages.c.message).join(
        messages, messages.c.ticket_id == tickets.c.id
    )
    stored = {row.external_id: row.message for row in await database.fetch_all(statement)}
    archived = sealed_cases(folder / "archive")
    for number in range(CASES):
        name = f"c{number}"
        assert stored.get(name, archived.get(name, {}).get("text")) == f"text {number}", name
        if name not in stored and number % EVERY == 0:
            assert archived[name]["files"] == [f"file {number}".encode()]
    assert (await verify_chain(database)).flaw is None


async def check_end(folder, database):
    """No case is left, nor a row or a file of one."""
    for table in (tickets, messages, attachments):
        assert await database.fetch_all(sa.select(sa.literal(1)).select_from(table)) == []
    for name in ("search_documents", "ticket_references", "attachment_leftovers", "attachment_deletions"):
        assert await database.fetch_all(sa.select(metadata.tables[name])) == []
    (totals,) = [each for each in await compare_ledger(database) if each.storage == "local"]
    assert (totals.ledger, totals.rows.files) == (totals.rows, 0)
    storage = LocalAttachmentStorage(folder / "files")
    await storage.open()
    assert [file async for file in storage.list()] == []
    await storage.close()
    assert not [*(folder / "archive").glob("*.part")]


def sealed_cases(archive):
    """Return the text and the files of each case in a sealed file, whose hashes are right."""
    found = {}
    for path in archive.glob("*.jsonl"):
        sums = [line.split("  ") for line in path.with_suffix(".sha256").read_text().splitlines() if line[0] != "#"]
        for digest, name in sums:
            assert hashlib.sha256((archive / name).read_bytes()).hexdigest() == digest
        for case in map(json.loads, path.read_text().splitlines()):
            files = [(archive / file["path"]).read_bytes() for file in case["attachments"]]
            found[case["externalId"]] = {"text": case["messages"][0]["message"], "files": files}
    return found


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
async def test_another_run_completes_a_retention_that_was_killed(tmp_path, new_database):
    """Killed before a line that stores, seals or deletes, also in the middle of a transaction."""
    run = partial(kill_and_complete, tmp_path, new_database)
    if KILLS:
        await kill_at_each(run, KILLS, tmp_path)
    else:
        assert await run(*STEPS) == len(STEPS)
