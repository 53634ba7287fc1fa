"""The status of each dependency: asked for `/readyz`, and in the background for the metrics."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from support_service.attachments.service import AttachmentService
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, UpstreamService
from support_service.core.errors import Unavailable
from support_service.events.consumer import EventConsumer
from support_service.guard.overload import Readiness
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.database import Database
from support_service.platform.database.failures import DATABASE_READ_ONLY, DATABASE_UNAVAILABLE
from support_service.platform.telemetry.instruments import InstrumentSpec, Observations
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import CacheUnavailable, SnapshotStore

OK, OFF = "ok", "off"
BROKER_UNAVAILABLE = "broker_unavailable"
CACHE_UNAVAILABLE = "cache_unavailable"
SOURCE_UNAVAILABLE = "source_unavailable"
SERVES_READS = (OK, DATABASE_READ_ONLY)  # a replica that answers reads stays behind the load balancer

REPLICA_READY = InstrumentSpec(
    "support.replica.ready",
    "gauge",
    "{replica}",
    "1 while the replica is ready (`/readyz` answers 200), else 0; asked every 10 s",
)
DEPENDENCY_STATUS = InstrumentSpec(
    "support.dependency.status",
    "gauge",
    "{dependency}",
    "1 for the present status of each dependency, as `/readyz` tells it: ok, off (a source that is not called), or a "
    "code",
    {
        "dependency": ("database", "cache", "events", "storage", "access", *UPSTREAM_SERVICES),
        "status": None,
    },
)


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """The status of each dependency, which is `ok` or a code; a source that is not called is `off`."""

    status: Literal["ready", "unavailable", "stopping"]
    database: str
    cache: str
    events: str
    storage: str
    access: str
    sources: Mapping[UpstreamService, str]


class DependencyMonitor:
    """Finds the status of each dependency, and keeps the last one for the metrics."""

    def __init__(
        self,
        *,
        readiness: Readiness,
        database: Database,
        authenticator: Authenticator,
        attachments: AttachmentService,
        timeline: TimelineAggregator,
        cache: SnapshotStore,
        consumer: EventConsumer,
        ping_timeout: float,
    ) -> None:
        """`ping_timeout` is in seconds."""
        self._readiness = readiness
        self._database = database
        self._authenticator = authenticator
        self._attachments = attachments
        self._timeline = timeline
        self._cache = cache
        self._consumer = consumer
        self._ping_timeout = ping_timeout
        self._last: DependencyStatus | None = None

    async def read(self) -> DependencyStatus:
        """Ask the database and the cache; of the other dependencies, return what their last use showed."""
        database, cache = await asyncio.gather(self.database_status(), self._cache_status())
        status: Literal["ready", "unavailable", "stopping"] = "ready" if database in SERVES_READS else "unavailable"
        if not self._readiness.accepting:
            status = "stopping"
        self._last = DependencyStatus(
            status=status,
            database=database,
            cache=cache,
            events=OK if self._consumer.backlog else BROKER_UNAVAILABLE,
            storage=self._attachments.uploader.store_fault or OK,
            access=self._authenticator.fault or OK,
            sources={service: self._source_status(service) for service in UPSTREAM_SERVICES},
        )
        return self._last

    async def refresh(self) -> None:
        """Find the status again for the metrics."""
        await self.read()

    async def database_status(self) -> str:
        """Ping the database; return OK or a problem code.

        A ping is a separate task, because cancelling a hanging one takes longer than its timeout. At most one runs at a
        time; concurrent requests share it.
        """
        readiness = self._readiness
        if readiness.ping is None or readiness.ping.done():
            readiness.ping = asyncio.create_task(self._database.ping())
        ping = readiness.ping
        done, _ = await asyncio.wait({ping}, timeout=self._ping_timeout)
        if not done:
            if not ping.cancelling():
                ping.cancel()
                ping.add_done_callback(_retrieve_exception)
            return DATABASE_UNAVAILABLE
        failure = asyncio.CancelledError() if ping.cancelled() else ping.exception()
        if failure is None:
            return OK
        return failure.code if isinstance(failure, Unavailable) else DATABASE_UNAVAILABLE

    def ready(self) -> Observations:
        """Return whether the replica was ready when it was last asked."""
        return [] if self._last is None else [(int(self._last.status == "ready"), {})]

    def statuses(self) -> Observations:
        """Return 1 for the last status of each dependency."""
        last = self._last
        if last is None:
            return []
        parts = [(name, getattr(last, name)) for name in ("database", "cache", "events", "storage", "access")]
        return [(1, {"dependency": name, "status": status}) for name, status in (*parts, *last.sources.items())]

    def _source_status(self, service: UpstreamService) -> str:
        client = self._timeline.sources.get(service)
        if client is None or self._timeline.overrides.in_effect(service):
            return OFF
        return OK if client.breaker.state == "closed" else SOURCE_UNAVAILABLE

    async def _cache_status(self) -> str:
        try:
            await self._cache.ping()
        except CacheUnavailable:
            return CACHE_UNAVAILABLE
        return OK


def _retrieve_exception(ping: asyncio.Task[None]) -> None:
    """Retrieve the exception of an abandoned ping, or asyncio would log it as never retrieved."""
    if not ping.cancelled():
        ping.exception()
