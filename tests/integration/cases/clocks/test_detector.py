"""Breaches are found by one replica at a time and reported once, whatever happens."""

import asyncio
import json
import random
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.cases import gauges
from support_service.cases.clocks.breaches import BreachDetector
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import PolicyContent
from support_service.cases.gauges import ClockGauges
from support_service.cases.model.requests import NewCase, StatusChange
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS
from support_service.core.errors import Conflict
from support_service.desk.policies import PolicyService
from support_service.platform.database.tables import audit_log, case_clocks, leases, outbox, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import message_from
from tests.support.leases import all_hold_the_lease

pytestmark = both_databases
HOUR = timedelta(hours=1)
NEW = NewCase.model_validate({"subject": "A parcel", "channel": "email"})
MANY = 1000
BREACHED = "support.case.sla-breached.v1"


@pytest.fixture
async def policies(database):
    policies = KnownPolicies(database)
    targets = {"firstResponse": "PT1H", "nextResponse": "PT1H", "resolution": "PT3H"}
    await PolicyService(database, policies).put(
        SYSTEM_ORIGIN, "all", PolicyContent.model_validate({"targets": targets})
    )
    return policies


@pytest.fixture
def cases(database, policies, instruments):
    return CaseService(database, CaseRecorder(instruments, ClockTracker(policies, instruments)))


@pytest.fixture
def make_detector(database, policies, instruments, constants):
    constants("cases.clocks.breaches", LEASE_DURATION=3600.0)
    return lambda: BreachDetector(database, policies, instruments)


@pytest.fixture
def exposed(metrics):
    return lambda name: {labels.get("target", ""): value for _, labels, value in metrics.samples(name)}


async def copy_case(database, case_id, copies):
    case = (await database.fetch_now(tickets.select().where(tickets.c.id == case_id)))._asdict()
    clocks = await database.fetch_all(case_clocks.select().where(case_clocks.c.case_id == case_id))
    del case["seq"]
    names = [f"copy-{number}" for number in range(copies)]
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), [case | {"id": name} for name in names])
        for clock in clocks:
            await tx.execute(case_clocks.insert(), [clock._asdict() | {"case_id": name} for name in names])


async def expire(database, target):
    """Move the due times of running clocks of a target into the past, to the same second; return that."""
    at = (utc_now() - HOUR).replace(microsecond=0)
    async with database.transaction() as tx:
        running = (case_clocks.c.state == "running", case_clocks.c.target == target)
        await tx.execute(case_clocks.update().where(*running).values(due_at=at))
    return at


async def reported(database):
    """Return the number of entries and of events about breaches of each case."""
    entries = await database.fetch_all(sa.select(audit_log.c.case_id).where(audit_log.c.action == "sla.breached"))
    events = await database.fetch_all(sa.select(outbox.c.case_id).where(outbox.c.type == BREACHED))
    return Counter(row.case_id for row in entries), Counter(row.case_id for row in events)


async def test_breaches_of_a_case_are_reported_by_due_time(database, cases, make_detector):
    """The order of the rows in the database does not matter. Breaches of the same time have the order of targets."""
    detector = make_detector()
    for hours_overdue, expected in (
        ({"firstResponse": 1, "resolution": 2}, ["resolution", "firstResponse"]),
        ({"resolution": 1, "firstResponse": 2}, ["firstResponse", "resolution"]),
        ({"resolution": 1, "firstResponse": 1}, ["firstResponse", "resolution"]),
        ({"firstResponse": 1, "resolution": 1}, ["firstResponse", "resolution"]),
    ):
        case = await cases.open_case(SYSTEM_ORIGIN, NEW)
        at, mine = utc_now(), case_clocks.c.case_id == case.id
        async with database.transaction() as tx:
            clocks = {clock.target: clock._asdict() for clock in await tx.fetch_all(case_clocks.select().where(mine))}
            await tx.execute(case_clocks.delete().where(mine))
            for target, hours in hours_overdue.items():
                await tx.execute(case_clocks.insert(), clocks[target] | {"due_at": at - hours * HOUR})
        await detector.run()
        breached = audit_log.select().where(audit_log.c.action == "sla.breached", audit_log.c.case_id == case.id)
        changes = [json.loads(row.changes) for row in await database.fetch_all(breached.order_by(audit_log.c.seq))]
        assert [change["target"][1] for change in changes] == expected
        published = outbox.select().where(outbox.c.type == BREACHED, outbox.c.case_id == case.id)
        events = [json.loads(row.event) for row in await database.fetch_all(published.order_by(outbox.c.seq))]
        assert [event["data"]["target"] for event in events] == expected


async def test_a_thousand_cases_due_in_the_same_second_are_reported_once_by_several_replicas(
    database, cases, make_detector, exposed
):
    """All in one run, although every replica believes to hold the lease."""
    case = await cases.open_case(SYSTEM_ORIGIN, NEW)
    await copy_case(database, case.id, MANY - 1)
    await expire(database, "firstResponse")
    with all_hold_the_lease():
        await asyncio.gather(*(make_detector().run() for _ in range(3)))
    entries, events = await reported(database)
    assert len(entries) == MANY
    assert set(entries.values()) == {1}
    assert events == entries
    assert exposed("support_sla_breached_total") == {"firstResponse": MANY, "nextResponse": 0, "resolution": 0}
    versions = await database.fetch_all(sa.select(tickets.c.version, tickets.c.internal_changes))
    assert {(row.version, row.internal_changes) for row in versions} == {(2, 1)}


