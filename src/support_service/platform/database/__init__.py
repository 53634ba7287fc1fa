"""The interface of SQLite and PostgreSQL: protocols, timings, and the measurement of operations.

Callers pass SQLAlchemy Core statements to a `RowReader` or a `Transaction`. Expressions that differ between SQLite and
PostgreSQL have common names in `dialect.py`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.core.errors import SupportError, Unavailable
from support_service.platform.background import WorkSignal
from support_service.platform.database.failures import BUSY_CODES
from support_service.platform.telemetry.stores import OTHER_ERROR, PoolState, RecordOperation

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class ContendedRow(NamedTuple):
    """The name of a row that many transactions change. Of one process, one of them runs at a time."""

    name: str


class measured:  # noqa: N801 - named like a function; a class costs half of what a generator-based context manager does
    """Report a block's duration and error type to `measure`; domain errors do not count as database errors."""

    __slots__ = ("_measure", "_operation", "_started")

    def __init__(self, measure: RecordOperation, operation: str) -> None:
        self._measure = measure
        self._operation = operation

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._measure(self._operation, perf_counter() - self._started, "" if failure is None else error_label(failure))


def error_label(failure: BaseException) -> str:
    """Return the label value, one of ERROR_LABELS, for an exception."""
    if isinstance(failure, Unavailable):
        timeout = failure.code in BUSY_CODES or isinstance(failure.__cause__, TimeoutError)
        return "timeout" if timeout else OTHER_ERROR
    return "" if isinstance(failure, SupportError | RetryWithLocks) else OTHER_ERROR


class RetryWithLocks(Exception):
    """A transaction without locks has changed nothing. It has to be run again, with locks."""


class Row(Protocol):
    """A row of a result. Its columns are attributes: a protocol without positions makes mypy reject `row[4]`."""

    def __getattr__(self, column: str, /) -> Any:
        """Return the value of a column."""

    def _asdict(self) -> dict[str, Any]:
        """Return the values by column name."""


class LockedRead(NamedTuple):
    """A read of one row that no other transaction changes until this one ends."""

    table: sa.Table
    read: sa.Select[Any]  # where one transaction writes at a time
    read_and_lock: sa.Select[Any]
    read_with_version: sa.Select[Any]  # without a lock; the last column is ROW_VERSION


class RowChange(NamedTuple):
    """A change of one row, and the columns of the changed row that the transaction needs."""

    table: sa.Table
    change: sa.Update  # returns the columns
    preview: sa.Select[Any]  # the columns as they will be, and ROW_VERSION
    change_only: sa.Update  # returns nothing


class RowReader(Protocol):
    """Reads rows. A Database reads committed data; a Transaction also sees its own changes."""

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """Return the first row, or None. SQLite reads it in the thread of the event loop, so the read must be short."""

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Return all rows."""


class Transaction(RowReader, Protocol):
    """A transaction: its changes are committed together or not at all."""

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Run a statement once for each set of parameters, and return the number of rows changed.

        PostgreSQL gets several sets in one round trip, and does not tell the number: it is -1 then.
        """

    async def execute_later(self, statement: sa.Insert | sa.Update, parameters: Parameters) -> None:
        """Run a change once for each set of parameters, before the next statement or the commit, which raises errors.

        Each set of an update must change a row. PostgreSQL gets the changes that wait in one round trip. An insert may
        read the row that an earlier change has added or changed, and no other row of that table.
        """

    async def change_one(self, statement: sa.Insert | sa.Update, parameters: Mapping[str, Any]) -> bool:
        """Run a change of one row, and return False if it has changed none, which is rare."""

    async def lock_row(self, row: LockedRead, parameters: Mapping[str, Any]) -> Row | None:
        """Return a row that no other transaction changes until this one ends, or None."""

    async def change_row(self, change: RowChange, parameters: Mapping[str, Any]) -> Row | None:
        """Change a row, and return what the change names of it; None if there is no such row."""


class Database(RowReader, Protocol):
    """A database. Its methods raise Unavailable if it is unreachable or stays busy."""

    is_shared: bool
    """Whether other replicas may use the database."""

    changed: WorkSignal
    """Sent after each unit of work of this process, which may have left something to do for background jobs."""

    async def open(self) -> None:
        """Connect, so that an invalid URL is reported at startup."""

    async def close(self) -> None:
        """Close all connections."""

    async def ping(self) -> None:
        """Make one round trip.

        Raises Unavailable without an answer, with the code DATABASE_READ_ONLY if the database accepts no changes, and
        with COMMIT_NOT_REPLICATED while commits wait for a synchronous standby.
        """

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a change in a transaction of its own, and return the number of rows changed."""

    def pool_state(self) -> PoolState:
        """Return the state of the pool."""

    def transaction(self, *rows: ContendedRow, without_locks: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Return a transaction, committed at the end of the block and rolled back on an exception.

        `rows` are the contended rows that it changes, in the order of their locks. On PostgreSQL a bounded number of
        transactions waits for each of them, outside of the connection pool.

        `without_locks` lets PostgreSQL send the changes at the end, in one statement. The block, or its end, then
        raises RetryWithLocks if another transaction changes the same rows, or if the block does what needs a lock.
        """

    async def purge_search_index(self) -> None:
        """Remove words of deleted rows from the search index, if the database does not do so itself."""

    async def truncate_write_ahead_log(self) -> bool:
        """Empty the write-ahead log if it would keep what was overwritten. Return False if others prevent it."""


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
    driver_margin: float = 0.2  # that the driver waits longer for a statement than the server, which has a reason
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
    """Migrations on PostgreSQL while the service uses the database. Times are in seconds."""

    max_wait: float = 600.0  # for another process that migrates
    # For a table in use. Later statements queue behind this lock request; the service's give up after 2 s.
    lock_timeout: float = 1.0
    retry_pause: float = 2.0  # between attempts; other sessions get the table in it
    attempts: int = 100  # about five minutes: no session of the service holds a table for that long, but a dump may
