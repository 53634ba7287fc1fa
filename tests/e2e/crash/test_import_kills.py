"""An import that is killed at any step: another run completes it, and nothing is lost or there twice.

The short form kills three imports of the same cases one after another, each at another kind of step. The long form
kills IMPORT_KILLS imports on each database, each of them into a database of its own.
"""

import json
import os
import signal
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.maintenance.reconcile import Reconciler, compare_ledger
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.platform.audit.log import seal_all
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import attachments, audit_log, messages, outbox, search_documents, tickets
from tests.conftest import both_databases
from tests.support.attachments.harness import ALL_CLAIMS_EXPIRED
from tests.support.crash.kills import kill_at_each, opened, print_figures, run_victim
from tests.support.crash.victim import before, modules
from tests.support.importing import write_lines

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

KILLS = int(os.environ.get("IMPORT_KILLS", "0"))  # on each database; 0 is the short form
CASES, MESSAGES, EVERY = 450 if KILLS else 220, 3, 15  # three batches, or two; each 15th case has a file
STEPS = (
    before("importing/importer.py", "await self._files.add_rows("),  # rows of the first batch are not committed
    before("importing/importer.py", "self.totals.imported += len(added)"),  # the first batch is committed
    before("importing/importer.py", "added = await import_rows.add_histories("),  # files of the second are stored
)
WATCHED = modules(
    *(
        "importing/*.py",
        "platform/database/*/engine.py",
        "platform/database/*/transaction.py",
        "attachments/content.py",
    ),
    *("attachments/storage/durable_write.py", "attachments/storage/local.py", "cases/sql/attachment_rows.py"),
    *("platform/audit/log.py", "platform/audit/entry_rows.py", "cases/sql/import_rows.py", "platform/unit_of_work.py"),
)


def lines():
    """Yield the cases: some with a file, and one that is refused in each run."""
    for number in range(CASES):
        said = [
            {"authorType": "customer", "message": f"{number}.{place}", "externalId": f"m{place}"}
            for place in range(MESSAGES)
        ]
        case = {"externalId": f"c{number}", "subject": f"Case {number}", "channel": "email", "messages": said}
        case["context"] = [{"type": "order", "orderId": f"O{number}"}]
        yield case | {"attachments": [f"{number}.txt"]} if number % EVERY == 0 else case
    yield b"no json"


class KilledImports:
    """Runs imports that are killed, each into a database and a folder of its own."""

    def __init__(self, folder, new_database, instruments):
        self._folder, self._new_database, self._instruments = folder, new_database, instruments
        self._number = 0
        self.orphans = 0
        self.known = []  # the number of cases that the last run found

    async def run(self, *points, record=None):
        """Import with a kill at each point, complete the import, and check it; return the number of kills."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        url = self._new_database(folder)
        write_lines(folder / "cases.jsonl", lines())
        for number in range(0, CASES, EVERY):
            (folder / f"{number}.txt").write_text(f"file {number}")
        ends = [await self._import(folder, url, point) for point in points]
        assert await self._import(folder, url, record=record) == 1
        log = (folder / "victim.log").read_text()
        totals = json.loads([line for line in log.splitlines() if line.startswith("{")][-1])
        assert (totals["read"], totals["imported"] + totals["known"], totals["refused"]) == (CASES + 1, CASES, 1), log
        self.known.append(totals["known"])
        assert len((folder / "cases.jsonl.refused.jsonl").read_text().splitlines()) == 1
        await self._check(folder, url)
        return ends.count(-signal.SIGKILL)

    async def _import(self, folder, url, point=None, record=None):
        variables = {"SUPPORT_DATABASE_URL": url, "SUPPORT_ATTACHMENT_DIR": str(folder / "files")}
        command = ("import", str(folder / "cases.jsonl"))
        return await run_victim(command, variables, folder, point, record, WATCHED, status=1)

    async def _check(self, folder, url):
        storage = LocalAttachmentStorage(folder / "files")
        await storage.open()
        async with opened(url) as database:
            await self._check_rows(database)
            await self._check_files(database, storage)
        await storage.close()

    async def _check_rows(self, database):
        """Every case once, with all its messages in order, one audit entry, and its words in the search index."""
        found = await database.fetch_all(sa.select(tickets.c.external_id, tickets.c.id))
        assert sorted(row.external_id for row in found) == sorted(f"c{number}" for number in range(CASES))
        said = await database.fetch_all(sa.select(messages.c.ticket_id, messages.c.message).order_by(messages.c.seq))
        by_case = {row.id: [each.message for each in said if each.ticket_id == row.id] for row in found}
        for row in found:
            assert by_case[row.id] == [f"{row.external_id[1:]}.{place}" for place in range(MESSAGES)]
        entries = await database.fetch_all(sa.select(audit_log.c.case_id, audit_log.c.action))
        assert {row.action for row in entries} == {"case.imported"}
        assert sorted(row.case_id for row in entries) == sorted(by_case)
        assert len(await database.fetch_all(sa.select(search_documents.c.id))) == CASES * (1 + MESSAGES)
        assert await database.fetch_all(sa.select(outbox.c.seq)) == []
        async with database.transaction() as tx:
            await seal_all(tx)
        chain = await verify_chain(database)
        assert (chain.flaw, chain.head.position) == (None, CASES)

    async def _check_files(self, database, storage):
        """Every row has its file; the sweep deletes the others, and finds the ledger right."""
        rows = await database.fetch_all(sa.select(attachments.c.filename, attachments.c.storage_key))
        assert sorted(row.filename for row in rows) == sorted(f"{number}.txt" for number in range(0, CASES, EVERY))
        named = {row.storage_key for row in rows}
        stored = {file.key async for file in storage.list()}
        assert named <= stored
        self.orphans += len(stored - named)
        (totals,) = [each for each in await compare_ledger(database) if each.storage == "local"]
        assert totals.ledger == totals.rows
        storages = {"local": storage}
        garbage = GarbageCollector(database, storages, later)
        await Reconciler(database, storages, garbage, self._instruments, later).run()
        assert {file.key async for file in storage.list()} == named


def later():
    """Return a time at which files without a row are old enough to be deleted."""
    return datetime.now(UTC) + ALL_CLAIMS_EXPIRED


@both_databases
async def test_another_run_completes_an_import_that_was_killed(tmp_path, new_database, instruments):
    """Killed before a line that reads, checks or stores, also in the middle of a transaction and of its commit."""
    imports = KilledImports(tmp_path, new_database, instruments)
    if not KILLS:
        assert await imports.run(*STEPS) == len(STEPS)
        assert imports.known == [200]
        assert imports.orphans > 0
        return
    await kill_at_each(imports.run, KILLS, tmp_path)
    print_figures(f"second runs found {imports.known[1:]} of {CASES} cases, and {imports.orphans} files without a row")
