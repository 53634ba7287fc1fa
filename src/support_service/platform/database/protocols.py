"""Protocols that both databases implement, and their common errors and measurements."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.core.errors import SupportError, Unavailable
from support_service.platform.database.failures import BUSY_CODES
from support_service.platform.telemetry.stores import OTHER_ERROR, PoolState, RecordOperation

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class ContendedRow(NamedTuple):
    """A row that many transactions change: its name, and how many transactions of a process may do so at once."""

    name: str
    at_once: int = 1


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
        self._measure(self._operation, perf_counter() - self._started, "" if failure is None else _error(failure))


def _error(failure: BaseException) -> str:
    """Return the label value, one of ERRORS, for an exception."""
    if isinstance(failure, Unavailable):
        timeout = failure.code in BUSY_CODES or isinstance(failure.__cause__, TimeoutError)
        return "timeout" if timeout else OTHER_ERROR
    return "" if isinstance(failure, SupportError) else OTHER_ERROR


class Row(Protocol):
    """A row of a result. Its columns are attributes: a protocol without positions makes mypy reject `row[4]`."""

    def __getattr__(self, column: str, /) -> Any:
        """Return the value of a column."""

    def _asdict(self) -> dict[str, Any]:
        """Return the values by column name."""


class Reader(Protocol):
    """Reads rows. A Database reads committed data; a Transaction also sees its own changes."""

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """Return the first row, or None."""

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Return all rows."""


class Transaction(Reader, Protocol):
    """A transaction: its changes are committed together or not at all."""

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Run a statement once for each set of parameters, and return the number of rows changed."""

    async def insert_later(self, statement: sa.Insert, parameters: Mapping[str, Any]) -> None:
        """Insert a row before the next statement or the commit, which raises the insert's errors.

        PostgreSQL gets the inserts that wait in one round trip. They must not depend on each other's rows, except by
        foreign keys.
        """


class Database(Reader, Protocol):
    """A database. Its methods raise Unavailable if it is unreachable or stays busy."""

    async def open(self) -> None:
        """Connect, so that an invalid URL is reported at startup."""

    async def close(self) -> None:
        """Close all connections."""

    async def ping(self) -> None:
        """Make one round trip.

        Raises Unavailable without an answer, and with the code DATABASE_READ_ONLY if the database accepts no changes.
        """

    def connections(self) -> PoolState:
        """Return the state of the pool."""

    def transaction(self, *rows: ContendedRow) -> AbstractAsyncContextManager[Transaction]:
        """Return a transaction, committed at the end of the block and rolled back on an exception.

        `rows` are the contended rows that it changes, in the order of their locks. On PostgreSQL a bounded number of
        transactions waits for each of them, outside of the connection pool.
        """

    async def purge_search_index(self) -> None:
        """Remove words of deleted rows from the search index, if the database does not do so itself."""

    async def empty_log(self) -> bool:
        """Empty the write-ahead log if it would keep what was overwritten. Return False if others prevent it."""
