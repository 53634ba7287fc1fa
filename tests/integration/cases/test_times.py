"""The times of a case's changes: they never go backwards, on both databases."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.model.requests import CaseChange, Closing, NewCase, StatusChange
from support_service.events import envelope
from support_service.platform.database.tables import audit_log, outbox, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import message_from, recorder, stored_case

pytestmark = both_databases
NEW = NewCase.model_validate({"subject": "A", "channel": "email", "context": {"type": "order", "orderId": "ORD-1"}})


async def recorded_times(database, case):
    """Return the times of the events and of the audit entries of a case, in the order in which they were stored."""
    events = await database.fetch_all(
        sa.select(outbox.c.event).where(outbox.c.case_id == case.id).order_by(outbox.c.seq)
    )
    entries = await database.fetch_all(
        sa.select(audit_log.c.at).where(audit_log.c.case_id == case.id).order_by(audit_log.c.seq)
    )
    return [datetime.fromisoformat(json.loads(event)["time"]) for (event,) in events], [at for (at,) in entries]


async def expect_ordered(service, database, case):
    """Fail if a time of the case is before the time of an earlier change; return the case."""
    changed = await stored_case(service, case.id)
    spoken = [message.created_at for message in changed.messages]
    for times in (spoken, *await recorded_times(database, case)):
        assert times == sorted(times)
        assert times[-1] <= changed.updated_at
    return changed


async def test_times_of_concurrent_changes_are_in_the_order_of_the_changes(service, database):
    """A change that waited for another one has a later time, although it was requested before."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    await asyncio.gather(
        *(service.add_message(SYSTEM_ORIGIN, case.id, message_from("agent")) for _ in range(40)),
        *(service.add_message(SYSTEM_ORIGIN, case.id, message_from("agent", visibility="internal")) for _ in range(10)),
        *(service.change_case(SYSTEM_ORIGIN, case.id, CaseChange(subject=f"{number}")) for number in range(10)),
    )
    assert len((await expect_ordered(service, database, case)).messages) == 50


async def test_time_of_a_change_is_not_before_the_latest_change(service, database, instruments):
    """This holds if the clock of another replica is ahead."""
    case = await service.open_case(SYSTEM_ORIGIN, NEW)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    async with database.transaction() as tx:
        await tx.execute(tickets.update().values(updated_at=ahead))
    event = envelope.parse_event(
        b'{"specversion": "1.0", "id": "e-1", "source": "/orders", "type": "order.status.changed.v1",'
        b' "data": {"orderId": "ORD-1", "status": "paid"}}'
    )
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("agent", visibility="internal"))
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("agent"))
    assert await InboundEventHandler(database, recorder(database, instruments)).apply(event) == "applied"
    await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="resolved"))
    await service.add_message(SYSTEM_ORIGIN, case.id, message_from("customer"))
    await service.change_case(SYSTEM_ORIGIN, case.id, CaseChange(subject="B"))
    await service.close_case(SYSTEM_ORIGIN, case.id, Closing(message="Bye"))
    changed = await expect_ordered(service, database, case)
    assert min(message.created_at for message in changed.messages) >= ahead
    events, entries = await recorded_times(database, case)
    assert min(events[1:] + entries[1:]) >= ahead
