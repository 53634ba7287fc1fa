"""Consumer of inbound events: reads the events of other services from their stream and applies each one once.

An event that cannot be parsed is dead-lettered at once, and an event that fails after `MAX_TRIES` tries. Neither blocks
other events. While the database is unavailable, the consumer keeps its events and waits, and no try is counted. While
the database is locked, each `lock_wait` counts one try: an event that alone never gets its lock is given up.
"""

import asyncio
import logging
import math
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import sqlalchemy as sa

from support_service.core.clock import Backoff, utc_now
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.ids import new_id
from support_service.core.part_state import OK, OncallCard
from support_service.events import envelope
from support_service.events.broker.base import OUTAGES, Broker, BrokerError, Delivery, StreamBacklog
from support_service.events.inbound_events import InboundEvent
from support_service.platform.background import Job
from support_service.platform.database import Database, Transaction
from support_service.platform.database.dialect import UtcDateTime, insert_if_new
from support_service.platform.database.failures import BUSY_CODES, REFUSING_CODES, UNAVAILABLE_CODES
from support_service.platform.database.statements import compiled, delete_in_batches
from support_service.platform.database.tables import inbound_events
from support_service.platform.telemetry.instruments import (
    OTHER,
    Instruments,
    InstrumentSpec,
    LastReading,
    known_or_other,
)
from support_service.platform.telemetry.traces import UNTRACED, MessageSpans, fail_span

EVENT_ID_RETENTION = timedelta(days=14)  # a later duplicate is applied again
PURGE_INTERVAL = 3600.0  # seconds between deletions of old event ids
PURGE_BATCH = 500  # event ids deleted per transaction

ApplyOutcome = Literal["applied", "unmatched", "duplicate"]
ApplyEvent = Callable[[InboundEvent], Awaitable[ApplyOutcome]]

log = logging.getLogger(__name__)

INBOUND_TYPE_LABELS = ("fulfillment.shipment.updated.v1", "order.status.changed.v1", "payment.status.changed.v1", OTHER)
# applied: to at least one case; unmatched: no open case refers to its order; failed: retried later; dead: given up.
CONSUMPTION_OUTCOMES = ("applied", "unmatched", "duplicate", "ignored", "failed", "dead")
EVENTS_CONSUMED = InstrumentSpec(
    "support.events.consumed",
    "counter",
    "{event}",
    "Inbound events. Done: applied to at least one case, unmatched by any open case, duplicate, ignored (unknown "
    "type). Not done: failed (retried later), dead (moved to the dead letters)",
    {"type": INBOUND_TYPE_LABELS, "outcome": CONSUMPTION_OUTCOMES},
)
EVENTS_DELIVERY_LAG = InstrumentSpec(
    "support.events.delivery_lag",
    "histogram",
    "s",
    "Time from an inbound event, by the clock of its service, to its application to cases",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0),
)
EVENTS_STREAM_LAG = InstrumentSpec(
    "support.events.stream_lag", "gauge", "{event}", "Events of other services that wait, or are in work"
)
EVENTS_DEAD_LETTERS = InstrumentSpec(
    "support.events.dead_letters", "gauge", "{event}", "Inbound events in the dead letters"
)


MAX_TRIES = 5  # of an event that fails; then it becomes a dead letter
MAX_DELIVERIES = 10  # of an event that never finishes: it crashes each consumer that handles it
READ_BATCH = 16  # events per read or claim
MAX_CONCURRENT_EVENTS = 4  # on PostgreSQL, network round trips take most of an event's time
READ_WAIT = 1.0  # seconds, for the first event of a read
DRAIN_POLL_INTERVAL = 0.05  # seconds, while a shutdown waits for pending events


@dataclass(frozen=True, slots=True)
class ConsumerTimings:
    """Times in seconds, and limits."""

    # For a locked database, per try. Five tries outlast a migration; an event that never gets the lock is dead-lettered
    # after them.
    lock_wait: float = 120.0
    ping_timeout: float = 2.0  # of the database
    backoff: Backoff = Backoff(0.1, 2.0)
    max_waiting_events: int = 100_000  # beyond it, events sent by HTTP are rejected


BROKER_UNAVAILABLE_CODE = "broker_unavailable"
BROKER_SILENT_MESSAGE = "The Redis of events does not answer."


