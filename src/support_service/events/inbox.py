"""Inbox of applied events: deduplicates the events of other services, in the transactions that apply them."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.events.inbound_events import InboundEvent
from support_service.platform.database import Database, Transaction
from support_service.platform.database.dialect import UtcDateTime, insert_if_new
from support_service.platform.database.statements import compiled, delete_in_batches
from support_service.platform.database.tables import inbound_events

_INBOUND = inbound_events.c
_SELECTED = sa.and_(_INBOUND.source == sa.bindparam("event_source"), _INBOUND.id == sa.bindparam("event_id"))
INSERT_EVENT = compiled(insert_if_new(inbound_events))
LOCK_EVENT = sa.select(_INBOUND.reached, _INBOUND.done).where(_SELECTED).with_for_update()
UPDATE_PROGRESS = (
    inbound_events.update().where(_SELECTED).values(reached=sa.bindparam("last"), done=sa.bindparam("whole"))
)
_EXPIRED = (
    sa.select(_INBOUND.source, _INBOUND.id)
    .where(_INBOUND.at < sa.bindparam("before", type_=UtcDateTime()), _INBOUND.done.is_(sa.true()))
    .order_by(_INBOUND.at)
    .limit(sa.bindparam("count"))
)
DELETE_EXPIRED = inbound_events.delete().where(sa.tuple_(_INBOUND.source, _INBOUND.id).in_(_EXPIRED))


@dataclass(frozen=True, slots=True)
class InboxTimings:
    """Retention of event ids, and their deletion."""

    retention: timedelta = timedelta(days=14)  # a later duplicate is applied again
    purge_interval: float = 3600.0  # seconds
    purge_batch: int = 500  # event ids deleted per transaction


async def begin_applying(tx: Transaction, event: InboundEvent) -> int | None:
    """Begin to apply an event. Return the seq of the last case it was applied to, 0 if new, None if already applied.

    This transaction records a new event as completely applied, unless `record_progress` records that more cases remain.
    A concurrent transaction that begins the same event waits for this one.
    """
    inserted = {"source": event.source, "id": event.id, "at": utc_now(), "reached": 0, "done": True}
    if await tx.execute(INSERT_EVENT, inserted):
        return 0
    known = await tx.fetch_one(LOCK_EVENT, {"event_source": event.source, "event_id": event.id})
    return None if known is None or known.done else known.reached


async def record_progress(tx: Transaction, event: InboundEvent, last: int, *, done: bool) -> None:
    """Record an event's progress: `last` is the seq of the last case it was applied to."""
    key = {"event_source": event.source, "event_id": event.id}
    await tx.execute(UPDATE_PROGRESS, {**key, "last": last, "whole": done})


async def delete_expired(database: Database, timings: InboxTimings = InboxTimings()) -> None:
    """Delete the ids of applied events that are older than the retention."""
    expired = {"before": utc_now() - timings.retention, "count": timings.purge_batch}
    await delete_in_batches(database, lambda tx: tx.execute(DELETE_EXPIRED, expired), timings.purge_batch)
