"""Outbox relay: publishes the events of the outbox to the broker, in order, at least once.

A lease in the database elects one relaying process. A fencing token keeps a process that stalled from publishing after
another process has taken its lease. While the broker is down, the outbox grows; nothing else is affected.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from support_service.core.errors import Unavailable
from support_service.core.ids import new_id
from support_service.database import Database, Row
from support_service.events import store
from support_service.events.broker.memory import Broker, BrokerError, FencedError
from support_service.events.webhooks import WebhookEndpoint
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Observations

POLL_INTERVAL = 0.1  # polling interval in seconds: an event waits half of it on average, and under load batches form
PUBLISH_BATCH = 200  # maximum number of events per publication
PUBLISH_BATCH_BYTES = 4 << 20  # maximum size of a publication
LEASE_DURATION = 6.0  # seconds; if the leader dies, publishing stops for about this long
# Tolerated clock skew in seconds. A lease that expires later than this allows was taken by a replica with a wrong
# clock, which may have died and left a lease that is valid for years.
MAX_CLOCK_SKEW = 60.0
BACKOFF = (0.5, 5.0)  # first and maximum delay after a failure, in seconds

log = logging.getLogger(__name__)


class OutboxRelay:
    """Publishes the events of the outbox to one stream, and creates a webhook delivery for each endpoint.

    `keep` is the approximate maximum length of the stream.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        instruments: Instruments,
        *,
        stream: str,
        keep: int,
        endpoints: Iterable[WebhookEndpoint] = (),
    ) -> None:
        self._database = database
        self._broker = broker
        self._instruments = instruments
        self._stream = stream
        self._keep = keep
        self._endpoints = tuple(endpoints)
        self._holder = new_id()
        self._fence = self._newer_fence = 0  # our fencing token, and the newer token that made the broker reject it
        self._lease_ends_at = self._renew_at = 0.0  # monotonic clock
        self._lease_lock, self._fan_out_lock = asyncio.Lock(), asyncio.Lock()
        self._backlog: tuple[int, str | None] | None = None
        instruments.observe(rows.EVENTS_OUTBOX_PENDING, lambda: [(self._backlog[0], {})] if self._backlog else [])
        instruments.observe(rows.EVENTS_OUTBOX_OLDEST, self._observe_oldest)

    @property
    def leads(self) -> bool:
        """True while this process holds the lease."""
        return time.monotonic() < self._lease_ends_at

    async def run(self) -> None:
        """Relay until cancelled. Webhook deliveries are created in a separate task, independent of the broker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_loop())
            if self._endpoints:
                group.create_task(self._fan_out_loop())

    async def _fan_out_loop(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(BACKOFF[1] if failing else POLL_INTERVAL)
            try:
                while await self._hold_lease() and await self._fan_out() == PUBLISH_BATCH:
                    pass
                failing = False
            except Unavailable as failure:
                log.warning("Webhook deliveries wait for the database: %s", failure)
                failing = True
            except Exception:
                log.exception("Making webhook deliveries failed; it goes on")
                failing = True

    async def _publish_loop(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(POLL_INTERVAL if not failures else min(BACKOFF[1], BACKOFF[0] * 2 ** (failures - 1)))
            try:
                while await self._publish_batch() == PUBLISH_BATCH:
                    pass
                if failures:
                    log.info("Events are published again")
                failures = 0
            except (BrokerError, Unavailable) as fault:
                if not failures:
                    log.warning("Events can't be published and wait in the outbox: %s", fault)
                failures = min(failures + 1, 16)
            except Exception:
                log.exception("The relay failed; it goes on")
                failures = min(failures + 1, 16)

    async def close(self) -> None:
        """Publish the remaining events for at most one second, then release the lease.

        Errors are logged: events that remain are published by the next process that takes the lease.
        """
        if not self.leads:
            return
        try:
            async with asyncio.timeout(1):
                while await self._publish_batch() == PUBLISH_BATCH:
                    pass
                async with self._database.transaction() as tx:
                    await store.release_lease(tx, "relay", self._holder)
        except Exception as fault:  # noqa: BLE001 - a shutdown must not fail
            log.warning("Events stay in the outbox: %r", fault)

    async def refresh_backlog(self) -> None:
        """Read the size and age of the outbox for the gauges."""
        self._backlog = await store.backlog(self._database)

    async def _publish_batch(self) -> int:
        """Publish the oldest events. Return the number published; 0 if another process holds the lease."""
        if not await self._hold_lease() or not await store.has_pending(self._database):
            return 0
        pending = await store.oldest_events(self._database, PUBLISH_BATCH, PUBLISH_BATCH_BYTES)
        if not pending:  # pragma: no cover - another process has published them since the look
            return 0
        if self._endpoints and not all(row[4] for row in pending):  # deliveries are copied from the outbox
            while await self._fan_out() == PUBLISH_BATCH:
                pass
        try:
            await self._broker.publish(self._stream, [row[3] for row in pending], keep=self._keep, fence=self._fence)
        except BrokerError as fault:
            self._count(pending, "error")
            if isinstance(fault, FencedError):
                self._newer_fence = fault.fence
                self._lease_ends_at = self._renew_at = 0.0
            raise
        async with self._database.transaction() as tx:
            await store.delete_published(tx, [row[0] for row in pending])
        self._count(pending, "ok")
        return len(pending)

    async def _hold_lease(self) -> bool:
        """Take or renew the lease when due. Return True if this process holds it."""
        async with self._lease_lock:
            now = time.monotonic()
            if now < self._renew_at:
                return self.leads
            at = round(time.time() * 1000)
            until, latest = (
                at + round(seconds * 1000) for seconds in (LEASE_DURATION, LEASE_DURATION + MAX_CLOCK_SKEW)
            )
            async with self._database.transaction() as tx:
                fence = await store.take_lease(tx, "relay", self._holder, now=at, until=until, latest=latest)
                newest, self._newer_fence = self._newer_fence, 0
                if fence is not None and fence <= newest:
                    # The broker has a newer token than the database: a clock was ahead, or a backup was restored.
                    log.warning("The relay's fence was behind %d; it goes on with a newer one", newest)
                    fence = newest + 1
                    await store.set_fence(tx, "relay", fence)
            self._renew_at = now + LEASE_DURATION * random.uniform(0.25, 0.5)
            self._lease_ends_at = 0.0 if fence is None else now + LEASE_DURATION
            self._fence = fence or 0
            return fence is not None

    async def _fan_out(self) -> int:
        """Create webhook deliveries for the oldest events without them. Return the number of events handled."""
        async with self._fan_out_lock:
            fresh = await store.events_to_fan_out(self._database, PUBLISH_BATCH)
            if fresh:
                await self._insert_deliveries(fresh)
            return len(fresh)

    async def _insert_deliveries(self, fresh: Sequence[Row]) -> None:
        subscriptions = [
            (endpoint.name, [seq for seq, kind in fresh if not endpoint.types or kind in endpoint.types])
            for endpoint in self._endpoints
        ]
        async with self._database.transaction() as tx:
            await store.fan_out(tx, [seq for seq, _ in fresh], subscriptions, datetime.now(UTC))

    def _count(self, events: Sequence[Row], outcome: str) -> None:
        for kind, number in Counter(row[1] for row in events).items():
            self._instruments.events_published.add(number, {"type": kind, "outcome": outcome})
        if outcome == "ok":  # only the oldest: one record per event would cost as much as the publication
            self._instruments.events_relay_lag.record(_age(events[0][2]))

    def _observe_oldest(self) -> Observations:
        if self._backlog is None:
            return []
        at = self._backlog[1]
        return [(_age(at) if at else 0.0, {})]


def _age(at: str) -> float:
    return max(0.0, time.time() - datetime.fromisoformat(at).timestamp())
