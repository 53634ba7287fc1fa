"""Metrics of open cases on both databases: open cases, waiting customers, first responses and resolutions."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import sqlalchemy as sa

from support_service.cases.gauges import MAX_AGE, CaseGauges
from support_service.cases.model.requests import Closing, NewCase, StatusChange
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import message_from

pytestmark = both_databases
OPEN = "support_ticket_open"
OLDEST = "support_ticket_oldest_unanswered_seconds"
ANSWERED = "support_ticket_first_response_seconds"
RESOLVED = "support_ticket_resolution_seconds"
OPEN_LABELS = sorted(product(("open", "pending"), ("low", "normal", "high", "urgent")))


@pytest.fixture
def gauges(database, instruments):
    return CaseGauges(database, instruments)


@pytest.fixture
def exposed(metrics):
    return lambda name: [(labels, value) for _, labels, value in metrics.samples(name)]


@pytest.fixture
def oldest_age(gauges, exposed):
    async def oldest_age():
        await gauges.refresh()
        ((_, age),) = exposed(OLDEST)
        return age

    return oldest_age


@pytest.fixture
def wait_one_hour_longer(database):
    async def wait(case):
        async with database.transaction() as tx:
            row = await tx.fetch_now(sa.select(tickets.c.waiting_since).where(tickets.c.id == case.id))
            since = row[0] - timedelta(hours=1)
            await tx.execute(tickets.update().where(tickets.c.id == case.id).values(waiting_since=since))

    return wait


def new_case(author=None, **fields):
    """Return a case to open, with a first message if an author is given."""
    first = {"initialMessage": {"authorType": author, "message": "Hello"}} if author else {}
    return NewCase.model_validate({"subject": "A", "channel": "email"} | first | fields)


async def test_open_cases_are_counted_by_status_and_priority(service, gauges, exposed):
    """Each combination without an open or pending case is 0. Before the first refresh a 0 would report that, too."""
    assert exposed(OPEN) == exposed(OLDEST) == []

    async def counted():
        await gauges.refresh()
        return {(labels["status"], labels["priority"]): value for labels, value in exposed(OPEN)}

    assert await counted() == dict.fromkeys(OPEN_LABELS, 0)
    levels = ("low", "high", "high", "urgent", "normal")
    cases = [await service.open_case(SYSTEM_ORIGIN, new_case(priority=level)) for level in levels]
    for number, status in ((1, "pending"), (3, "resolved"), (4, "closed")):
        await service.set_status(SYSTEM_ORIGIN, cases[number].id, StatusChange(status=status))
    ones = dict.fromkeys([("open", "low"), ("open", "high"), ("pending", "high")], 1)
    assert await counted() == dict.fromkeys(OPEN_LABELS, 0) | ones


async def test_customer_waits_until_an_agent_responds(service, oldest_age, wait_one_hour_longer):
    """A second message and a message of a bot change nothing. A message of an agent resets the age to 0."""
    assert await oldest_age() == 0
    case = await service.open_case(SYSTEM_ORIGIN, new_case())
    assert await oldest_age() == 0
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    assert await oldest_age() > 0
    await wait_one_hour_longer(case)
    assert await oldest_age() >= 3600
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("bot"))
    assert await oldest_age() >= 3600
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("agent"))
    assert await oldest_age() == 0
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    assert 0 < await oldest_age() < 3600


async def test_gauge_reports_the_customer_who_waits_longest(service, oldest_age, wait_one_hour_longer):
    """A customer waits from the first message of the case."""
    cases = [await service.open_case(SYSTEM_ORIGIN, new_case("customer")) for _ in range(3)]
    for _ in range(2):
        await wait_one_hour_longer(cases[1])
    await wait_one_hour_longer(cases[2])
    assert 7200 <= await oldest_age() < 10_800
    await service.add_message(SYSTEM_ORIGIN, cases[1].id, message_from("agent"))
    assert 3600 <= await oldest_age() < 7200


async def test_customer_of_a_resolved_or_closed_case_does_not_wait(service, oldest_age, wait_one_hour_longer):
    """An unanswered message in a pending case counts."""
    for status in ("resolved", "closed"):
        case = await service.open_case(SYSTEM_ORIGIN, new_case("customer"))
        await wait_one_hour_longer(case)
        await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="pending"))
        assert await oldest_age() >= 3600
        await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=status))
        assert await oldest_age() == 0, status


async def test_only_the_first_response_is_timed(service, exposed):
    """It is the first message of an agent, whatever messages precede it."""
    started = datetime.now(UTC)
    case = await service.open_case(SYSTEM_ORIGIN, new_case("customer"))
    for author in ("bot", "customer"):
        await service.add_message(SYSTEM_ORIGIN, case.id, message_from(author))
    assert exposed(f"{ANSWERED}_count") == [({}, 0)]
    for author in ("agent", "customer", "agent"):
        await service.add_message(SYSTEM_ORIGIN, case.id, message_from(author))
    await service.close_case(SYSTEM_ORIGIN, case.id, Closing.model_validate({"message": "Bye"}))
    assert exposed(f"{ANSWERED}_count") == [({}, 1)]
    ((_, seconds),) = exposed(f"{ANSWERED}_sum")
    assert 0 < seconds <= (datetime.now(UTC) - started).total_seconds()


async def test_closing_message_may_be_the_first_response(service, exposed):
    """A case that is closed without a message has no response."""
    for number, closing in enumerate((Closing(), Closing(message="Bye", authorType="agent"))):
        case = await service.open_case(SYSTEM_ORIGIN, new_case("customer"))
        await service.close_case(SYSTEM_ORIGIN, case.id, closing)
        assert exposed(f"{ANSWERED}_count") == [({}, number)]


async def test_resolution_of_a_case_is_timed_once(service, exposed):
    """A change from open or pending to resolved or closed is a resolution. One from resolved to closed is not."""
    for turn, steps in enumerate((("resolved", "closed"), ("pending", "closed"), ("closed", "closed"), ()), 1):
        case = await service.open_case(SYSTEM_ORIGIN, new_case())
        for status in steps:
            await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=status))
        if not steps:
            await service.close_case(SYSTEM_ORIGIN, case.id, Closing())
        assert exposed(f"{RESOLVED}_count") == [({}, turn)]


async def test_outdated_gauges_have_no_series(service, gauges, exposed, monkeypatch):
    """Without a recent refresh the gauges would report old values."""
    now = [1000.0]
    monkeypatch.setattr("support_service.platform.telemetry.instruments.monotonic", lambda: now[0])
    assert exposed(OPEN) == []
    await gauges.refresh()
    now[0] += MAX_AGE - 1
    assert len(exposed(OPEN)) == len(OPEN_LABELS)
    now[0] += 1
    assert (exposed(OPEN), exposed(OLDEST)) == ([], [])
    await gauges.refresh()
    assert (len(exposed(OPEN)), len(exposed(OLDEST))) == (len(OPEN_LABELS), 1)
