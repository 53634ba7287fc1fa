"""Outbox relay: publishes the events of the outbox to the broker, in order, at least once.

Published events stay in a table of their own for a while. The broker counts the publications beside its entries. A
broker that has lost some, such as in a failover, has a lower number: then they are published again.

A lease in the database elects one relaying process. A fencing token keeps a process that stalled from publishing after
another process has taken its lease. While the broker is down, the outbox grows; nothing else is affected.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from support_service.core.clock import Backoff, utc_now
from support_service.core.ids import new_id
from support_service.core.part_state import OncallCard
from support_service.events import republishing, webhook_sender
from support_service.events.broker.base import OUTAGES, Broker, BrokerError
from support_service.events.republishing import ANY_TO_BE_REPEATED, SELECT_CONFIRMED, select_oldest
from support_service.platform.background import Job, Pause, WorkSignal
from support_service.platform.database import Database, Row, RowReader, Transaction, lease_rows
from support_service.platform.database.statements import compiled, locked_in_order
from support_service.platform.database.tables import outbox
from support_service.platform.settings.value_types import WebhookSetting
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, LastReading

log = logging.getLogger(__name__)

PUBLISHED_TYPE_LABELS = (
    "support.case.opened.v1",
    "support.case.updated.v1",
    "support.case.closed.v1",
    "support.case.sla-breached.v1",
    "support.database.restored.v1",
)
EVENTS_PUBLISHED = InstrumentSpec(
    "support.events.published",
    "counter",
    "{event}",
    "Events of cases published to the broker. error: events of a failed attempt, which is repeated. repeated: events "
    "that are published again, such as after a failover of Redis",
    {"type": PUBLISHED_TYPE_LABELS, "outcome": ("ok", "error", "repeated")},
)
EVENTS_RELAY_LAG = InstrumentSpec(
    "support.events.relay_lag",
    "histogram",
    "s",
    "Time from a change of a case to its event in the broker, of the oldest event of each batch",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
EVENTS_OUTBOX_PENDING = InstrumentSpec(
    "support.events.outbox_pending", "gauge", "{event}", "Events that are committed and not published yet"
)
EVENTS_OUTBOX_OLDEST = InstrumentSpec(
    "support.events.outbox_oldest", "gauge", "s", "Age of the oldest unpublished event; 0 if there is none"
)


PUBLISH_BATCH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RelayTimings:
    """Intervals in seconds, and sizes of batches."""

    batch_interval: float = 0.1  # between two batches at least: under load they fill
    poll_interval: float = 1.0  # for events that no signal tells of
    shared_poll_interval: float = 0.1  # the same, if other replicas may have written them
    publish_batch: int = 200  # events per publication
    check_interval: float = 1.0  # between two checks, without events to publish, that the broker has lost none
    lease_duration: float = 6.0  # if the leader dies, publishing stops for about this long
    # Tolerated clock skew. A lease that expires later than this allows was taken by a replica with a wrong clock, which
    # may have died and left a lease that is valid for years.
    max_clock_skew: float = 60.0
    backoff: Backoff = Backoff(0.5, 5.0)


class OutboxRelay:
    """Publishes the events of the outbox to one stream, and creates a webhook delivery for each endpoint.

    `max_stream_length` is approximate. Published events are kept for `keep_published`.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        instruments: Instruments,
        *,
        stream: str,
        max_stream_length: int,
        keep_published: timedelta = timedelta(0),
        endpoints: Iterable[WebhookSetting] = (),
        timings: RelayTimings = RelayTimings(),
    ) -> None:
        self._database = database
        self._broker = broker
        self._instruments = instruments
        self._stream = stream
        self._max_stream_length = max_stream_length
        self._keep_published = keep_published
        self._endpoints = tuple(endpoints)
        self._timings = timings
        self._holder = new_id()
        self._fence = self._newer_fence = 0  # our fencing token, and the newer token that made the broker reject it
        self._lease_ends_at = self._renew_at = self._check_at = 0.0  # monotonic clock
        self._lease_lock, self._fan_out_lock = asyncio.Lock(), asyncio.Lock()
        self.deliveries_created = WorkSignal()
        self._backlog = LastReading[tuple[int, str | None]]()
        instruments.observe(EVENTS_OUTBOX_PENDING, self._backlog.observations(lambda read: [(read[0], {})]))
        instruments.observe(
            EVENTS_OUTBOX_OLDEST, self._backlog.observations(lambda read: [(_age_seconds(read[1]), {})])
        )

    def is_leader(self) -> bool:
        """True while this process holds the lease."""
        return time.monotonic() < self._lease_ends_at

    async def run(self) -> None:
        """Relay until cancelled. Webhook deliveries are created in a separate task, independent of the broker."""
        async with asyncio.TaskGroup() as group:
            jobs = [Job("Publishing events", self._pause(), self._publish_pending)]
            if self._endpoints:
                jobs.append(Job("Creating webhook deliveries", self._pause(), self._fan_out_pending))
            for job in jobs:
                group.create_task(job.run_with_backoff(self._timings.backoff, OUTAGES))

    async def close(self) -> None:
        """Publish the remaining events for at most one second, then release the lease.

        Errors are logged: events that remain are published by the next process that takes the lease.
        """
        if not self.is_leader():
            return
        try:
            async with asyncio.timeout(1):
                await self._publish_pending()
                async with self._database.transaction() as tx:
                    await lease_rows.release_lease(tx, "relay", self._holder)
        except Exception as error:  # noqa: BLE001 - a shutdown must not fail
            log.warning("Events stay in the outbox: %r", error)

    async def refresh_backlog(self) -> None:
        """Read the size and age of the outbox for the gauges, and delete events that were kept long enough."""
        (row,) = await self._database.fetch_all(SELECT_BACKLOG)  # fetch_all: a scan must not block the event loop
        self._backlog.store((row.number, row.oldest))
        if self.is_leader():
            await republishing.delete_expired(self._database, utc_now() - self._keep_published)

    def card(self) -> OncallCard:
        events, oldest = self._backlog.value or (None, None)
        age = None if events is None else _age_seconds(oldest)
        return OncallCard(
            self._backlog.read_at, {"events": events, "oldest_age_seconds": age, "leader": self.is_leader()}
        )

    def _pause(self) -> Pause:
        timings, database = self._timings, self._database
        longest = timings.shared_poll_interval if database.is_shared else timings.poll_interval
        return Pause(timings.batch_interval, longest, database.changed.subscribe())

    async def _publish_pending(self) -> None:
        """Publish batches until one is not full. At times, check that the broker has what was published before."""
        while await self.publish_batch() == self._timings.publish_batch:
            pass
        if self._keep_published and self.is_leader() and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + self._timings.check_interval
            (row,) = await self._database.fetch_all(SELECT_CONFIRMED)
            if (row.confirmed or 0) > (kept := await self._broker.publications(self._stream)):
                await self._republish_after(kept)

    async def publish_batch(self) -> int:
        """Publish the oldest events. Return the number published; 0 if another process holds the lease."""
        waiting = await self._database.fetch_now(SELECT_WAITING) if await self._hold_lease() else None
        if waiting is None:
            return 0
        batch, max_bytes = self._timings.publish_batch, PUBLISH_BATCH_BYTES
        if waiting.repeated:
            pending = await republishing.read_events_to_repeat(self._database, batch, max_bytes)
        else:
            pending = await read_oldest_events(self._database, batch, max_bytes)
        if not pending:  # pragma: no cover - another process has published them meanwhile
            return 0
        if self._endpoints and not waiting.repeated and not all(event.fanned_out for event in pending):
            while await self._fan_out() == batch:  # deliveries copy the outbox's events
                pass
        events = [event.event for event in pending]
        try:
            publication = await self._broker.publish(
                self._stream,
                events,
                max_length=self._max_stream_length,
                fence=self._fence,
                confirmed=waiting.confirmed or 0 if self._keep_published else 0,
            )
        except BrokerError as error:
            if error.kept is not None:
                await self._republish_after(error.kept)
                return 0
            self._count_published(pending, "error")
            if error.fence is not None:
                self._newer_fence = error.fence
                self._lease_ends_at = self._renew_at = 0.0
            raise
        await self._store_published(pending, publication, repeated=waiting.repeated)
        return len(pending)

    async def _store_published(self, events: Sequence[Row], publication: int, *, repeated: bool) -> None:
        seqs = [event.seq for event in events]
        async with self._database.transaction() as tx:
            if repeated:
                await republishing.note_repeated(tx, seqs, publication, utc_now())
            else:
                if self._keep_published:
                    await republishing.keep_published(tx, seqs, publication, utc_now())
                await delete_published(tx, seqs)
        self._count_published(events, "repeated" if repeated else "ok")

    async def _republish_after(self, kept: int) -> None:
        """Have everything published again that the broker has lost: what came after the publication `kept`."""
        number = await republishing.mark_to_be_repeated(self._database, kept + 1)
        log.warning("The broker has lost %d published events, such as in a failover; they are published again", number)

    async def _hold_lease(self) -> bool:
        """Take or renew the lease when due. Return True if this process holds it."""
        async with self._lease_lock:
            now = time.monotonic()
            if now < self._renew_at:
                return self.is_leader()
            duration, skew = self._timings.lease_duration, self._timings.max_clock_skew
            async with self._database.transaction() as tx:
                fence = await lease_rows.take_lease(
                    tx, "relay", self._holder, now=time.time(), duration=duration, max_clock_skew=skew
                )
                newest, self._newer_fence = self._newer_fence, 0
                if fence is not None and fence <= newest:
                    # The broker has a newer token than the database: a clock was ahead, or a backup was restored.
                    log.warning("The relay's fencing token was older than %d; it uses a newer one", newest)
                    fence = newest + 1
                    await lease_rows.set_fence(tx, "relay", fence)
            self._renew_at = now + duration * random.uniform(0.25, 0.5)
            self._lease_ends_at = 0.0 if fence is None else now + duration
            self._fence = fence or 0
            return self.is_leader()  # the answer may have come after the lease has expired

    async def _fan_out_pending(self) -> None:
        """Create the webhook deliveries of events without them, in batches, while this process holds the lease."""
        while await self._hold_lease() and await self._fan_out() == self._timings.publish_batch:
            pass

    async def _fan_out(self) -> int:
        """Create webhook deliveries for the oldest events without them. Return the number of events handled."""
        async with self._fan_out_lock:
            events = await webhook_sender.read_events_to_fan_out(self._database, self._timings.publish_batch)
            if events:
                subscriptions = [
                    (
                        endpoint.name,
                        [event.seq for event in events if not endpoint.types or event.type in endpoint.types],
                    )
                    for endpoint in self._endpoints
                ]
                seqs = [event.seq for event in events]
                async with self._database.transaction() as tx:
                    await webhook_sender.fan_out(tx, seqs, subscriptions, utc_now())
                self.deliveries_created.send()
            return len(events)

    def _count_published(self, events: Sequence[Row], outcome: str) -> None:
        for kind, number in Counter(event.type for event in events).items():
            self._instruments.add(EVENTS_PUBLISHED, number, {"type": kind, "outcome": outcome})
        if outcome == "ok":  # only the oldest: one record per event would cost as much as the publication
            self._instruments.record(EVENTS_RELAY_LAG, _age_seconds(events[0].at))


