"""Instruments of the database and Redis: operations and connection pools."""

from support_service.telemetry.instruments.spec import InstrumentSpec

DATABASE_OPERATIONS = ("SELECT", "TRANSACTION")
REDIS_OPERATIONS = ("MGET", "EVAL", "DEL", "PING")
BROKER_OPERATIONS = ("XADD", "XCLAIM", "XACK", "XRANGE", "XINFO", "XTRIM", "XDEL")
CONNECTION_STATES = ("used", "idle")
OTHER_ERROR = "_OTHER"  # the semantic conventions' fallback value
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
        "db.client.connection.pool.name": ("database", "cache", "events"),
        "db.client.connection.state": CONNECTION_STATES,
    },
)
