"""What a database can do here, whichever it is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from time import perf_counter
from typing import Any, Protocol

from sqlalchemy.sql.base import Executable

from support_service.errors import Unavailable
from support_service.telemetry.labels import OTHER
from support_service.telemetry.stores import Measure

Row = Sequence[Any]
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@contextmanager
def measured(measure: Measure, operation: str) -> Iterator[None]:
    """Tell how long the block took, and how it ended."""
    started = perf_counter()
    error = ""
    try:
        yield
    except Unavailable:
        error = OTHER
        raise
    finally:
        measure(operation, perf_counter() - started, error)


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