def _age_seconds(at: str | None) -> float:
    """Return the age of an event in seconds; 0 without an event."""
    return max(0.0, time.time() - datetime.fromisoformat(at).timestamp()) if at else 0.0


_ONE: Any = sa.literal_column("1")
_ANY_PENDING = sa.select(_ONE).select_from(outbox).limit(_ONE).scalar_subquery()
# A row if there are events to publish: whether some are to be repeated, and the last confirmed publication.
SELECT_WAITING: sa.Select[Any] = compiled(
    sa.select(
        ANY_TO_BE_REPEATED.is_not(None).label("repeated"), SELECT_CONFIRMED.scalar_subquery().label("confirmed")
    ).where(sa.or_(ANY_TO_BE_REPEATED.is_not(None), _ANY_PENDING.is_not(None)))
)
SELECT_PENDING = select_oldest(outbox, outbox.c.at, outbox.c.fanned_out)
SELECT_OLDEST_AT = sa.select(outbox.c.at).order_by(outbox.c.seq).limit(sa.literal_column("1")).scalar_subquery()
SELECT_BACKLOG = sa.select(sa.func.count(outbox.c.seq).label("number"), SELECT_OLDEST_AT.label("oldest"))
DELETE_EVENT = compiled(outbox.delete().where(outbox.c.seq == sa.bindparam("published")))
_IS_IN_RANGE = outbox.c.seq.between(sa.bindparam("first"), sa.bindparam("last"))
DELETE_EVENT_RANGE = compiled(outbox.delete().where(locked_in_order(outbox, _IS_IN_RANGE)))


async def read_oldest_events(reader: RowReader, count: int, max_bytes: int) -> Sequence[Row]:
    """Return the oldest events of the outbox: at most `count`, and no more once they reach `max_bytes`.

    Rows have seq, type, at, event and fanned_out, which is true if the event's webhook deliveries exist.
    """
    return await reader.fetch_all(SELECT_PENDING, {"count": count, "bytes": max_bytes})


async def delete_published(tx: Transaction, published: Sequence[int]) -> None:
    """Remove published events from the outbox. `published` holds their seqs in ascending order."""
    if published[-1] - published[0] + 1 == len(published):  # contiguous, so the range contains no other event
        await tx.execute(DELETE_EVENT_RANGE, {"first": published[0], "last": published[-1]})
        return
    await tx.execute(DELETE_EVENT, [{"published": seq} for seq in published])