class EventConsumer:
    """One member of the consumer group that reads the stream of inbound events.

    `apply` applies an event in its own transaction. `ping` raises Unavailable while the database is unavailable.
    `keep` is the number of applied events that stay in the stream.
    `claim_after` is the time in seconds after which an unacknowledged event is claimed from another consumer.
    """

    def __init__(
        self,
        broker: Broker,
        apply: ApplyEvent,
        instruments: Instruments,
        *,
        stream: str,
        keep: int = 0,
        claim_after: float,
        ping: Callable[[], Awaitable[None]],
        timings: ConsumerTimings = ConsumerTimings(),
        spans: MessageSpans = UNTRACED,
    ) -> None:
        self._broker = broker
        self._apply = apply
        self._ping = ping
        self._instruments = instruments
        self._stream = stream
        self._keep = keep
        self._claim_after = claim_after
        self._timings = timings
        self._spans = spans
        self._name = f"{platform.node()}-{os.getpid()}-{new_id()[:8]}"
        self._claim_at = 0.0
        self._backlog = LastReading[StreamBacklog]()
        instruments.observe(
            EVENTS_STREAM_LAG,
            self._backlog.observations(lambda read: [] if read.waiting is None else [(read.waiting, {})]),
        )
        instruments.observe(EVENTS_DEAD_LETTERS, self._backlog.observations(lambda read: [(read.dead, {})]))

    async def run(self) -> None:
        """Consume events until cancelled; back off after a failure."""
        await Job("Consuming events", 0, self._consume_batch).run_with_backoff(self._timings.backoff, OUTAGES)

    async def accept_event(self, event: InboundEvent) -> None:
        """Accept an event sent by HTTP: append it to the stream, or apply it directly if the broker is down.

        An event of an unknown type is only counted. Raises Unavailable (`events_busy`) if `max_waiting_events` events
        are waiting.
        """
        if event.data is None:
            self._count_ignored()
            return
        try:
            most = self._timings.max_waiting_events
            await self._broker.publish(self._stream, [envelope.serialize_event(event)], max_length=most, trim=False)
        except BrokerError as failure:
            if failure.full:
                raise problem("events_busy", "Too many events are waiting; send it again later.") from failure
            self._count_consumed(event, await self._apply(event))

    async def refresh_backlog(self) -> None:
        """Trim the stream and read its backlog for the gauges. It is unknown while the broker is down."""
        try:
            await self._broker.trim(self._stream, self._keep)
            self._backlog.store(await self._broker.backlog(self._stream))
        except BrokerError:
            self._backlog.store(None)

    def status(self) -> str:
        """Return OK, or `broker_unavailable` if the broker did not answer when the backlog was last read."""
        return OK if self._backlog.value else BROKER_UNAVAILABLE_CODE

    def stream_card(self) -> OncallCard:
        """Return what on-call is shown of the stream of inbound events."""
        found = self._backlog.value
        return self._new_card(waiting=found.waiting if found else None)

    def dead_letters_card(self) -> OncallCard:
        """Return what on-call is shown of the events that were given up."""
        found = self._backlog.value
        return self._new_card(count=found.dead if found else None)

    def _new_card(self, **figures: int | None) -> OncallCard:
        return OncallCard(self._backlog.read_at, figures, None if self._backlog.value else BROKER_SILENT_MESSAGE)

    async def handle_waiting(self, until: float) -> None:
        """Wait until `run` has handled all waiting events, or until the event loop's clock reaches `until`."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while (await self._broker.backlog(self._stream)).waiting:  # noqa: ASYNC110 - an asyncio.Event would be set by every batch
                    await asyncio.sleep(DRAIN_POLL_INTERVAL)

    async def _consume_batch(self) -> None:
        """Handle events that other consumers left unacknowledged; if there are none, read and handle new events."""
        deliveries: list[Delivery] = []
        now = time.monotonic()
        # While the database is unavailable, events that wait for it must not be claimed: a claim counts a try.
        if now >= self._claim_at and await self._is_database_available():
            deliveries = await self._broker.claim(
                self._stream, self._name, count=READ_BATCH, min_idle=self._claim_after, isolate_after=MAX_TRIES
            )
            if not deliveries:
                self._claim_at = now + self._claim_after * random.uniform(0.4, 0.6)
        if not deliveries:
            wait, count = min(READ_WAIT, self._claim_after / 2), READ_BATCH
            deliveries = await self._broker.receive(self._stream, self._name, count=count, wait=wait)
        await self._handle_all(deliveries)

    async def _handle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Handle events concurrently, but events with the same reference in order; acknowledge the finished ones."""
        queues: defaultdict[object, list[tuple[Delivery, InboundEvent | SupportError]]] = defaultdict(list)
        for delivery in deliveries:
            event = _parse_or_refuse(delivery)
            key = event.data.references()[0] if isinstance(event, InboundEvent) and event.data else delivery.id
            queues[key].append((delivery, event))
        finished: list[str] = []
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_EVENTS)

        async def handle(queue: list[tuple[Delivery, InboundEvent | SupportError]]) -> None:
            async with semaphore:
                for delivery, event in queue:
                    if await self._handle_in_trace(delivery, event):
                        finished.append(delivery.id)

        failures = await asyncio.gather(*map(handle, queues.values()), return_exceptions=True)
        await self._broker.acknowledge(self._stream, finished)
        for failure in failures:
            if failure is not None:
                raise failure

    async def _handle_in_trace(self, delivery: Delivery, event: InboundEvent | SupportError) -> bool:
        """Handle an event in its trace, so that its log lines, and the events that it causes, belong to that."""
        event_id, sent = (event.id, event.trace) if isinstance(event, InboundEvent) else (delivery.id, {})
        with self._spans.processing(self._stream, event_id, sent):
            return await self._apply_or_dead_letter(delivery, event)

    async def _apply_or_dead_letter(self, delivery: Delivery, event: InboundEvent | SupportError) -> bool:
        """Apply an event, or dead-letter it. Return True if the caller must acknowledge it."""
        event_type = OTHER
        if delivery.tries > MAX_DELIVERIES:
            reason = f"It was delivered {delivery.tries - 1} times, and no consumer finished it."
            return await self._move_to_dead_letters(delivery, event_type, reason)
        if isinstance(event, SupportError):
            return await self._move_to_dead_letters(delivery, event_type, str(event))
        try:
            event_type = known_or_other(event.type, INBOUND_TYPE_LABELS)
            outcome = await self._apply_when_database_available(delivery, event) if event.data is not None else None
        except Exception as failure:
            fail_span(type(failure).__name__)
            if delivery.tries >= MAX_TRIES:
                log.exception("Event %s is dead-lettered after %d tries", delivery.id, delivery.tries)
                return await self._move_to_dead_letters(delivery, event_type, f"{type(failure).__name__}: {failure}")
            log.warning("Event %s failed and is retried: %r", delivery.id, failure)
            self._instruments.add(EVENTS_CONSUMED, 1, {"type": event_type, "outcome": "failed"})
            return False
        if outcome is None:
            self._count_ignored()
        else:
            self._count_consumed(event, outcome)
        return True

    async def _apply_when_database_available(self, delivery: Delivery, event: InboundEvent) -> ApplyOutcome:
        """Apply an event; wait while the database is unavailable or refuses changes, or busy for up to `lock_wait`.

        Raises Unavailable if it is busy for longer, or if the database responds and rejects this event alone.
        """
        failures, until = 0, math.inf
        while True:
            try:
                return await self._apply(event)
            except Unavailable as failure:
                if failure.code in BUSY_CODES:
                    until = min(until, time.monotonic() + self._timings.lock_wait)
                    if time.monotonic() >= until:
                        raise
                    # If this fails, another consumer may claim the event: it finds it applied, or waits as well.
                    with suppress(BrokerError):
                        await self._broker.renew_claim(self._stream, self._name, delivery)
                # The database responds, so it rejected this event alone: count a try.
                elif failure.code not in REFUSING_CODES and (
                    failure.code not in UNAVAILABLE_CODES or await self._is_database_available()
                ):
                    raise
                # The log has it once a minute: see telemetry/logs.py.
                log.warning("Events wait for the database: %s", failure, exc_info=failure)
                failures += 1
            await asyncio.sleep(self._timings.backoff.delay(failures))

    async def _is_database_available(self) -> bool:
        """Return True if the database responds to a ping within `ping_timeout`."""
        try:
            async with asyncio.timeout(self._timings.ping_timeout):
                await self._ping()
        except (Unavailable, TimeoutError):
            return False
        return True

    async def _move_to_dead_letters(self, delivery: Delivery, event_type: str, reason: str) -> bool:
        """Move an event to the dead letters, which also acknowledges it. Return False."""
        # An event over MAX_EVENT_BYTES is truncated: its beginning suffices to identify the sender.
        truncated = Delivery(delivery.id, delivery.event[: envelope.MAX_EVENT_BYTES], delivery.tries)
        at = utc_now().isoformat(timespec="seconds")
        await self._broker.move_to_dead_letters(self._stream, self._name, truncated, reason[:1000], at)
        self._instruments.add(EVENTS_CONSUMED, 1, {"type": event_type, "outcome": "dead"})
        return False

    def _count_ignored(self) -> None:
        self._instruments.add(EVENTS_CONSUMED, 1, {"type": OTHER, "outcome": "ignored"})

    def _count_consumed(self, event: InboundEvent, outcome: ApplyOutcome) -> None:
        """Count a consumed event, and record the delivery lag of an applied one."""
        self._instruments.add(
            EVENTS_CONSUMED, 1, {"type": known_or_other(event.type, INBOUND_TYPE_LABELS), "outcome": outcome}
        )
        if outcome == "applied":
            lag = (utc_now() - event.happened_at).total_seconds()
            self._instruments.record(EVENTS_DELIVERY_LAG, max(0.0, lag))


