"""Metrics of database and Redis operations and of their connection pools, and what Redis servers say of themselves."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol

from support_service.platform.background import run_every, run_in_background
from support_service.platform.telemetry.batches import BatchedHistogram
from support_service.platform.telemetry.instruments import OTHER, Observations, known_or_other
from support_service.platform.telemetry.instruments.stores import CONNECTION_STATES, EVICTION_POLICIES, OTHER_ERROR

POOL_NAME = "db.client.connection.pool.name"
UNLIMITED = 1_000_000  # redis-py's default number of connections is higher
REFRESH_INTERVAL = 30.0  # seconds between two readings of the state of a Redis server


class RecordOperation(Protocol):
    """Callback for each finished operation: name, duration in seconds, and error type (empty on success)."""

    def __call__(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record the operation."""


def discard_operation(_operation: str, _seconds: float, _error: str = "", /) -> None:
    """Discard the measurement."""


class OperationMetrics:
    """Recorder of the operations on one system; operation names come from a closed vocabulary."""

    def __init__(
        self,
        duration: BatchedHistogram,
        system: str,
        operations: Iterable[str],
        record_span: Callable[[str, float, str], None] | None = None,
    ) -> None:
        """`record_span` is called with each finished operation; see Tracing.of_operations."""
        self._duration = duration
        self._record_span = record_span
        self._success_labels = {name: {"db.system.name": system, "db.operation.name": name} for name in operations}
        for labels in self._success_labels.values():
            duration.expect(labels)

    def record(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record an operation and its duration in seconds; `error` is one of ERRORS, or OTHER."""
        labels = self._success_labels[operation]
        if error:
            labels = {**labels, "error.type": OTHER_ERROR if error == OTHER else error}
        self._duration.record(seconds, labels)
        if self._record_span is not None:
            self._record_span(operation, seconds, error)


class PoolState(NamedTuple):
    """The connections of a pool. `limit` is None without a limit; `waiting` operations wait for a connection."""

    used: int
    idle: int
    limit: int | None = None
    waiting: int = 0


def redis_pool_state(pool: Any) -> PoolState:
    """Return the state of a redis-py pool, which has no public method for this; who gets no connection fails."""
    limit = pool.max_connections if pool.max_connections < UNLIMITED else None
    return PoolState(len(pool._in_use_connections), len(pool._available_connections), limit)  # noqa: SLF001


class PoolMetrics:
    """The observations of the pools that `pools` has by name; each is read once per scrape and instrument."""

    def __init__(self, pools: Mapping[str, Callable[[], PoolState]]) -> None:
        self._pools = pools

    def connections(self) -> Observations:
        """Return the used and idle connections of each pool."""
        return [
            (number, {POOL_NAME: name, "db.client.connection.state": state})
            for name, read in self._pools.items()
            for state, number in zip(CONNECTION_STATES, read()[:2], strict=True)
        ]

    def limits(self) -> Observations:
        """Return the limit of each pool that has one."""
        limits = [(name, read().limit) for name, read in self._pools.items()]
        return [(limit, {POOL_NAME: name}) for name, limit in limits if limit is not None]

    def waiting(self) -> Observations:
        """Return how many operations wait for a connection of each pool."""
        return [(read().waiting, {POOL_NAME: name}) for name, read in self._pools.items()]


class RedisServerState(NamedTuple):
    """What a Redis server says of itself. `memory` and `memory_limit` are in bytes; a limit of 0 means none."""

    role: str  # one of REDIS_ROLES
    policy: str
    evicted: int
    memory: int
    memory_limit: int


class RedisServerMetrics:
    """The observations of the Redis servers whose state `servers` has by name; None is an unknown state."""

    def __init__(self, servers: Mapping[str, Callable[[], RedisServerState | None]]) -> None:
        self._servers = servers

    def roles(self) -> Observations:
        """Return 1 for the role of each server."""
        return [(1, {"server": name, "role": state.role}) for name, state in self._known()]

    def policies(self) -> Observations:
        """Return 1 for the eviction policy of each server."""
        return [
            (1, {"server": name, "policy": known_or_other(state.policy, EVICTION_POLICIES)})
            for name, state in self._known()
        ]

    def evicted(self) -> Observations:
        """Return the number of keys that each server has evicted."""
        return [(state.evicted, {"server": name}) for name, state in self._known()]

    def memory(self) -> Observations:
        """Return the memory that each server uses."""
        return [(state.memory, {"server": name}) for name, state in self._known()]

    def memory_limits(self) -> Observations:
        """Return the memory limit of each server."""
        return [(state.memory_limit, {"server": name}) for name, state in self._known()]

    def _known(self) -> list[tuple[str, RedisServerState]]:
        return [(name, state) for name, read in self._servers.items() if (state := read()) is not None]


class RedisServerMonitor:
    """Reads the state of a server; `state` is None while it is unknown."""

    def __init__(self, client: Any) -> None:
        """`client` is redis-py's asynchronous client, whose types do not say what it returns."""
        self._client = client
        self.state: RedisServerState | None = None

    async def refresh(self) -> None:
        """Read the state again. It stays unknown if the server does not answer, or refuses INFO to the user."""
        try:
            replication: Mapping[str, Any] = await self._client.info("replication")
            memory: Mapping[str, Any] = await self._client.info("memory")
            stats: Mapping[str, Any] = await self._client.info("stats")
            self.state = RedisServerState(
                "master" if replication["role"] == "master" else "replica",
                str(memory["maxmemory_policy"]),
                int(stats["evicted_keys"]),
                int(memory["used_memory"]),
                int(memory["maxmemory"]),
            )
        except Exception:  # noqa: BLE001 - other parts report a server that fails; this only describes one that answers
            self.state = None


@asynccontextmanager
async def monitored_server(
    servers: dict[str, Callable[[], RedisServerState | None]], name: str, client: Any
) -> AsyncIterator[None]:
    """Read the state of a server in the background while the block runs; add it to `servers` under its name."""
    monitor = RedisServerMonitor(client)
    servers[name] = lambda: monitor.state
    reading = run_every(REFRESH_INTERVAL, monitor.refresh, "Reading the state of Redis", first=0.0)
    async with run_in_background(reading):
        yield
