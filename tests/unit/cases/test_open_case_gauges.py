"""The work itself, on either database: open cases, waiting customers, first answers and resolutions."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.gauges import CaseGauges, GaugeTimings
from support_service.cases.requests import Closing, NewCase, NewMessage, StatusChange
from support_service.cases.service import CaseService
from support_service.database.tables import tickets
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource
from tests.conftest import both_databases
from tests.support.scrape import parse

pytestmark = both_databases
OPEN = "support_ticket_open"
OLDEST = "support_ticket_oldest_unanswered_seconds"
ANSWERED = "support_ticket_first_response_seconds"
RESOLVED = "support_ticket_resolution_seconds"
ALL = [
    {"status": status, "priority": level}
    for status in ("open", "pending")
    for level in ("low", "normal", "high", "urgent")
]


@pytest.fixture
def metrics():
    """A provider of its own."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics
    metrics.close()


@pytest.fixture
def service(database, metrics):
    """The service of cases."""
    return CaseService(database, Instruments(metrics.meter))


@pytest.fixture
def gauges(database, metrics):
    """The gauges of open cases."""
    return CaseGauges(database, Instruments(metrics.meter))


@pytest.fixture
def exposed(metrics):
    """The samples of a name: label sets and values."""
    return lambda name: [
        (given, value) for sample, given, value in parse(metrics.scrape("", "").body.decode()) if sample == name
    ]


@pytest.fixture
def oldest(gauges, exposed):
    """The age of the oldest unanswered word, by the database."""

    async def oldest():
        await gauges.refresh()
        ((_, age),) = exposed(OLDEST)
        return age

    return oldest


@pytest.fixture
def made_older(database):
    """Let a case's customer have waited for an hour longer."""

    async def older(case):
        async with database.transaction() as tx:
            row = await tx.fetch_one(sa.select(tickets.c.waiting_since).where(tickets.c.id == case.id))
            since = row[0] - timedelta(hours=1)
            await tx.execute(tickets.update().where(tickets.c.id == case.id).values(waiting_since=since))

    return older


def said(author, text="Hello"):
    """A message."""
    return NewMessage.model_validate({"authorType": author, "message": text})


def new(author=None, **fields):
    """A case to open, with a first message if someone speaks."""
    first = {"initialMessage": {"authorType": author, "message": "Hello"}} if author else {}
    return NewCase.model_validate({"subject": "A", "channel": "email"} | first | fields)


async def test_nothing_is_shown_before_the_first_reading(gauges, exposed):
    """What the database was not asked yet is no series, rather than a 0 that says that all is well."""
    assert exposed(OPEN) == exposed(OLDEST) == []


async def test_open_cases_by_status_and_priority(service, gauges, exposed):
    """Each open or pending case counts under its status and priority; all other combinations stand at 0."""
    await gauges.refresh()
    assert sorted((given["status"], given["priority"], value) for given, value in exposed(OPEN)) == sorted(
        (given["status"], given["priority"], 0) for given in ALL
    )
    cases = [
        await service.open_case(SYSTEM_CONTEXT, new(priority=level))
        for level in ("low", "high", "high", "urgent", "normal")
    ]
    await service.set_status(SYSTEM_CONTEXT, cases[1].id, StatusChange(status="pending"))
    await service.set_status(SYSTEM_CONTEXT, cases[3].id, StatusChange(status="resolved"))
    await service.set_status(SYSTEM_CONTEXT, cases[4].id, StatusChange(status="closed"))
    await gauges.refresh()
    counted = {(given["status"], given["priority"]): value for given, value in exposed(OPEN)}
    assert len(counted) == len(ALL)
    assert {each: value for each, value in counted.items() if value} == {
        ("open", "low"): 1,
        ("open", "high"): 1,
        ("pending", "high"): 1,
    }


async def test_a_customer_waits_until_an_agent_answers(service, oldest, made_older):
    """A customer's word ages, a second word and a bot change nothing, an agent's answer makes it 0."""
    assert await oldest() == 0
    case = await service.open_case(SYSTEM_CONTEXT, new())
    assert await oldest() == 0
    await service.add_message(SYSTEM_CONTEXT, case.id, said("customer"))
    assert await oldest() > 0
    await made_older(case)
    assert await oldest() >= 3600
    await service.add_message(SYSTEM_CONTEXT, case.id, said("customer"))
    await service.add_message(SYSTEM_CONTEXT, case.id, said("bot"))
    assert await oldest() >= 3600
    await service.add_message(SYSTEM_CONTEXT, case.id, said("agent"))
    assert await oldest() == 0
    await service.add_message(SYSTEM_CONTEXT, case.id, said("customer"))
    assert 0 < await oldest() < 3600


