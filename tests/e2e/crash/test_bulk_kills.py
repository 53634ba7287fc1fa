"""A service is killed at any step of a bulk change or of its undo: the repeat of the key goes on where it stopped.

The short form kills at a step of each kind. The long form kills BULK_KILLS times on each database.
"""

import inspect
import json
import os

import aiohttp
import pydantic_core
import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import NewCase
from support_service.cases.service import CaseService
from support_service.desk.bulk import BulkService
from support_service.platform.database.tables import audit_log, bulk_items, idempotency_keys, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.calls import expect_json
from tests.support.cases import recorder
from tests.support.crash.kills import opened, print_figures, serving, spread
from tests.support.crash.victim import before, modules

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

KILLS = int(os.environ.get("BULK_KILLS", "0"))  # on each database; 0 is the short form
CASES = 12
WATCHED = modules(
    *("desk/bulk.py", "cases/recorder.py", "api/routing/idempotency.py"),
    *(f"platform/{name}.py" for name in ("audit/log", "idempotency_keys", "unit_of_work")),
)


def nth(point, number):
    """Return the point before the n-th execution of a line."""
    return point[0], number


STEPS = (
    before("desk/bulk.py", "if await self._database.execute(ADD_BULK"),  # nothing is stored
    nth(before("desk/bulk.py", "if not await work.tx.change_one(ADD_ITEM"), CASES - 1),  # the first cases are changed
    before("desk/bulk.py", "await tx.execute_later(FINISH"),  # all cases are changed
    before("platform/idempotency_keys.py", "size = len(response.body)"),  # no answer is stored
    nth(before("desk/bulk.py", "await _add_item(work, bulk, case, UNDONE"), CASES - 1),  # the first cases are undone
)


def executed_by_requests(record):
    """Return the recorded lines of bulk changes without lines that run at the start, and how often each ran."""
    lines, first = inspect.getsourcelines(BulkService.__init__)
    at_start = {f"bulk.py:{first + number}" for number in range(len(lines))}
    executed = json.loads(record.read_text())
    return {line: number for line, number in executed.items() if line.startswith("bulk.py:") and line not in at_start}


class KilledBulkChanges:
    """Sends bulk changes and their undos to services that are killed, and repeats all of them at one that is not."""

    def __init__(self, folder, url, database, instruments):
        self._folder, self._url, self._database = folder, url, database
        self._cases = CaseService(database, recorder(database, instruments))
        self._sent = []  # (key, ids of cases)

    async def send(self, point=None, record=None):
        """Change cases of their own and undo that, at a service that is killed at a point."""
        key, new = f"k{len(self._sent)}", NewCase(subject="A", channel="email")
        ids = [(await self._cases.open_case(SYSTEM_ORIGIN, new)).id for _ in range(CASES)]
        self._sent.append((key, ids))
        async with self._service(point, record) as session:
            try:
                done = await _change(session, key, ids)
                await _undo(session, key, done)
            except aiohttp.ClientConnectionError:
                assert point is not None

    async def repeat(self):
        """Repeat all at a service that is not killed, and check that each case is changed and undone once.

        Meanwhile a person has changed one of the changed cases of each: it stays as the person left it. Return how many
        cases had an outcome before the repeat.
        """
        async with self._database.transaction() as tx:
            # As if the claims of killed processes had expired.
            await tx.execute(idempotency_keys.update().values(until=idempotency_keys.c.created_at))
        had = [row.case_id for row in await self._database.fetch_all(sa.select(bulk_items.c.case_id))]
        async with self._service() as session:
            for key, ids in self._sent:
                touched = next((case_id for case_id in ids if case_id in had), None)
                if touched:
                    await _read(session.patch(f"/support/cases/{touched}", json={"subject": "by hand"}))
                done = await _change(session, key, ids)
                assert done["counts"]["changed"] == CASES
                again = await _change(session, key, ids)
                assert again == done
                undone = await _undo(session, key, done)
                assert await _undo(session, key, done) == undone
                await self._check(done, undone, ids, touched)
        return len(had)

    async def _check(self, done, undone, ids, touched):
        """Each change of each case has one entry and one version."""
        entries = sa.select(audit_log.c.case_id, audit_log.c.changes).where(audit_log.c.case_id.in_(ids))
        bulks = [
            (row.case_id, bulk[1])
            for row in await self._database.fetch_all(entries)
            if (bulk := pydantic_core.from_json(row.changes).get("bulkId"))
        ]
        outcomes = {item["id"]: item["outcome"] for item in undone["items"]}
        assert sorted(outcomes) == sorted(ids)
        assert sorted(bulks) == sorted(
            [(each, done["id"]) for each in ids] + [(each, undone["id"]) for each in ids if outcomes[each] == "undone"]
        )
        for row in await self._database.fetch_all(sa.select(tickets).where(tickets.c.id.in_(ids))):
            is_undone = outcomes[row.id] == "undone"
            assert is_undone or row.id == touched
            assert row.priority == ("normal" if is_undone else "high")
            assert row.version == 2 + is_undone + (row.id == touched)

    def _service(self, point=None, record=None):
        return serving(self._folder, self._url, point, record, WATCHED)


async def _read(request):
    return await expect_json(request)


async def _change(session, key, ids):
    sent = {"ids": ids, "change": {"priority": "high"}}
    return await _read(session.post("/support/cases/bulk", json=sent, headers={"Idempotency-Key": key}))


async def _undo(session, key, done):
    headers = {"Idempotency-Key": f"{key}-undo"}
    return await _read(session.post(f"/support/cases/bulk/{done['id']}/undo", headers=headers))


@both_databases
async def test_bulk_change_goes_on_after_a_kill(tmp_path, new_database, instruments):
    """Nothing is changed twice, and the answer to the repeat has the outcome of every case."""
    url = new_database(tmp_path)
    async with opened(url) as database:
        killed = KilledBulkChanges(tmp_path, url, database, instruments)
        points = STEPS
        if KILLS:
            record = tmp_path / "points.json"
            await killed.send(record=record)
            points = spread(executed_by_requests(record), KILLS)
        for point in points:
            await killed.send(point)
        done = await killed.repeat()
        assert done > 0
        print_figures(f"{len(points)} kills of {CASES} cases each; {done} outcomes were stored before the repeats")