def _parse_or_refuse(delivery: Delivery) -> InboundEvent | SupportError:
    try:
        return envelope.parse_event(delivery.event)
    except SupportError as error:
        return error


# The inbox: the ids of events, so that each is applied once. Transactions that apply an event use it.
_INBOUND = inbound_events.c
_IS_EVENT = sa.and_(_INBOUND.source == sa.bindparam("event_source"), _INBOUND.id == sa.bindparam("event_id"))
INSERT_EVENT = compiled(insert_if_new(inbound_events))
LOCK_EVENT = sa.select(_INBOUND.reached, _INBOUND.done).where(_IS_EVENT).with_for_update()
UPDATE_PROGRESS = (
    inbound_events.update().where(_IS_EVENT).values(reached=sa.bindparam("last"), done=sa.bindparam("whole"))
)
_SELECT_EXPIRED = (
    sa.select(_INBOUND.source, _INBOUND.id)
    .where(_INBOUND.at < sa.bindparam("before", type_=UtcDateTime()), _INBOUND.done.is_(sa.true()))
    .order_by(_INBOUND.at)
    .limit(sa.bindparam("count"))
)
DELETE_EXPIRED = inbound_events.delete().where(sa.tuple_(_INBOUND.source, _INBOUND.id).in_(_SELECT_EXPIRED))


