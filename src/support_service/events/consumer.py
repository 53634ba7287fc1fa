"""Consumer of inbound events: reads the events of other services from their stream and applies each one once.

An event that cannot be parsed is dead-lettered at once; an event that fails is dead-lettered after MAX_TRIES. Neither
blocks other events. While the database is unavailable or locked, the consumer keeps its events and waits, and no try is
counted.
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
from datetime import UTC, datetime
from typing import Literal

from support_service.core.errors import SupportError, Unavailable
from support_service.core.ids import new_id
from support_service.database.protocols import DATABASE_BUSY
from support_service.events import envelope
from support_service.events.broker.memory import Broker, BrokerError, Delivery, StreamBacklog, StreamFullError
from support_service.events.inbound_events import InboundEvent
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Observations
from support_service.telemetry.labels import EVENTS_IN, OTHER, known_or_other

MAX_TRIES = 5
# Deliveries after which an event that never finishes is dead-lettered: it crashes each consumer that handles it.
MAX_DELIVERIES = 2 * MAX_TRIES
# Seconds that one try waits for a locked database. Five tries outlast a migration; an event that never gets the lock is
# dead-lettered after them.
LOCK_WAIT = 120.0
READ_BATCH = 16  # events per read or claim
MAX_CONCURRENT_EVENTS = 4  # concurrent transactions: on PostgreSQL, network round trips take most of an event's time
READ_WAIT = 1.0  # seconds that one read blocks for the first event
DRAIN_POLL_INTERVAL = 0.05  # polling interval in seconds, while a shutdown waits for pending events
PING_TIMEOUT = 2.0  # timeout of a database ping, in seconds
BACKOFF = (0.1, 2.0)  # first and maximum delay after a failure, in seconds
MAX_WAITING_EVENTS = 100_000  # maximum number of waiting events; beyond it, events sent by HTTP are rejected

ApplyOutcome = Literal["applied", "unmatched", "duplicate"]
ApplyEvent = Callable[[InboundEvent], Awaitable[ApplyOutcome]]

log = logging.getLogger(__name__)


class EventConsumer:
    """One member of the consumer group that reads the stream of inbound events.

    `apply` applies an event in its own transaction. `ping` raises Unavailable while the database is unavailable.
    `claim_after` is the time in seconds after which an unacknowledged event is claimed from another consumer.
    """

    def __init__(
        self,
        broker: Broker,
        apply: ApplyEvent,
        instruments: Instruments,
        *,
        stream: str,
        claim_after: float,
        ping: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._apply = apply
        self._ping = ping
        self._instruments = instruments
        self._stream = stream
        self._claim_after = claim_after
        self._name = f"{platform.node()}-{os.getpid()}-{new_id()[:8]}"
        self._claim_at = 0.0
        self._depth: StreamBacklog | None = None
        instruments.observe(rows.EVENTS_STREAM_LAG, self._observe_lag)
        instruments.observe(rows.EVENTS_DEAD_LETTERS, lambda: [(self._depth.dead, {})] if self._depth else [])

    async def run(self) -> None:
        """Consume events until cancelled; back off after a failure."""
        failures = 0
        while True:
            try:
                await self._consume_batch()
                failures = 0
            except BrokerError as fault:
                if not failures:
                    log.warning("No events come in: %s", fault)
                failures += 1
            except Exception:
                log.exception("The consumer failed; it goes on")
                failures += 1
            if failures:
                await _back_off(failures)

    async def accept(self, event: InboundEvent) -> None:
        """Accept an event sent by HTTP: append it to the stream, or apply it directly if the broker is down.

        Raises Unavailable (`events_busy`) if MOST events are waiting.
        """
        try:
            await self._broker.publish(self._stream, [envelope.serialize(event)], keep=MAX_WAITING_EVENTS, lose=False)
        except StreamFullError as full:
            raise Unavailable("events_busy", "Too many events wait; send it again later.") from full
        except BrokerError:
            if event.data is not None:
                self._count(event, await self._apply(event))

    async def refresh_depth(self) -> None:
        """Trim the stream and read its depth for the gauges. The depth is unknown while the broker is down."""
        try:
            await self._broker.trim(self._stream)
            self._depth = await self._broker.depth(self._stream)
        except BrokerError:
            self._depth = None

    async def finish(self, until: float) -> None:
        """Wait until `run` has handled all waiting events, or until the event loop's clock reaches `until`."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while (await self._broker.depth(self._stream)).waiting:  # noqa: ASYNC110 - an asyncio.Event would be set by every batch
                    await asyncio.sleep(DRAIN_POLL_INTERVAL)

    def _observe_lag(self) -> Observations:
        return [] if self._depth is None or self._depth.waiting is None else [(self._depth.waiting, {})]

    async def _consume_batch(self) -> None:
        """Handle events that other consumers left unacknowledged; if there are none, read and handle new events."""
        deliveries: list[Delivery] = []
        now = time.monotonic()
        # While the database is unavailable, events that wait for it must not be claimed: a claim counts a try.
        if now >= self._claim_at and await self._database_available():
            deliveries = await self._broker.claim(
                self._stream, self._name, count=READ_BATCH, idle=self._claim_after, alone=MAX_TRIES
            )
            if not deliveries:
                self._claim_at = now + self._claim_after * random.uniform(0.4, 0.6)
        if not deliveries:
            wait = min(READ_WAIT, self._claim_after / 2)
            deliveries = await self._broker.receive(self._stream, self._name, count=READ_BATCH, wait=wait)
        await self._handle_all(deliveries)

    async def _handle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Handle events concurrently, but events with the same reference in order; acknowledge the finished ones."""
        queues: defaultdict[object, list[tuple[Delivery, InboundEvent | SupportError]]] = defaultdict(list)
        for delivery in deliveries:
            event = _parse(delivery)
            key = event.data.references()[0] if isinstance(event, InboundEvent) and event.data else delivery.id
            queues[key].append((delivery, event))
        finished: list[str] = []
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_EVENTS)

        async def handle(queue: list[tuple[Delivery, InboundEvent | SupportError]]) -> None:
            async with semaphore:
                for delivery, event in queue:
                    if await self._handle(delivery, event):
                        finished.append(delivery.id)

        failures = await asyncio.gather(*map(handle, queues.values()), return_exceptions=True)
        await self._broker.acknowledge(self._stream, finished)
        for failure in failures:
            if failure is not None:
                raise failure

    async def _handle(self, delivery: Delivery, event: InboundEvent | SupportError) -> bool:
        """Apply an event, or dead-letter it. Return True if the caller must acknowledge it."""
        kind = OTHER
        if delivery.tries > MAX_DELIVERIES:
            reason = f"It was handed out {delivery.tries - 1} times and no one came to an end with it."
            return await self._dead_letter(delivery, kind, reason)
        if isinstance(event, SupportError):
            return await self._dead_letter(delivery, kind, str(event))
        try:
            kind = known_or_other(event.type, EVENTS_IN)
            outcome = await self._apply_when_database_available(delivery, event) if event.data is not None else None
        except Exception as failure:
            if delivery.tries >= MAX_TRIES:
                log.exception("Event %s is given up after %d tries", delivery.id, delivery.tries)
                return await self._dead_letter(delivery, kind, f"{type(failure).__name__}: {failure}")
            log.warning("Event %s failed and is tried again: %r", delivery.id, failure)
            self._instruments.events_consumed.add(1, {"type": kind, "outcome": "failed"})
            return False
        if outcome is None:
            self._instruments.events_consumed.add(1, {"type": OTHER, "outcome": "ignored"})
        else:
            self._count(event, outcome)
        return True

    async def _apply_when_database_available(self, delivery: Delivery, event: InboundEvent) -> ApplyOutcome:
        """Apply an event; wait while the database is unavailable, or locked for up to LOCKED seconds.

        Raises Unavailable if the lock lasts longer, or if the database responds and rejects this event alone.
        """
        failures, until = 0, math.inf
        while True:
            try:
                return await self._apply(event)
            except Unavailable as failure:
                if failure.code == DATABASE_BUSY:
                    now = time.monotonic()
                    until = min(until, now + LOCK_WAIT)
                    if now >= until:
                        raise
                    # If this fails, another consumer may claim the event: it finds it applied, or waits as well.
                    with suppress(BrokerError):
                        await self._broker.keep(self._stream, self._name, delivery)
                # The database responds, so it rejected this event alone: count a try.
                elif failure.code != "database_unavailable" or await self._database_available():
                    raise
                if not failures:
                    log.warning("Events wait for the database: %s", failure)
                failures += 1
            await _back_off(failures)

    async def _database_available(self) -> bool:
        """Return True if the database responds to a ping within PING seconds."""
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                await self._ping()
        except (Unavailable, TimeoutError):
            return False
        return True

    async def _dead_letter(self, delivery: Delivery, kind: str, reason: str) -> bool:
        """Move an event to the dead letters, which also acknowledges it. Return False."""
        # An event over MAX_EVENT is truncated: its beginning suffices to identify the sender.
        truncated = Delivery(delivery.id, delivery.event[: envelope.MAX_EVENT_BYTES], delivery.tries)
        await self._broker.bury(self._stream, truncated, reason[:1000], datetime.now(UTC).isoformat(timespec="seconds"))
        self._instruments.events_consumed.add(1, {"type": kind, "outcome": "dead"})
        return False

    def _count(self, event: InboundEvent, outcome: ApplyOutcome) -> None:
        """Count a consumed event, and record the delivery lag of an applied one."""
        self._instruments.events_consumed.add(1, {"type": known_or_other(event.type, EVENTS_IN), "outcome": outcome})
        if outcome == "applied":
            lag = (datetime.now(UTC) - event.happened_at).total_seconds()
            self._instruments.events_delivery_lag.record(max(0.0, lag))


def _parse(delivery: Delivery) -> InboundEvent | SupportError:
    """Return the parsed event, or the error that parsing raised."""
    try:
        return envelope.parse(delivery.event)
    except SupportError as refusal:
        return refusal


async def _back_off(failures: int) -> None:
    """Sleep for an exponential backoff with jitter."""
    await asyncio.sleep(min(BACKOFF[1], BACKOFF[0] * 2 ** min(failures - 1, 10)) * random.uniform(0.5, 1))