async def test_breach_during_a_downtime_has_its_true_due_time(database, cases, make_detector):
    """It is found by the first run, and only then is it recorded."""
    case = await cases.open_case(SYSTEM_ORIGIN, NEW)
    due_at = await expire(database, "resolution")
    await make_detector().run()
    row = await database.fetch_now(outbox.select().where(outbox.c.type == BREACHED))
    assert f'"dueAt":"{due_at.isoformat().replace("+00:00", "Z")}"' in row.event
    assert f'"id":"{case.id}"' in row.event.replace(" ", "")
    clock = await database.fetch_now(case_clocks.select().where(case_clocks.c.target == "resolution"))
    assert (clock.state, clock.due_at) == ("breached", due_at)


async def test_one_replica_holds_the_lease(database, cases, make_detector):
    """Another one goes on at once when it is released, and not before it has expired."""
    await cases.open_case(SYSTEM_ORIGIN, NEW)
    first, second = make_detector(), make_detector()
    await first.run()
    await expire(database, "firstResponse")
    await second.run()
    assert await reported(database) == (Counter(), Counter())
    await first.close()
    await second.run()
    assert sum((await reported(database))[0].values()) == 1


async def test_without_a_policy_no_lease_is_taken(database, instruments):
    """A service without service levels writes nothing for them."""
    policies = KnownPolicies(database)
    await policies.refresh()
    await BreachDetector(database, policies, instruments).run()
    row = await database.fetch_now(leases.select().where(leases.c.name == "sla"))
    assert row.holder == ""


async def test_policy_of_another_replica_applies_after_a_refresh(database, policies, instruments):
    """A deleted one no longer."""
    other = KnownPolicies(database)
    service = CaseService(database, CaseRecorder(instruments, ClockTracker(other, instruments)))
    assert (await service.open_case(SYSTEM_ORIGIN, NEW)).sla is None
    await other.refresh()
    assert (await service.open_case(SYSTEM_ORIGIN, NEW)).sla is not None
    await PolicyService(database, policies).delete(SYSTEM_ORIGIN, "all")
    await other.refresh()
    assert (await service.open_case(SYSTEM_ORIGIN, NEW)).sla is None


async def test_gauges_are_those_of_the_clocks(database, cases, make_detector, instruments, exposed, constants):
    """Running, overdue and unreported ones; a late answer ends what is overdue."""
    constants("cases.gauges", MERGE_FROM_ROWS=len(CLOCK_TARGETS) + 1)
    gauges = ClockGauges(database, instruments)
    case = await cases.open_case(SYSTEM_ORIGIN, NEW)
    await gauges.refresh()
    assert exposed("support_sla_running") == {"firstResponse": 1, "nextResponse": 0, "resolution": 1}
    assert exposed("support_sla_unreported_age_seconds") == {"": 0}
    await expire(database, "firstResponse")
    await gauges.refresh()
    assert exposed("support_sla_unreported_age_seconds")[""] >= HOUR.total_seconds()
    await make_detector().run()
    await gauges.refresh()
    assert exposed("support_sla_running") == {"firstResponse": 0, "nextResponse": 0, "resolution": 1}
    assert exposed("support_sla_unreported_age_seconds") == {"": 0}
    assert exposed("support_sla_oldest_overdue_seconds")["firstResponse"] >= HOUR.total_seconds()
    await cases.add_message(SYSTEM_ORIGIN, case.id, message_from("agent"))
    await gauges.refresh()
    assert exposed("support_sla_oldest_overdue_seconds") == dict.fromkeys(CLOCK_TARGETS, 0)
    assert exposed("support_sla_used_share_count") == {"firstResponse": 1, "nextResponse": 0, "resolution": 0}


async def test_numbers_of_running_clocks_are_those_of_the_clocks(database, cases, make_detector):
    """After changes at random by several writers, and with the sums replaced meanwhile."""

    async def change(seed):
        draw = random.Random(seed)
        opened = [await cases.open_case(SYSTEM_ORIGIN, NEW)]
        for _ in range(12):
            case = draw.choice(opened)
            step = draw.choice(("open", "agent", "customer", "status", "status"))
            try:
                if step == "open":
                    opened.append(await cases.open_case(SYSTEM_ORIGIN, NEW))
                elif step == "status":
                    status = draw.choice(("open", "pending", "resolved", "closed"))
                    await cases.set_status(SYSTEM_ORIGIN, case.id, StatusChange.model_validate({"status": status}))
                else:
                    await cases.add_message(SYSTEM_ORIGIN, case.id, message_from(step))
            except Conflict:
                pass

    await asyncio.gather(change(1), change(2))
    await expire(database, "nextResponse")
    await make_detector().run()
    key, running = case_clocks.c.target, case_clocks.c.state == "running"
    rows = await database.fetch_all(sa.select(key, sa.func.count().label("n")).where(running).group_by(key))
    expected = {row.target: row.n for row in rows}
    kept = await gauges.CLOCK_COUNTS.read(database)
    assert {target: number for (target,), number in kept.numbers.items() if number} == expected
    waiting = sa.select(sa.func.min(case_clocks.c.due_at).label("due"), case_clocks.c.case_id).where(
        case_clocks.c.running_since.is_not(None), case_clocks.c.target != "nextResponse"
    )
    first = {row.case_id: row.due for row in await database.fetch_all(waiting.group_by(case_clocks.c.case_id))}
    for row in await database.fetch_all(sa.select(tickets.c.id, tickets.c.sla_due_at)):
        assert (row.sla_due_at is None) == (row.id not in first)
