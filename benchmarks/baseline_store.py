"""What the bare server stores: documents by key, in SQLite or in PostgreSQL."""

import sqlite3
from typing import Protocol

import asyncpg


class Store(Protocol):
    """Cases and messages as bytes."""

    async def case(self, case_id: str) -> bytes | None:
        """Return a case, or None."""
        ...

    async def add_case(self, case_id: str, document: bytes) -> None:
        """Store a case."""
        ...

    async def add_message(self, case_id: str, document: bytes) -> None:
        """Store a message."""
        ...


async def open_store(url: str) -> Store:
    """Open the database of a URL, `sqlite:///…` or `postgresql://…`, and create the tables."""
    if url.startswith("sqlite:"):
        return SqliteStore(url.removeprefix("sqlite:///"))
    pool = await asyncpg.create_pool(url, min_size=10, max_size=10)
    await pool.execute("CREATE TABLE IF NOT EXISTS cases (id text PRIMARY KEY, doc bytea)")
    await pool.execute("CREATE TABLE IF NOT EXISTS messages (id bigserial PRIMARY KEY, case_id text, doc bytea)")
    return PostgresStore(pool)


class SqliteStore:
    """A SQLite file. Statements block the event loop, which costs less CPU than a thread."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE cases (id TEXT PRIMARY KEY, doc BLOB) WITHOUT ROWID")
        self._db.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, case_id TEXT, doc BLOB)")

    async def case(self, case_id: str) -> bytes | None:
        row = self._db.execute("SELECT doc FROM cases WHERE id = ?", (case_id,)).fetchone()
        return row[0] if row else None

    async def add_case(self, case_id: str, document: bytes) -> None:
        self._db.execute("INSERT INTO cases VALUES (?, ?)", (case_id, document))

    async def add_message(self, case_id: str, document: bytes) -> None:
        self._db.execute("INSERT INTO messages (case_id, doc) VALUES (?, ?)", (case_id, document))


class PostgresStore:
    """A PostgreSQL database, through asyncpg's pool."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def case(self, case_id: str) -> bytes | None:
        document: bytes | None = await self._pool.fetchval("SELECT doc FROM cases WHERE id = $1", case_id)
        return document

    async def add_case(self, case_id: str, document: bytes) -> None:
        await self._pool.execute("INSERT INTO cases VALUES ($1, $2)", case_id, document)

    async def add_message(self, case_id: str, document: bytes) -> None:
        await self._pool.execute("INSERT INTO messages (case_id, doc) VALUES ($1, $2)", case_id, document)
