"""Bulk changes that two replicas run at once on PostgreSQL: each case is changed once, whichever replica is first."""

import asyncio
import os
import random
from dataclasses import replace
from datetime import timedelta

import pydantic_core
import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import CaseChange, NewCase
from support_service.cases.service import CaseService
from support_service.core.clock import format_time, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.ids import new_id
from support_service.desk.bulk import BulkService
from support_service.desk.bulk_models import NewBulkChange
from support_service.platform.database import ContendedRow, DatabaseTimings
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import audit_log, bulk_changes, bulk_items, outbox, tickets
from support_service.platform.idempotency_keys import IdempotencyClaim
from support_service.platform.unit_of_work import WriteOrigin
from tests.support.cases import code_of, recorder
from tests.support.timings import PATIENT_POSTGRES

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

ROUNDS = int(os.environ.get("BULK_ROUNDS", "2"))
SUPERVISOR = Principal("lan", "supervisor")
PRIORITIES = ("low", "normal", "high", "urgent")


class Replica:
    """The services of a replica, whose write slots and connections are its own."""

    def __init__(self, database, instruments):
        self.database = database
        self.cases = CaseService(database, recorder(database, instruments))
        self.bulk = BulkService(database, recorder(database, instruments))

    async def change(self, change, *, key=None, charge=lambda _: None, **selected):
        new = NewBulkChange.model_validate({"change": change, **selected})
        claim = IdempotencyClaim(key, new_id()) if key else None
        return await self.bulk.change(WriteOrigin(SUPERVISOR, claim=claim), new, _no_turn(), charge)

    async def undo(self, bulk_id):
        return await self.bulk.undo(WriteOrigin(SUPERVISOR), bulk_id, lambda _: None)

    async def change_one(self, case_id, **change):
        await self.cases.change_case(WriteOrigin(SUPERVISOR), case_id, CaseChange.model_validate(change))

    async def open_cases(self, number):
        new = NewCase(subject="A", channel="email")
        return [(await self.cases.open_case(WriteOrigin(SUPERVISOR), new)).id for _ in range(number)]


class _no_turn:  # noqa: N801 - a turn that is always free
    async def __aenter__(self):
        pass

    async def __aexit__(self, *_):
        pass


@pytest.fixture
def replicas(two_databases, instruments):
    return [Replica(each, instruments) for each in two_databases]


async def histories(database):
    """Return the version of each case, and its entries of the audit log in their order: (changes, bulk id)."""
    entries = sa.select(audit_log.c.case_id, audit_log.c.changes).order_by(audit_log.c.at, audit_log.c.seq)
    found = {row.id: (row, []) for row in await database.fetch_all(sa.select(tickets))}
    for row in await database.fetch_all(entries):
        changes = pydantic_core.from_json(row.changes)
        bulk = changes.pop("bulkId", (None, None))[1]
        found[row.case_id][1].append((changes, bulk))
    return found


async def check_each_change_once(database, results):
    """Check that the outcomes, the audit log, the events and the rows of the cases tell the same."""
    changed = {(each.id, item.id) for each in results for item in each.items if item.outcome in ("changed", "undone")}
    recorded = []
    for case_id, (row, entries) in (await histories(database)).items():
        assert row.version == len(entries), entries
        recorded += [(bulk, case_id) for _, bulk in entries if bulk]
        values = {}
        for changes, _ in entries:  # each begins where the one before has ended
            for name, (before, after) in changes.items():
                assert values.get(name, before) == before
                values[name] = after
        assert (row.priority, row.team, row.tags) == (values["priority"], values.get("team"), values.get("tags", []))
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == changed
    events = await database.fetch_all(sa.select(outbox.c.case_id))
    assert len(events) == sum(row.version for row, _ in (await histories(database)).values())


async def test_one_bulk_change_of_two_replicas_changes_each_case_once(replicas, database):
    """As when the first request hangs, its claim expires, and the repeat goes on at another replica."""
    ids = await replicas[0].open_cases(40)
    results = []
    for change in ({"priority": "high"}, {"addTags": ["storm"]}):
        one, other = await asyncio.gather(*(each.change(change, key="k" + str(change), ids=ids) for each in replicas))
        assert one == other
        assert one.counts.changed == len(ids)
        undone = await asyncio.gather(*(each.undo(one.id) for each in replicas))
        assert undone[0] == undone[1]
        assert undone[0].counts.undone == len(ids)
        results += [one, undone[0]]
    await check_each_change_once(database, results)


