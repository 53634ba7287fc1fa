"""Inbox of applied events: deduplicates the events of other services, in the transactions that apply them."""

from datetime import UTC, datetime, timedelta

from support_service.database import Database, Transaction
from support_service.events import store
from support_service.events.inbound_events import InboundEvent

RETENTION = timedelta(days=14)  # retention of event ids; a later duplicate is applied again
PURGE_BATCH = 500  # event ids deleted per transaction


async def begin_applying(tx: Transaction, event: InboundEvent) -> int | None:
    """Begin to apply an event. Return the seq of the last case it was applied to, 0 if new, None if already applied.

    This transaction records a new event as completely applied, unless `reached` records that more cases remain.
    """
    return await store.begin_inbound_event(tx, event.source, event.id, datetime.now(UTC))


async def record_progress(tx: Transaction, event: InboundEvent, last: int, *, done: bool) -> None:
    """Record an event's progress: `last` is the seq of the last case it was applied to."""
    await store.record_inbound_progress(tx, event.source, event.id, last, done=done)


async def delete_expired(database: Database) -> None:
    """Delete the ids of events older than REMEMBERED, in small transactions so that other writers are not blocked."""
    before = datetime.now(UTC) - RETENTION
    forgotten = PURGE_BATCH
    while forgotten == PURGE_BATCH:
        async with database.transaction() as tx:
            forgotten = await store.delete_old_inbound_events(tx, before, PURGE_BATCH)
