"""Inbox of applied events: deduplicates the events of other services, in the transactions that apply them."""

from datetime import UTC, datetime, timedelta

from support_service.database import Database, Transaction
from support_service.events import store
from support_service.events.inbound_events import Event

REMEMBERED = timedelta(days=14)  # retention of event ids; a later duplicate is applied again
FORGET_EVERY = 3600.0  # seconds
AT_ONCE = 500  # event ids deleted per transaction


async def begin(tx: Transaction, event: Event) -> int | None:
    """Begin to apply an event. Return the seq of the last case it was applied to, 0 if new, None if already applied.

    This transaction records a new event as completely applied, unless `reached` records that more cases remain.
    """
    return await store.begin_inbound(tx, event.source, event.id, datetime.now(UTC))


async def reached(tx: Transaction, event: Event, last: int, *, done: bool) -> None:
    """Record an event's progress: `last` is the seq of the last case it was applied to."""
    await store.end_inbound(tx, event.source, event.id, last, done=done)


async def forget_old(database: Database) -> None:
    """Delete the ids of events older than REMEMBERED, in small transactions so that other writers are not blocked."""
    before = datetime.now(UTC) - REMEMBERED
    forgotten = AT_ONCE
    while forgotten == AT_ONCE:
        async with database.transaction() as tx:
            forgotten = await store.forget_inbound(tx, before, AT_ONCE)
