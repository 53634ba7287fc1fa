"""Metrics of database and Redis operations and of their connection pools, and what Redis servers say of themselves."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from support_service.platform.background import Job
from support_service.platform.telemetry.instruments import (
    OTHER,
    Instruments,
    InstrumentSpec,
    LastReading,
    Observations,
    known_or_other,
)

POOL_NAME = "db.client.connection.pool.name"
POOL_NAMES = ("database", "cache", "events", "stream")
UNLIMITED_CONNECTIONS = 1_000_000  # redis-py's default number of connections is higher
REFRESH_INTERVAL = 30.0  # seconds between two readings of the state of a Redis server

DATABASE_OPERATIONS = ("SELECT", "TRANSACTION")
REDIS_OPERATIONS = ("MGET", "EVAL", "DEL", "PING")
BROKER_OPERATIONS = ("XADD", "XCLAIM", "XACK", "XRANGE", "XINFO", "XTRIM", "XDEL")
CONNECTION_STATES = ("used", "idle")
OTHER_ERROR = "_OTHER"  # the semantic conventions' fallback value
REDIS_SERVER_NAMES = ("cache", "events")
REDIS_ROLES = ("master", "replica")
EVICTION_POLICIES = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "allkeys-lrm",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-lrm",
    "volatile-ttl",
    OTHER,
)
ERROR_LABELS = ("", "timeout", OTHER_ERROR)  # an empty value means that the label is absent
DB_OPERATION = InstrumentSpec(
    "db.client.operation.duration",
    "histogram",
    "s",
    "Time of an operation on the database or on Redis; for a transaction including the wait for a connection",
    {
        "db.system.name": ("sqlite", "postgresql", "redis"),
        "db.operation.name": DATABASE_OPERATIONS + REDIS_OPERATIONS + BROKER_OPERATIONS,
        "error.type": ERROR_LABELS,
    },
    # The boundaries that the semantic conventions advise for this instrument.
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0),
    seeded=False,
)
# The conventions' names of this metric, of process.threads and of process.unix.file_descriptors end in `count`, a
# suffix that Prometheus reserves for histograms and promtool rejects.
DB_CONNECTIONS = InstrumentSpec(
    "db.client.connections",
    "observed sum",
    "{connection}",
    "Connections of a pool, by state",
    {"db.client.connection.pool.name": POOL_NAMES, "db.client.connection.state": CONNECTION_STATES},
)
DB_CONNECTION_LIMIT = InstrumentSpec(
    "db.client.connection.max",
    "observed sum",
    "{connection}",
    "Connections that a pool may open; no value for a pool without a limit",
    {"db.client.connection.pool.name": POOL_NAMES},
)
DB_CONNECTION_WAITING = InstrumentSpec(
    "db.client.connection.pending_requests",
    "observed sum",
    "{request}",
    "Operations that wait for a connection, or for their turn to change a row",
    {"db.client.connection.pool.name": POOL_NAMES},
)
REDIS_EVICTION_POLICY = InstrumentSpec(
    "support.redis.eviction_policy",
    "gauge",
    "{server}",
    "1 for the eviction policy of a Redis server; any but noeviction can lose events of a stream",
    {"server": REDIS_SERVER_NAMES, "policy": EVICTION_POLICIES},
)
REDIS_ROLE = InstrumentSpec(
    "support.redis.role",
    "gauge",
    "{server}",
    "1 for the role of a Redis server; a replica refuses changes, so that it is the wrong server after a failover",
    {"server": REDIS_SERVER_NAMES, "role": REDIS_ROLES},
)
REDIS_EVICTED_KEYS = InstrumentSpec(
    "support.redis.evicted_keys",
    "observed counter",
    "{key}",
    "Keys that a Redis server has evicted since its start",
    {"server": REDIS_SERVER_NAMES},
)
REDIS_MEMORY = InstrumentSpec(
    "support.redis.memory_usage", "gauge", "By", "Memory that a Redis server uses", {"server": REDIS_SERVER_NAMES}
)
REDIS_MEMORY_LIMIT = InstrumentSpec(
    "support.redis.memory_limit",
    "gauge",
    "By",
    "`maxmemory` of a Redis server; 0 if it has none",
    {"server": REDIS_SERVER_NAMES},
)


class RecordOperation(Protocol):
    """Callback for each finished operation: name, duration in seconds, and error type (empty on success)."""

    def __call__(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record the operation."""


def discard_measurement(_operation: str, _seconds: float, _error: str = "", /) -> None:
    """Discard the measurement."""


