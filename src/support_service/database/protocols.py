"""What a database can do here, whichever it is."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from types import TracebackType
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.core.errors import SupportError, Unavailable
from support_service.telemetry.labels import OTHER_ERROR
from support_service.telemetry.stores import Measure

Row = Sequence[Any]
BUSY = "database_busy"  # the code of a database that is reached and has no turn to give
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class DatabaseFault(Exception):
    """A statement that the database refused: what kind of refusal and where, without the database's own words.

    Those quote values, a message's text among them, and this exception's text ends in the log.
    """


def wrong_address(failure: Exception) -> Unavailable:
    """The refusal of an address that the driver can't read; its own text may quote the password."""
    return Unavailable("database_unavailable", f"The database's address can't be used: {type(failure).__name__}")


def unusable(cause: Exception | str) -> Unavailable:
    """The refusal of a database that can't be migrated, or whose schema can't be told."""
    told = str(getattr(cause, "orig", None) or cause).partition("\n")[0]  # what follows may quote a row
    return Unavailable("database_unavailable", f"The database can't be used: {told}")


class measured:  # noqa: N801 - reads as the context manager that it is; a class costs half of a generator's
    """Tell how long the block took, and how it ended: a refusal of the domain's own is no error of the database."""

    __slots__ = ("_measure", "_operation", "_started")

    def __init__(self, measure: Measure, operation: str) -> None:
        self._measure = measure
        self._operation = operation

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._measure(self._operation, perf_counter() - self._started, "" if failure is None else _error(failure))


def _error(failure: BaseException) -> str:
    """The failure's value of labels.ERRORS."""
    if isinstance(failure, Unavailable):
        timeout = failure.code == BUSY or isinstance(failure.__cause__, TimeoutError | sa.exc.TimeoutError)
        return "timeout" if timeout else OTHER_ERROR
    return "" if isinstance(failure, SupportError) else OTHER_ERROR


class Reader(Protocol):
    """Reads rows; a Database reads what is committed, a Transaction sees its own changes too."""

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """The first row, or None."""

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Every row."""


class Transaction(Reader, Protocol):
    """Changes that are kept together or not at all."""

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Run a change, once for each set of parameters; returns the number of rows changed."""


class Database(Reader, Protocol):
    """Runs statements; raises Unavailable when the database is out of reach or stays busy."""

    async def open(self) -> None:
        """Connect, so that a wrong address shows at the start."""

    async def close(self) -> None:
        """Close every connection."""

    async def ping(self) -> None:
        """One round trip; raises Unavailable where there is no answer."""

    def connections(self) -> tuple[int, int]:
        """(used, idle) connections of the pool."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction, committed at the end of the block and rolled back by an exception."""

    async def forget_words(self) -> None:
        """Rid the search index of words that no row has any more, where the database does not by itself."""