async def begin_applying(tx: Transaction, event: InboundEvent) -> int | None:
    """Begin to apply an event. Return the seq of the last case it was applied to, 0 if new, None if already applied.

    This transaction records a new event as completely applied, unless `record_progress` records that more cases remain.
    A concurrent transaction that begins the same event waits for this one.
    """
    inserted = {"source": event.source, "id": event.id, "at": utc_now(), "reached": 0, "done": True}
    if await tx.execute(INSERT_EVENT, inserted):
        return 0
    row = await tx.fetch_now(LOCK_EVENT, {"event_source": event.source, "event_id": event.id})
    return None if row is None or row.done else row.reached


async def record_progress(tx: Transaction, event: InboundEvent, last_case_seq: int, *, is_done: bool) -> None:
    """Record an event's progress: `last_case_seq` is the seq of the last case it was applied to."""
    key = {"event_source": event.source, "event_id": event.id}
    await tx.execute(UPDATE_PROGRESS, {**key, "last": last_case_seq, "whole": is_done})


async def delete_expired(database: Database, batch: int = PURGE_BATCH) -> None:
    """Delete the ids of applied events that are older than the retention, `batch` of them per transaction."""
    expired = {"before": utc_now() - EVENT_ID_RETENTION, "count": batch}
    await delete_in_batches(database, lambda tx: tx.execute(DELETE_EXPIRED, expired), batch)
