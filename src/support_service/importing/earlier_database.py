"""Reads the database of the earlier support-service, and changes nothing in it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from support_service.cases.model.vocabulary import Json
from support_service.core.errors import Unavailable
from support_service.platform.database import Database, connect
from support_service.platform.database.failures import StatementError


class EarlierDatabase(Protocol):
    """A database that is only read."""

    async def read(self, statement: sa.Select[Any]) -> Sequence[Json]:
        """Return the rows of a statement by the names of their columns. Raises Unavailable."""


@asynccontextmanager
async def open_earlier_database(url: str) -> AsyncIterator[EarlierDatabase]:
    """Open a database by its URL, `sqlite:///PATH` or `postgresql://…`. Raises Unavailable."""
    if url.startswith("sqlite:"):
        yield _SqliteFile(Path(url.removeprefix("sqlite:///")))
        return
    database = connect(url, pool_size=2)
    try:
        await database.open()
        yield _PostgresDatabase(database)
    finally:
        await database.close()


class _PostgresDatabase:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, statement: sa.Select[Any]) -> Sequence[Json]:
        try:
            return [row._asdict() for row in await self._database.fetch_all(statement)]
        except StatementError as failure:
            raise _unreadable(str(failure)) from None


class _SqliteFile:
    """A file that is opened for reading only: the engine of this service would switch it to a write-ahead log."""

    def __init__(self, path: Path) -> None:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        self._engine = sa.create_engine(
            "sqlite+pysqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
            poolclass=NullPool,
            hide_parameters=True,
        )

    async def read(self, statement: sa.Select[Any]) -> Sequence[Json]:
        return await asyncio.to_thread(self._read, statement)

    def _read(self, statement: sa.Select[Any]) -> Sequence[Json]:
        try:
            with self._engine.connect() as connection:
                return [dict(row) for row in connection.execute(statement).mappings()]
        except sa.exc.DBAPIError as failure:
            raise _unreadable(str(failure.orig)) from None


def _unreadable(reason: str) -> Unavailable:
    return Unavailable("database_unavailable", f"The database of the earlier service can't be read: {reason}")
