"""Snoozed cases are opened once when their time has come, by one replica at a time, whatever happens meanwhile."""

import asyncio
import json
import random
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.gauges import CaseGauges
from support_service.cases.model.requests import NewCase, NewMessage, StatusChange
from support_service.cases.snoozes import SnoozeWaker
from support_service.core.clock import format_time, utc_now
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import Conflict, VersionConflict
from support_service.platform.database.tables import audit_log, leases, outbox, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import recorder
from tests.support.leases import all_hold_the_lease

pytestmark = both_databases
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEW = NewCase.model_validate({"subject": "A parcel", "channel": "email"})
FROM_CUSTOMER = NewMessage.model_validate({"authorType": "customer", "message": "Where is it?"})
CASES = 120  # three batches
OTHER_CASES = 30


@pytest.fixture
def make_waker(database, instruments, constants):
    constants("cases.snoozes", LEASE_DURATION=3600.0)
    return lambda: SnoozeWaker(database, recorder(database, instruments), instruments)


async def snooze(service):
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    sent = {"status": "pending", "until": format_time(utc_now() + DAY)}
    await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange.model_validate(sent))
    return case.id


async def let_time_pass(database, *case_ids):
    """Let the snoozes of cases, or of all cases, have ended an hour ago."""
    some = tickets.c.id.in_(case_ids) if case_ids else tickets.c.snoozed_until.is_not(None)
    async with database.transaction() as tx:
        await tx.execute(tickets.update().where(some).values(snoozed_until=utc_now() - HOUR))


async def statuses(database):
    """Return the status of each case, and until when it is snoozed."""
    columns = (tickets.c.id, tickets.c.status, tickets.c.snoozed_until)
    return {row.id: (row.status, row.snoozed_until) for row in await database.fetch_all(sa.select(*columns))}


async def wakes(database):
    """Return the number of audit entries and of events about the end of a snooze of each case, by its actor."""
    entries, events = Counter(), Counter()
    for row in await database.fetch_all(sa.select(audit_log).where(audit_log.c.action == "case.changed")):
        if json.loads(row.changes).get("status") == ["pending", "open"]:
            entries[row.case_id, row.actor] += 1
    for row in await database.fetch_all(sa.select(outbox)):
        data = json.loads(row.event)["data"]
        if (data.get("previousStatus"), data.get("currentStatus")) == ("pending", "open"):
            assert data["ticket"]["snoozedUntil"] is None
            events[row.case_id, data["actor"]] += 1
    return entries, events


async def test_case_is_opened_when_its_time_has_come(database, service, make_waker, metrics):
    """Not before. The entry and the event name the system; another snoozed case goes on waiting."""
    due, waiting = await snooze(service), await snooze(service)
    await make_waker().run()
    assert {status for status, _ in (await statuses(database)).values()} == {"pending"}
    await let_time_pass(database, due)
    await make_waker().run()
    found = await statuses(database)
    assert (found[due], found[waiting][0]) == (("open", None), "pending")
    assert await wakes(database) == (Counter({(due, SYSTEM.name): 1}),) * 2
    assert metrics.value("support_snooze_woken_total") == 1


async def test_many_cases_of_the_same_time_are_opened_once_by_several_replicas(database, service, make_waker, metrics):
    """All in one run, although every replica believes to hold the lease."""
    case_ids = [await snooze(service) for _ in range(CASES)]
    await let_time_pass(database)
    with all_hold_the_lease():
        await asyncio.gather(*(make_waker().run() for _ in range(3)))
    await make_waker().run()  # what another replica had locked
    assert {*(await statuses(database)).values()} == {("open", None)}
    expected = Counter((case_id, SYSTEM.name) for case_id in case_ids)
    assert await wakes(database) == (expected, expected)
    assert metrics.value("support_snooze_woken_total") == CASES


