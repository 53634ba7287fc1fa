"""Status changes: which are allowed, how a customer's message changes the status, and how changes are counted."""

import asyncio
from itertools import product
from typing import get_args

import pytest
import sqlalchemy as sa
from pydantic_core import from_json

from support_service.cases.case_rules import ALLOWED_STATUS_CHANGES
from support_service.cases.model.case import Status
from support_service.cases.model.requests import CaseChange, Closing, NewCase, StatusChange
from support_service.cases.sql.case_reading import to_case
from support_service.core.errors import Conflict
from support_service.platform.database.tables import outbox
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import code_of, message_from, stored_case
from tests.support.each import each_row

STATUSES = get_args(Status)


@pytest.fixture
def case_with_status(service):
    async def make(status):
        case = await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))
        await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=status))
        return case

    return make


def test_every_status_can_be_closed_and_left():
    """The table has every status, and no change from a status to itself."""
    assert set(ALLOWED_STATUS_CHANGES) == set(STATUSES)
    assert all("closed" in moves for status, moves in ALLOWED_STATUS_CHANGES.items() if status != "closed")
    assert all(moves and status not in moves for status, moves in ALLOWED_STATUS_CHANGES.items())


@each_row(("before", "after"), list(product(STATUSES, repeat=2)))
async def test_status_changes_only_as_the_table_allows(service, case_with_status, before, after):
    """Keeping the status changes nothing. A refused change names the allowed statuses."""
    case = await case_with_status(before)
    original = await stored_case(service, case.id)
    if before == after or after in ALLOWED_STATUS_CHANGES[before]:
        ticket = await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=after))
        assert (ticket.status, ticket.version) == (after, original.version + (before != after))
        return
    change = CaseChange.model_validate({"status": after, "subject": "B"})
    for attempt in (
        service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status=after)),
        service.change_case(SYSTEM_ORIGIN, case.id, change),
    ):
        with pytest.raises(Conflict) as refusal:
            await attempt
        assert refusal.value.code == "status_move_not_allowed"
        assert all(status in refusal.value.detail for status in ALLOWED_STATUS_CHANGES[before])
    assert await stored_case(service, case.id) == original


@both_databases
async def test_only_what_differs_is_published_as_changed(service, database, case_with_status):
    """A status that is set with the agent whom the case already has changes no agent, and the other way round."""
    case = await case_with_status("open")
    for status in ("open", "pending"):
        change = StatusChange.model_validate({"status": status, "assignedAgentId": "agent-1"})
        await service.set_status(SYSTEM_ORIGIN, case.id, change)
    rows = await database.fetch_all(sa.select(outbox).order_by(outbox.c.seq))
    events = [from_json(row.event)["data"] for row in rows]
    assert [(each.get("changeType"), each.get("changedFields")) for each in events[1:]] == [
        ("case.changed", ["assignedAgentId"]),
        ("status.changed", None),
    ]


async def test_customer_message_reopens_a_resolved_case(service, database, case_with_status, metrics):
    """The change is published and counted once. Messages of agents and bots do not reopen the case."""
    case = await case_with_status("resolved")
    for author in ("agent", "bot"):
        await service.add_message(SYSTEM_ORIGIN, case.id, message_from(author))
        assert (await stored_case(service, case.id)).status == "resolved"
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    kept = [event for (event,) in await database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))]
    assert '"changeType":"conversation.added"' in kept[-2]
    assert '"changeType":"status.changed"' in kept[-1]
    assert '"previousStatus":"resolved","currentStatus":"open"' in kept[-1]
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    reopened = await stored_case(service, case.id)
    assert (reopened.status, len(reopened.messages)) == ("open", 4)
    assert metrics.nonzero("support_ticket_status_changed_total") == {"resolved": 1, "open": 1}


@both_databases
async def test_closed_case_refuses_customer_messages(service, case_with_status):
    """This includes a message with a second closing. Agents and bots may still add messages."""
    case = await case_with_status("closed")
    closing = Closing.model_validate({"message": "Hello", "authorType": "customer"})
    for attempt in (
        service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer")),
        service.close_case(SYSTEM_ORIGIN, case.id, closing),
    ):
        assert await code_of(attempt) == "case_closed"
    for author in ("agent", "bot"):
        await service.add_message(SYSTEM_ORIGIN, case.id, message_from(author))
    closed = await stored_case(service, case.id)
    assert (closed.status, [message.author_type for message in closed.messages]) == ("closed", ["agent", "bot"])


async def test_closing_may_carry_the_customers_last_message(service, case_with_status):
    """This holds for every status except closed."""
    closing = Closing.model_validate({"message": "Thanks", "authorType": "customer"})
    for status in ("open", "pending", "resolved"):
        closed = to_case(await service.close_case(SYSTEM_ORIGIN, (await case_with_status(status)).id, closing))
        assert (closed.status, [message.message for message in closed.messages]) == ("closed", ["Thanks"]), status


@both_databases
async def test_concurrent_customer_messages_reopen_a_case_once(service, case_with_status):
    """All messages are stored."""
    case = await case_with_status("resolved")
    before = await stored_case(service, case.id)
    await asyncio.gather(*(service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer")) for _ in range(8)))
    after = await stored_case(service, case.id)
    assert (after.status, len(after.messages), after.version) == ("open", 8, before.version + 9)
