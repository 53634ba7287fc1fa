"""The status of each dependency: asked for `/readyz`, and in the background for the metrics."""

import asyncio
from collections.abc import Callable, Mapping

from support_service.api.models.service import Ready
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, UpstreamService
from support_service.core.errors import Unavailable
from support_service.core.part_state import OK
from support_service.guard.overload import Readiness
from support_service.platform.database import Database
from support_service.platform.database.failures import COMMIT_NOT_REPLICATED, DATABASE_READ_ONLY, DATABASE_UNAVAILABLE
from support_service.platform.telemetry.instruments import InstrumentSpec, Observations
from support_service.timeline.cache import CacheUnavailable, SnapshotStore

CACHE_UNAVAILABLE = "cache_unavailable"
DEPENDENCY_NAMES = tuple(name for name in Ready.model_fields if name not in ("status", "sources"))
# A replica that answers reads stays behind the load balancer.
STATUSES_THAT_SERVE_READS = (OK, DATABASE_READ_ONLY, COMMIT_NOT_REPLICATED)

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
    {"dependency": (*DEPENDENCY_NAMES, *UPSTREAM_SERVICES), "status": None},
)


class DependencyMonitor:
    """Finds the status of each dependency, and keeps the last one for the metrics."""

    def __init__(
        self,
        readiness: Readiness,
        database: Database,
        cache: SnapshotStore,
        *,
        parts: Mapping[str, Callable[[], str]],
        sources: Callable[[], Mapping[UpstreamService, str]],
        ping_timeout: float,
    ) -> None:
        """`parts` return what the last use of the other dependencies showed. `ping_timeout` is in seconds."""
        self._readiness = readiness
        self._database = database
        self._cache = cache
        self._parts = parts
        self._sources = sources
        self._ping_timeout = ping_timeout
        self._last: Ready | None = None

    async def read_readiness(self) -> Ready:
        """Ask the database and the cache; of the other dependencies, return what their last use showed."""
        database, cache = await asyncio.gather(self.database_status(), self._cache_status())
        ready = "ready" if database in STATUSES_THAT_SERVE_READS else "unavailable"
        self._last = Ready(
            status=ready if self._readiness.accepting else "stopping",
            database=database,
            cache=cache,
            **{name: status() for name, status in self._parts.items()},
            sources=dict(self._sources()),
        )
        return self._last

    async def is_cache_available(self) -> bool:
        """Return True if the cache answers within the time of a ping."""
        try:
            async with asyncio.timeout(self._ping_timeout):
                return await self._cache_status() == OK
        except TimeoutError:
            return False

    async def refresh(self) -> None:
        """Find the status again for the metrics."""
        await self.read_readiness()

    async def database_status(self) -> str:
        """Ping the database; return OK or a problem code.

        A ping is a separate task, because cancelling a hanging one takes longer than its timeout. At most one runs at a
        time; concurrent requests share it.
        """
        readiness = self._readiness
        if readiness.ping_task is None or readiness.ping_task.done():
            readiness.ping_task = asyncio.create_task(self._database.ping())
        ping = readiness.ping_task
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

    def observe_ready(self) -> Observations:
        """Return whether the replica was ready when it was last asked, and has not begun to stop since.

        The last export of a process says so: rules for pushed metrics take a replica that ends otherwise for lost.
        """
        if self._last is None:
            return []
        return [(int(self._last.status == "ready" and self._readiness.accepting), {})]

    def observe_statuses(self) -> Observations:
        """Return 1 for the last status of each dependency."""
        last = self._last
        if last is None:
            return []
        found = {name: getattr(last, name) for name in DEPENDENCY_NAMES} | last.sources
        return [(1, {"dependency": name, "status": status}) for name, status in found.items()]

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