async def test_one_replica_holds_the_lease(database, service, make_waker):
    """Another one goes on at once when it is released, and not before it has expired. Idle ones take none."""
    first, second = make_waker(), make_waker()
    await first.run()
    holder = leases.select().where(leases.c.name == "snoozes")
    assert (await database.fetch_now(holder)).holder == ""
    await snooze(service)
    await let_time_pass(database)
    await first.run()
    await snooze(service)
    await let_time_pass(database)
    await second.run()
    assert Counter(status for status, _ in (await statuses(database)).values()) == {"open": 1, "pending": 1}
    await first.close()
    await second.run()
    assert Counter(status for status, _ in (await statuses(database)).values()) == {"open": 2}


@pytest.mark.parametrize("left", ["resolved", "closed", "pending"])
async def test_case_that_left_pending_is_not_opened(database, service, make_waker, left):
    """Not even if the previous release changed its status, which does not know the time; nor if it is pending again."""
    case_id = await snooze(service)
    await let_time_pass(database)
    for status in ("closed", "open", left):
        async with database.transaction() as tx:
            await tx.execute(tickets.update().where(tickets.c.id == case_id).values(status=status))
    await make_waker().run()
    assert (await statuses(database))[case_id] == (left, None)
    assert await wakes(database) == (Counter(), Counter())


async def test_gauge_is_the_age_of_the_longest_overdue_snooze(database, service, make_waker, instruments, metrics):
    """Zero before its end and after its wake, also if a later one is snoozed."""
    gauges = CaseGauges(database, instruments)
    due = await snooze(service)
    await snooze(service)
    await gauges.refresh()
    assert metrics.value("support_snooze_overdue_age_seconds") == 0
    await let_time_pass(database, due)
    await gauges.refresh()
    assert metrics.value("support_snooze_overdue_age_seconds") >= HOUR.total_seconds()
    await make_waker().run()
    await gauges.refresh()
    assert metrics.value("support_snooze_overdue_age_seconds") == 0


async def test_each_snooze_ends_once_while_customers_and_agents_change_the_cases(database, service, make_waker):
    """Two replicas race with them. The changes that are accepted and the wakes follow each other without a gap."""
    case_ids = [await snooze(service) for _ in range(OTHER_CASES)]
    await let_time_pass(database)
    draw = random.Random(7)

    async def interfere(case_id):
        step = draw.choice(("customer", "resolve", "snooze", "nothing"))
        if step == "customer":
            await service.add_message(SYSTEM_ORIGIN, case_id, FROM_CUSTOMER)
        elif step != "nothing":
            sent = (
                {"status": "resolved"}
                if step == "resolve"
                else {"status": "pending", "until": format_time(utc_now() + DAY)}
            )
            try:
                await service.set_status(SYSTEM_ORIGIN, case_id, StatusChange.model_validate(sent))
            except (Conflict, VersionConflict):
                pytest.fail("an open and a pending case may become both")
        return step

    with all_hold_the_lease():
        steps, *_ = await asyncio.gather(
            asyncio.gather(*(interfere(case_id) for case_id in case_ids)), *(make_waker().run() for _ in range(2))
        )
    await make_waker().run()
    found = await statuses(database)
    for case_id, step in zip(case_ids, steps, strict=True):
        status, until = found[case_id]
        expected = {"customer": "open", "nothing": "open", "resolve": "resolved", "snooze": "pending"}[step]
        assert status == expected, step
        assert (until is not None) == (step == "snooze")
    # Each change of a case begins with what the one before has left.
    rows = await database.fetch_all(sa.select(audit_log).order_by(audit_log.c.seq))
    before = dict.fromkeys(case_ids, (None, None))
    for row in rows:
        changes = json.loads(row.changes)
        was, until = before[row.case_id]
        if "status" in changes:
            assert changes["status"][0] == was
            was = changes["status"][1]
        if "snoozedUntil" in changes:
            until = changes["snoozedUntil"][1]
        before[row.case_id] = (was, until)
    assert {case_id: status for case_id, (status, _) in before.items()} == {
        case_id: status for case_id, (status, _) in found.items()
    }
    ended = Counter(case_id for case_id, _ in (await wakes(database))[0].elements())
    assert all(
        ended[case_id] == 1 for case_id, step in zip(case_ids, steps, strict=True) if step in ("customer", "nothing")
    )
    assert max(ended.values()) == 1
