"""Timeouts and intervals of the databases. In one module, so that a service on SQLite does not import asyncpg."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SqliteTimings:
    """Times in seconds."""

    busy_timeout: float = 10.0  # for the transactions before, in this process and others
    checkpoint_interval: float = 1.0
    max_waiting: int = 256  # transactions that may wait for the one in progress


@dataclass(frozen=True, slots=True)
class PostgresTimings:
    """Timeouts in seconds."""

    connect_timeout: float = 3.0
    pool_timeout: float = 3.0  # for a free connection of the pool, and for the turn to change a contended row
    statement_timeout: float = 15.0
    lock_timeout: float = 2.0  # shorter than `pool_timeout`: who waits for a lock frees its connection before that
    close_timeout: float = 2.0  # for connections to close gracefully
    max_waiting: int = 128  # transactions that may wait for their turn to change one contended row


@dataclass(frozen=True, slots=True)
class DatabaseTimings:
    """Timings of either database. `clock_interval` is in seconds, between two readings of the database's clock."""

    sqlite: SqliteTimings = field(default_factory=SqliteTimings)
    postgres: PostgresTimings = field(default_factory=PostgresTimings)
    clock_interval: float = 60.0


@dataclass(frozen=True, slots=True)
class MigrationTimings:
    """Times in seconds."""

    busy_timeout: float = 30.0  # SQLite: for another process to migrate the same file
    connect_timeout: float = 5.0  # PostgreSQL: for the server to accept the connection
    # PostgreSQL: for a table in use. Later statements queue behind this lock request; the service's give up after 2 s.
    lock_timeout: float = 1.0
    turn_pause: float = 0.2  # between two attempts to be the only process that migrates
    retry_pause: float = 2.0  # between attempts; other sessions get the table in it
    attempts: int = 100  # about five minutes: no session of the service holds a table for that long, but a dump may