async def test_the_oldest_of_all_counts(service, oldest, made_older):
    """Of several waiting customers the longest waiting one counts, from the case's first message on."""
    cases = [await service.open_case(SYSTEM_CONTEXT, new("customer")) for _ in range(3)]
    for _ in range(2):
        await made_older(cases[1])
    await made_older(cases[2])
    assert 7200 <= await oldest() < 10_800
    await service.add_message(SYSTEM_CONTEXT, cases[1].id, said("agent"))
    assert 3600 <= await oldest() < 7200


@pytest.mark.parametrize("status", ["resolved", "closed"])
async def test_a_settled_case_waits_for_nobody(service, oldest, made_older, status):
    """An unanswered word in a resolved or closed case does not count; one in a pending case does."""
    case = await service.open_case(SYSTEM_CONTEXT, new("customer"))
    await made_older(case)
    await service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status="pending"))
    assert await oldest() >= 3600
    await service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status=status))
    assert await oldest() == 0


async def test_the_first_answer_alone_is_timed(service, exposed):
    """The time to the first response is the first agent's message's, once a case, whoever spoke before."""
    started = datetime.now(UTC)
    case = await service.open_case(SYSTEM_CONTEXT, new("customer"))
    for author in ("bot", "customer"):
        await service.add_message(SYSTEM_CONTEXT, case.id, said(author))
    assert exposed(f"{ANSWERED}_count") == [({}, 0)]
    for author in ("agent", "customer", "agent"):
        await service.add_message(SYSTEM_CONTEXT, case.id, said(author))
    await service.close_case(SYSTEM_CONTEXT, case.id, Closing.model_validate({"message": "Bye"}))
    assert exposed(f"{ANSWERED}_count") == [({}, 1)]
    ((_, seconds),) = exposed(f"{ANSWERED}_sum")
    assert 0 < seconds <= (datetime.now(UTC) - started).total_seconds()


async def test_a_closing_word_may_be_the_first_answer(service, exposed):
    """A case that is closed with a message has been answered by it; one closed in silence has not."""
    await service.close_case(
        SYSTEM_CONTEXT, (await service.open_case(SYSTEM_CONTEXT, new())).id, Closing.model_validate({})
    )
    assert exposed(f"{ANSWERED}_count") == [({}, 0)]
    closing = Closing.model_validate({"message": "Bye", "authorType": "agent"})
    await service.close_case(SYSTEM_CONTEXT, (await service.open_case(SYSTEM_CONTEXT, new("customer"))).id, closing)
    assert exposed(f"{ANSWERED}_count") == [({}, 1)]


async def test_a_case_is_resolved_once(service, exposed):
    """From open or pending to resolved or closed is a resolution; from resolved to closed is none."""
    for turn, steps in enumerate((("resolved", "closed"), ("pending", "closed"), ("closed", "closed")), 1):
        case = await service.open_case(SYSTEM_CONTEXT, new())
        for status in steps:
            await service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status=status))
        assert exposed(f"{RESOLVED}_count") == [({}, turn)]
    await service.close_case(
        SYSTEM_CONTEXT, (await service.open_case(SYSTEM_CONTEXT, new())).id, Closing.model_validate({})
    )
    assert exposed(f"{RESOLVED}_count") == [({}, 4)]


async def test_an_old_count_is_not_told(service, gauges, exposed, monkeypatch):
    """While no newer count can be had, the gauges fall silent instead of standing at what was true once."""
    now = [1000.0]
    monkeypatch.setattr("support_service.cases.gauges.monotonic", lambda: now[0])
    assert exposed(OPEN) == []
    await gauges.refresh()
    now[0] += GaugeTimings().max_age - 1
    assert len(exposed(OPEN)) == len(ALL)
    now[0] += 1
    assert (exposed(OPEN), exposed(OLDEST)) == ([], [])
    await gauges.refresh()
    assert (len(exposed(OPEN)), len(exposed(OLDEST))) == (len(ALL), 1)
