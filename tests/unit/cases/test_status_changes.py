"""Status moves: what a case may become, what a customer's message does to it, and that each move is counted once."""

import asyncio
from itertools import product
from typing import get_args

import pytest
import sqlalchemy as sa

from support_service.cases.model import ALLOWED_STATUS_CHANGES, Status, check_status_change
from support_service.cases.requests import CaseChange, Closing, NewCase, NewMessage, StatusChange
from support_service.cases.service import CaseService
from support_service.core.errors import Conflict
from support_service.core.principals import SYSTEM
from support_service.database.tables import outbox
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.conftest import both_databases

STATUSES = get_args(Status)


def says(author):
    """A message."""
    return NewMessage.model_validate({"authorType": author, "message": "Hello"})


@pytest.fixture
def service(database, instruments):
    """The service of cases."""
    return CaseService(database, instruments)


@pytest.fixture
def case_that_is(service):
    """Open a case and bring it to a status."""

    async def make(status):
        case = await service.open_case(SYSTEM_CONTEXT, NewCase(subject="A", channel="email"))
        await service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status=status))
        return case

    return make


def test_the_table_of_moves():
    """Every status is in the table, can be closed, and can be left; no status is a move to itself."""
    assert set(ALLOWED_STATUS_CHANGES) == set(STATUSES)
    assert all("closed" in moves for status, moves in ALLOWED_STATUS_CHANGES.items() if status != "closed")
    assert all(moves and status not in moves for status, moves in ALLOWED_STATUS_CHANGES.items())


@pytest.mark.parametrize(("before", "after"), list(product(STATUSES, repeat=2)))
async def test_every_move(service, case_that_is, before, after):
    """A move of the table is made; staying is none and nothing changes; any other is refused and names what is not."""
    case = await case_that_is(before)
    was = await service.get_case(SYSTEM, case.id)
    if before == after or after in ALLOWED_STATUS_CHANGES[before]:
        ticket = await service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status=after))
        assert (ticket.status, ticket.version) == (after, was.version + (before != after))
        return
    change = CaseChange.model_validate({"status": after, "subject": "B"})
    for attempt in (
        service.set_status(SYSTEM_CONTEXT, case.id, StatusChange(status=after)),
        service.change_case(SYSTEM_CONTEXT, case.id, change),
    ):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.code == "status_move_not_allowed"
        assert all(status in refusal.value.message for status in ALLOWED_STATUS_CHANGES[before])
    assert await service.get_case(SYSTEM, case.id) == was


def test_staying_is_no_move():
    """A status that a case has already is always allowed."""
    for status in STATUSES:
        check_status_change(status, status)


@both_databases
async def test_a_customer_reopens_a_resolved_case(service, database, case_that_is, instruments):
    """A customer's message opens a resolved case again, and that is told; an agent's and a bot's do not."""
    case = await case_that_is("resolved")
    for author in ("agent", "bot"):
        await service.add_message(SYSTEM_CONTEXT, case.id, says(author))
        assert (await service.get_case(SYSTEM, case.id)).status == "resolved"
    await service.add_message(SYSTEM_CONTEXT, case.id, says("customer"))
    reopened = await service.get_case(SYSTEM, case.id)
    assert (reopened.status, len(reopened.messages)) == ("open", 3)
    kept = [event for (event,) in await database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))]
    assert '"changeType":"status.changed","previousStatus":"resolved","currentStatus":"open"' in kept[-2]
    assert '"changeType":"conversation.added"' in kept[-1]


async def test_a_reopening_counts(client, metrics):
    """A reopening by a customer's message counts as a change to open, once."""
    async with client.post("/support/cases", json={"subject": "A", "channel": "email"}) as response:
        path = f"/support/cases/{(await response.json())['id']}"
    async with client.post(f"{path}/status", json={"status": "resolved"}):
        pass
    for _ in range(2):
        async with client.post(f"{path}/messages", json={"authorType": "customer", "message": "?"}) as response:
            assert response.status == 200
    assert metrics.nonzero("support_ticket_status_changed_total") == {"resolved": 1, "open": 1}


@both_databases
async def test_a_closed_case(service, case_that_is):
    """A closed case takes no customer's message, not even with another closing; agents and bots may still note."""
    case = await case_that_is("closed")
    closing = Closing.model_validate({"message": "Hello", "authorType": "customer"})
    for attempt in (
        service.add_message(SYSTEM_CONTEXT, case.id, says("customer")),
        service.close_case(SYSTEM_CONTEXT, case.id, closing),
    ):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.code == "case_closed"
    for author in ("agent", "bot"):
        await service.add_message(SYSTEM_CONTEXT, case.id, says(author))
    closed = await service.get_case(SYSTEM, case.id)
    assert (closed.status, [said.author_type for said in closed.messages]) == ("closed", ["agent", "bot"])


@pytest.mark.parametrize("status", ["open", "pending", "resolved"])
async def test_a_customers_word_closes(service, case_that_is, status):
    """A closing may carry the customer's last word, from any status that is not closed."""
    case = await case_that_is(status)
    closed = await service.close_case(
        SYSTEM_CONTEXT, case.id, Closing.model_validate({"message": "Thanks", "authorType": "customer"})
    )
    assert (closed.status, [said.message for said in closed.messages]) == ("closed", ["Thanks"])


@both_databases
async def test_customers_who_speak_at_once(service, case_that_is):
    """However many messages reach a resolved case at once, it is reopened once, and all are kept."""
    case = await case_that_is("resolved")
    before = await service.get_case(SYSTEM, case.id)
    await asyncio.gather(*(service.add_message(SYSTEM_CONTEXT, case.id, says("customer")) for _ in range(8)))
    after = await service.get_case(SYSTEM, case.id)
    assert (after.status, len(after.messages), after.version) == ("open", 8, before.version + 9)