class OperationMetrics:
    """Recorder of the operations on one system; operation names come from a closed vocabulary."""

    def __init__(
        self,
        instruments: Instruments,
        system: str,
        operations: Iterable[str],
        record_span: Callable[[str, float, str], None] | None = None,
    ) -> None:
        """`record_span` is called with each finished operation; see Tracing.span_recorder."""
        self._instruments = instruments
        self._record_span = record_span
        self._labels = {name: {"db.system.name": system, "db.operation.name": name} for name in operations}
        self._succeeded = {
            name: instruments.start_series(DB_OPERATION, labels) for name, labels in self._labels.items()
        }

    def record(self, operation: str, seconds: float, error: str = "", /) -> None:
        """Record an operation and its duration in seconds; `error` is one of ERROR_LABELS, or OTHER."""
        if error:
            labels = self._labels[operation] | {"error.type": OTHER_ERROR if error == OTHER else error}
            self._instruments.record(DB_OPERATION, seconds, labels)
        else:
            self._succeeded[operation].record(seconds)
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
    limit = pool.max_connections if pool.max_connections < UNLIMITED_CONNECTIONS else None
    return PoolState(len(pool._in_use_connections), len(pool._available_connections), limit)  # noqa: SLF001


def observe_pools(instruments: Instruments, pools: Mapping[str, Callable[[], PoolState]]) -> None:
    """Create the instruments of the pools that `pools` has by name, also of later ones."""

    def connections() -> Observations:
        return [
            (number, {POOL_NAME: name, "db.client.connection.state": state})
            for name, read in pools.items()
            for state, number in zip(CONNECTION_STATES, read()[:2], strict=True)
        ]

    def limits() -> Observations:
        found = [(name, read().limit) for name, read in pools.items()]
        return [(limit, {POOL_NAME: name}) for name, limit in found if limit is not None]

    instruments.observe(DB_CONNECTIONS, connections)
    instruments.observe(DB_CONNECTION_LIMIT, limits)
    instruments.observe(
        DB_CONNECTION_WAITING, lambda: [(read().waiting, {POOL_NAME: name}) for name, read in pools.items()]
    )


class RedisServerState(NamedTuple):
    """What a Redis server says of itself. `used_memory` and `memory_limit` are in bytes; a limit of 0 means none."""

    role: str  # one of REDIS_ROLES
    eviction_policy: str
    evicted_keys: int
    used_memory: int
    memory_limit: int


RedisServers = dict[str, LastReading[RedisServerState]]
"""What is known of each Redis server, by name."""


def observe_redis(instruments: Instruments, servers: RedisServers) -> None:
    """Create the instruments of the servers that `servers` has by name, also of later ones."""

    def known() -> list[tuple[dict[str, str], RedisServerState]]:
        found = [(name, reading.value) for name, reading in servers.items()]
        return [({"server": name}, state) for name, state in found if state is not None]

    instruments.observe(REDIS_ROLE, lambda: [(1, of | {"role": state.role}) for of, state in known()])
    instruments.observe(
        REDIS_EVICTION_POLICY,
        lambda: [
            (1, of | {"policy": known_or_other(state.eviction_policy, EVICTION_POLICIES)}) for of, state in known()
        ],
    )
    instruments.observe(REDIS_EVICTED_KEYS, lambda: [(state.evicted_keys, of) for of, state in known()])
    instruments.observe(REDIS_MEMORY, lambda: [(state.used_memory, of) for of, state in known()])
    instruments.observe(REDIS_MEMORY_LIMIT, lambda: [(state.memory_limit, of) for of, state in known()])


async def read_redis_server(client: Any) -> RedisServerState | None:
    """Return what a server says of itself; None if it does not answer, or refuses INFO to the user.

    `client` is redis-py's asynchronous client, whose types do not say what it returns.
    """
    try:
        replication: Mapping[str, Any] = await client.info("replication")
        memory: Mapping[str, Any] = await client.info("memory")
        stats: Mapping[str, Any] = await client.info("stats")
        return RedisServerState(
            "master" if replication["role"] == "master" else "replica",
            str(memory["maxmemory_policy"]),
            int(stats["evicted_keys"]),
            int(memory["used_memory"]),
            int(memory["maxmemory"]),
        )
    except Exception:  # noqa: BLE001 - other parts report a server that fails; this only describes one that answers
        return None


def watch_redis(servers: RedisServers, name: str, client: Any) -> Job:
    """Return the job that reads the state of a server, which it adds to `servers` under its name."""
    reading = servers[name] = LastReading()

    async def refresh() -> None:
        reading.store(await read_redis_server(client))

    return Job("Reading the state of Redis", REFRESH_INTERVAL, refresh, first=0.0)