async def test_case_that_was_changed_back_meanwhile_is_not_changed_again(replicas, database):
    """A replica that hung goes on after the repeat has ended and a person has given the case another value."""
    (case,) = ids = await replicas[0].open_cases(1)
    (hung, other), started = replicas, asyncio.Event()
    row = ContendedRow(case)
    await hung.database.write_slots.occupy_rows([row])
    try:
        first = asyncio.create_task(hung.change({"priority": "high"}, key="k", ids=ids, charge=lambda _: started.set()))
        await started.wait()
        repeated = await other.change({"priority": "high"}, key="k", ids=ids)
        await other.change_one(case, priority="low")
    finally:
        hung.database.write_slots.leave_rows([row])
    assert await first == repeated
    assert (await database.fetch_now(sa.select(tickets))).priority == "low"
    await check_each_change_once(database, [repeated])


async def test_repeat_goes_on_after_an_error_of_the_database(database_url, database, instruments):
    """A case that another session has locked ends the bulk change with an error. The other cases stay changed."""
    timings = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05))
    impatient = create_database(database_url, timings=timings)
    await impatient.open()
    replica = Replica(impatient, instruments)
    ids = await replica.open_cases(20)
    async with database.transaction() as tx:
        await tx.fetch_now(sa.select(tickets.c.id).where(tickets.c.id == ids[12]).with_for_update())
        assert await code_of(replica.change({"priority": "high"}, key="k", ids=ids)) == "database_busy"
    changed = {row.case_id for row in await database.fetch_all(sa.select(bulk_items))}
    assert changed
    assert ids[12] not in changed
    result = await replica.change({"priority": "high"}, key="k", ids=ids)
    assert result.counts.changed == len(ids)
    await check_each_change_once(database, [result])
    await impatient.close()


async def test_undo_gives_the_cases_of_a_query_their_snoozes_back(replicas, database):
    """Until the outcomes are deleted. A bulk change with a key is kept longer, without its cases."""
    replica, (one, _) = replicas[0], await replicas[0].open_cases(2)
    first, second = (utc_now().replace(microsecond=5) + timedelta(days=days) for days in (1, 3))
    snooze = {"status": "pending", "until": format_time(first)}
    assert (await replica.change(snooze, ids=[one])).counts.changed == 1
    query = {"channel": "email", "status": "open,pending"}
    done = await replica.change(snooze | {"until": format_time(second)}, query=query, key="k")
    assert done.counts.changed == 2
    untils = sa.select(tickets.c.snoozed_until).order_by(tickets.c.seq)
    assert [row.snoozed_until for row in await database.fetch_all(untils)] == [second] * 2
    await replica.undo(done.id)
    assert [row.snoozed_until for row in await database.fetch_all(untils)] == [first, None]
    async with database.transaction() as tx:
        await tx.execute(bulk_changes.update().values(expires_at=utc_now() - timedelta(hours=1)))
    await replica.bulk.delete_expired()
    assert await database.fetch_all(sa.select(bulk_items)) == []
    (kept,) = await database.fetch_all(sa.select(bulk_changes))
    assert (kept.id, kept.case_ids) == (done.id, [])


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_changes_of_the_same_cases_are_all_recorded(replicas, database, seed):
    """Bulk changes, undos and single changes at once: the audit log has each one once, and explains every value."""
    chosen = random.Random(seed)
    ids = await replicas[0].open_cases(30)
    results = []

    async def bulk(replica):
        priority, team, tag = chosen.choice(PRIORITIES), chosen.choice("ab"), chosen.choice("xyz")
        change = chosen.choice([{"priority": priority}, {"team": team}, {"addTags": [tag]}])
        done = await replica.change(change, ids=chosen.sample(ids, 20))
        results.append(done)
        if chosen.random() < 0.5:
            results.append(await chosen.choice(replicas).undo(done.id))

    async def single(replica):
        for case_id in chosen.sample(ids, 10):
            await replica.change_one(case_id, priority=chosen.choice(PRIORITIES))

    work = [step(replica) for replica in replicas for step in (bulk, bulk, single)]
    await asyncio.gather(*work)
    await check_each_change_once(database, results)
