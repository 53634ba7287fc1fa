"""Instruments of the database and Redis: operations and connection pools."""

from support_service.platform.telemetry.instruments.spec import OTHER, InstrumentSpec

DATABASE_OPERATIONS = ("SELECT", "TRANSACTION")
REDIS_OPERATIONS = ("MGET", "EVAL", "DEL", "PING")
BROKER_OPERATIONS = ("XADD", "XCLAIM", "XACK", "XRANGE", "XINFO", "XTRIM", "XDEL")
CONNECTION_STATES = ("used", "idle")
OTHER_ERROR = "_OTHER"  # the semantic conventions' fallback value
REDIS_SERVERS = ("cache", "events")
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
ERRORS = ("", "timeout", OTHER_ERROR)  # an empty value means that the label is absent

DB_OPERATION = InstrumentSpec(
    "db.client.operation.duration",
    "histogram",
    "s",
    "Time of an operation on the database or on Redis; for a transaction including the wait for a connection",
    {
        "db.system.name": ("sqlite", "postgresql", "redis"),
        "db.operation.name": DATABASE_OPERATIONS + REDIS_OPERATIONS + BROKER_OPERATIONS,
        "error.type": ERRORS,
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
    {
        "db.client.connection.pool.name": ("database", "cache", "events", "stream"),
        "db.client.connection.state": CONNECTION_STATES,
    },
)
DB_CONNECTION_LIMIT = InstrumentSpec(
    "db.client.connection.max",
    "observed sum",
    "{connection}",
    "Connections that a pool may open; no value for a pool without a limit",
    {"db.client.connection.pool.name": ("database", "cache", "events", "stream")},
)
DB_CONNECTION_WAITING = InstrumentSpec(
    "db.client.connection.pending_requests",
    "observed sum",
    "{request}",
    "Operations that wait for a connection, or for their turn to change a row",
    {"db.client.connection.pool.name": ("database", "cache", "events", "stream")},
)
REDIS_EVICTION_POLICY = InstrumentSpec(
    "support.redis.eviction_policy",
    "gauge",
    "{server}",
    "1 for the eviction policy of a Redis server; any but noeviction can lose events of a stream",
    {"server": REDIS_SERVERS, "policy": EVICTION_POLICIES},
)
REDIS_ROLE = InstrumentSpec(
    "support.redis.role",
    "gauge",
    "{server}",
    "1 for the role of a Redis server; a replica refuses changes, so that it is the wrong server after a failover",
    {"server": REDIS_SERVERS, "role": REDIS_ROLES},
)
REDIS_EVICTED_KEYS = InstrumentSpec(
    "support.redis.evicted_keys",
    "observed counter",
    "{key}",
    "Keys that a Redis server has evicted since its start",
    {"server": REDIS_SERVERS},
)
REDIS_MEMORY = InstrumentSpec(
    "support.redis.memory_usage", "gauge", "By", "Memory that a Redis server uses", {"server": REDIS_SERVERS}
)
REDIS_MEMORY_LIMIT = InstrumentSpec(
    "support.redis.memory_limit",
    "gauge",
    "By",
    "`maxmemory` of a Redis server; 0 if it has none",
    {"server": REDIS_SERVERS},
)
