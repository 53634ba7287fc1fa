"""Copy of a SQLite database into an empty PostgreSQL database, and the comparison of both.

The source is locked meanwhile, and only read. Each batch is one transaction of the target, which also notes the key of
its last row: a copy that was interrupted continues after it. The notes are in a table of the target. As long as that
table exists, no release starts on the target: see `migrate.py`.
"""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import asyncpg
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from support_service.core.errors import SupportError, problem
from support_service.platform.database import RowReader, Transaction
from support_service.platform.database.dialect import JsonValue, LockNumber, SearchWords, UtcDateTime, take_lock
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    DATABASE_UNAVAILABLE,
    code_of_sqlite_error,
    code_of_sqlstate,
    unusable_database_error,
)
from support_service.platform.database.migrate import ALEMBIC_VERSION, UNFINISHED_COPY, latest_revision
from support_service.platform.database.postgres.connection import (
    ANSWERS,
    DRIVER_ERRORS,
    SETTINGS_OF_POOLERS,
    Hosts,
    refused_connection_error,
    statement_error,
)
from support_service.platform.database.postgres.waits import count_service_sessions
from support_service.platform.database.sqlite.connection import SqliteConnection, SqliteTransaction, lock_out_others
from support_service.platform.database.tables import metadata

BATCH_ROWS = 5000  # in one transaction
BATCH_BYTES = 8 * 1024 * 1024  # of texts in one transaction, plus the last row
CONNECT_TIMEOUT = 5.0  # seconds
HASHES = 2**256  # sums of hashes are modulo this
LOST_CONNECTION = "the connection was lost. Run the same command again: it continues after the last batch"
APPLICATION_NAME = "support-service database copy"
# Migrations give these tables their rows.
SEEDED_TABLES = ("attachment_ledger", "audit_head", "leases", "report_state", "secrets")
SESSION = "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0"
SOURCE_NOTE = "source"  # the note that tells the source; every other is of a table
# Rows that a service changes when it starts.
STARTS = "SELECT name, fence, expires_at FROM leases UNION ALL SELECT name, value, 0 FROM secrets ORDER BY 1"
# As JSONB stores them: with all digits, and without an exponent.
_NUMBERS = Context(prec=131_072, Emax=MAX_EMAX, Emin=MIN_EMIN)

Advance = Callable[[int], None]
Key = Sequence[Any]


class CopiedTable:
    """A table: how its rows are read from the source, stored in the target, and compared."""

    def __init__(self, table: sa.Table) -> None:
        self.name = table.name
        self.columns = [column.name for column in table.c]
        self.has_seq = any(column.identity is not None for column in table.c)
        key = [column.name for column in table.primary_key] or ["rowid"]  # counts have no key on PostgreSQL
        self._key_length = len(key)
        names = ", ".join(f'"{name}"' for name in key)
        marks = ", ".join("?" * len(key))
        selected = f'SELECT {names}, {_list(self.columns)} FROM "{self.name}"'  # noqa: S608 - our own names
        self._first = f"{selected} ORDER BY {names}"
        self._after = f"{selected} WHERE ({names}) > ({marks}) ORDER BY {names}"
        self._words = [column.name for column in table.c if isinstance(column.type, SearchWords)]
        self.select_from_target = "SELECT {} FROM {}".format(  # noqa: S608 - our own names
            ", ".join(f"tsvector_to_array({name})" if name in self._words else f'"{name}"' for name in self.columns),
            self.name,
        )
        self._conversions = _by_place(table, {UtcDateTime: datetime.fromisoformat, sa.Boolean: bool})
        self._canonical = _by_place(table, {JsonValue: _canonical_json, SearchWords: _canonical_words})

    def read(self, source: sqlite3.Connection, after: Key | None = None) -> Iterator[tuple[Key, tuple[Any, ...]]]:
        """Yield the key of each row after a key, and the values as the driver of PostgreSQL takes them."""
        rows = source.execute(self._first) if after is None else source.execute(self._after, after)
        for row in rows:
            values = list(row[self._key_length :])
            for place, convert in self._conversions:
                if values[place] is not None:
                    values[place] = convert(values[place])
            yield row[: self._key_length], tuple(values)

    async def store(self, target: asyncpg.Connection, records: Sequence[tuple[Any, ...]]) -> None:
        """Store rows in the target, in a transaction. Triggers do not run: what they keep is copied, too."""
        await target.execute(f'ALTER TABLE "{self.name}" DISABLE TRIGGER USER')
        if self._words:  # the driver can't copy vectors
            await target.execute(
                "INSERT INTO search_documents (id, internal, words) SELECT id, internal, search_vector(words, id >> 20)"
                " FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS documents (id, internal, words)",
                *zip(*records, strict=True),
            )
        else:
            await target.copy_records_to_table(self.name, records=records, columns=self.columns)
        await target.execute(f'ALTER TABLE "{self.name}" ENABLE TRIGGER USER')

    def digest(self, values: Sequence[Any]) -> int:
        """Return the hash of a row, from values that are the same on both databases."""
        canonical = list(values)
        for place, convert in self._canonical:
            if canonical[place] is not None:
                canonical[place] = convert(canonical[place])
        return int.from_bytes(hashlib.sha256(repr(canonical).encode()).digest())


def _by_place(
    table: sa.Table, functions: Mapping[type, Callable[[Any], Any]]
) -> list[tuple[int, Callable[[Any], Any]]]:
    return [
        (place, function)
        for place, column in enumerate(table.c)
        for kind, function in functions.items()
        if isinstance(column.type, kind)
    ]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@lru_cache(maxsize=1024)  # such as of an empty list
def _canonical_json(text: str) -> str:
    """Return a text that is the same for a document and its form as JSONB: other spaces, order of members, numbers."""
    return repr(json.loads(text, object_pairs_hook=_sorted_members, parse_int=_number, parse_float=_number))


def _sorted_members(members: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(dict(members).items()))  # a tuple, unlike an array


def _number(text: str) -> Decimal:
    return _NUMBERS.normalize(_NUMBERS.plus(Decimal(text)))  # `plus` makes 0 of -0


def _canonical_words(words: str | Sequence[str]) -> list[str]:
    """Return the words of a document once each; PostgreSQL adds words with an underscore, which stand for ranges."""
    given = words.split(" ") if isinstance(words, str) else words
    return sorted({word for word in given if word and "_" not in word})


TABLES: Final = [CopiedTable(table) for table in metadata.sorted_tables]  # in the order of their foreign keys


@dataclass(slots=True)
class TableContent:
    """The number of rows of a table, and the sum of their hashes, which does not depend on their order."""

    rows: int = 0
    total: int = 0

    @property
    def hash(self) -> str:
        """The sum in hexadecimal."""
        return f"{self.total:064x}"

    def add(self, digest: int) -> None:
        """Add the hash of a row."""
        self.rows += 1
        self.total = (self.total + digest) % HASHES


class TableComparison(NamedTuple):
    """A table on both databases."""

    table: str
    source: TableContent
    target: TableContent

    @property
    def is_equal(self) -> bool:
        """Whether both databases have the same rows."""
        return self.source == self.target


class Source:
    """A SQLite database that no other process can use."""

    def __init__(self, connection: SqliteConnection) -> None:
        self.raw = connection.raw
        self.reader: RowReader = SqliteTransaction(connection)

    def count_rows(self) -> int:
        """Return the number of rows of all tables."""
        counts = (self.raw.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0] for table in TABLES)  # noqa: S608
        return sum(counts)

    def last_numbers(self) -> dict[str, int]:
        """Return the last number of each table that numbers its rows, also of rows that were deleted since."""
        given = dict(self.raw.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        found = {
            table.name: self.raw.execute(f'SELECT coalesce(max(seq), 0) FROM "{table.name}"').fetchone()[0]  # noqa: S608
            for table in TABLES
            if table.has_seq
        }
        return {name: max(number, given.get(name, 0)) for name, number in found.items()}

    def fingerprint(self) -> str:
        """Return a text that tells this source from others, and from itself once a service or a command has used it."""
        state = self.raw.execute(STARTS).fetchall(), sorted(self.last_numbers().items())
        return hashlib.sha256(repr(state).encode()).hexdigest()


@contextmanager
def open_source(url: str) -> Iterator[Source]:
    """Open a SQLite database and lock it. Raises SupportError if it is missing, in use, or lacks migrations."""
    path = Path(url.removeprefix("sqlite:///"))
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=0),
        isolation_level="AUTOCOMMIT",
        poolclass=StaticPool,
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            source = SqliteConnection(connection)
            lock_out_others(source.raw)
            source.raw.execute("PRAGMA query_only=ON")
            has_revision = sa.inspect(connection).has_table(ALEMBIC_VERSION.name)
            _check_revision("source", connection.scalar(sa.select(ALEMBIC_VERSION)) if has_revision else None)
            yield Source(source)
    except (sqlite3.Error, sa.exc.DBAPIError) as failure:
        if code_of_sqlite_error(failure) == DATABASE_BUSY:
            raise problem(
                DATABASE_BUSY,
                f"The source is in use: stop the service and other programs that have {path} open (fuser -v {path})",
            ) from failure
        reason = getattr(failure, "orig", None) or failure
        raise problem(DATABASE_UNAVAILABLE, f"The source {path} can't be read: {reason}") from failure
    finally:
        engine.dispose()


def _check_revision(what: str, revision: str | None) -> None:
    if revision != latest_revision():
        raise problem(
            "database_not_migrated",
            f"The {what} has {f'the schema {revision}' if revision else 'no schema'}, and this release needs "
            f"{latest_revision()} on both sides: run `support-service migrate` of this release on it",
        )


@asynccontextmanager
async def open_target(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to a PostgreSQL database. Raises Unavailable if it can't be used, and for errors in the block."""
    try:
        connection = await Hosts(url, CONNECT_TIMEOUT).connect(
            statement_cache_size=0, server_settings=SETTINGS_OF_POOLERS | {"application_name": APPLICATION_NAME}
        )
    except DRIVER_ERRORS as failure:
        raise refused_connection_error(failure, url) from failure
    try:
        await connection.execute(SESSION)
        yield connection
    except DRIVER_ERRORS as failure:
        raise unusable_database_error(LOST_CONNECTION if connection.is_closed() else failure, url) from failure
    finally:
        connection.terminate()  # an interrupted batch must not wait for its end


class DatabaseCopy:
    """A copy from a source to a target, from where an earlier one has stopped."""

    def __init__(self, source: Source, target: asyncpg.Connection) -> None:
        self._source = source
        self._target = target
        self._notes: dict[str, str | None] = {}

    async def begin(self) -> int:
        """Prepare the target, and return the number of rows that an earlier copy has stored there.

        Raises SupportError if the target is in use, has another schema, is not empty, or has a part of another source.
        """
        target = self._target
        has_revision = await target.fetchval("SELECT to_regclass($1) IS NOT NULL", ALEMBIC_VERSION.name)
        _check_revision(
            "target",
            await target.fetchval(f"SELECT version_num FROM {ALEMBIC_VERSION}") if has_revision else None,  # noqa: S608
        )
        if sessions := await count_service_sessions(target):
            raise problem(DATABASE_BUSY, f"The target is in use: stop the service, which has {sessions} sessions there")
        async with target.transaction():
            await target.execute("SELECT pg_advisory_xact_lock($1)", LockNumber.COPY)
            if not await target.fetchval("SELECT to_regclass($1) IS NOT NULL", UNFINISHED_COPY):
                await self._prepare()
            # Waits for the last transaction of a copy that was killed.
            notes = await target.fetch(f"SELECT name, note FROM {UNFINISHED_COPY} FOR UPDATE")  # noqa: S608
        self._notes = {row["name"]: row["note"] for row in notes}
        if self._notes.pop(SOURCE_NOTE) != self._source.fingerprint():
            raise problem(
                "database_copy_unfinished",
                "The target has a part of another source, or the source was used since the copy was interrupted. "
                "Recreate the target, run `support-service migrate` on it, and copy again",
            )
        return sum([await self._count(table) for table in TABLES if self._notes[table.name]])

    async def _prepare(self) -> None:
        filled = [table.name for table in TABLES if table.name not in SEEDED_TABLES and await self._count(table, 1)]
        if filled:
            raise problem(
                "database_not_empty",
                f"The target is not empty: it has rows in {', '.join(filled)}. Recreate it, run "
                "`support-service migrate` on it, and copy again",
            )
        for name in SEEDED_TABLES:
            await self._target.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names
        await self._target.execute(f"CREATE TABLE {UNFINISHED_COPY} (name text PRIMARY KEY, note text)")
        notes = [(SOURCE_NOTE, self._source.fingerprint()), *((table.name, None) for table in TABLES)]
        await self._target.executemany(f"INSERT INTO {UNFINISHED_COPY} (name, note) VALUES ($1, $2)", notes)  # noqa: S608

    async def _count(self, table: CopiedTable, limit: int | None = None) -> int:
        counted = f'SELECT count(*) FROM (SELECT 1 FROM "{table.name}" LIMIT $1) AS rows'  # noqa: S608 - our own names
        number: int = await self._target.fetchval(counted, limit)
        return number

    async def copy_rows(self, advance: Advance) -> None:
        """Copy the rows that are missing in the target, and let it number new rows after them.

        `advance` is called with the number of rows of each batch. Raises SupportError if a row can't be stored.
        """
        for table in TABLES:
            note = self._notes[table.name]
            for last, records in self._batches(table, json.loads(note) if note else None):
                next_note = json.dumps(last)
                try:
                    await self._store(table, records, note, next_note)
                except ANSWERS as failure:
                    if self._target.is_closed() or code_of_sqlstate(getattr(failure, "sqlstate", None)):
                        raise  # not because of a row
                    raise _storing_error(table, note, failure) from failure
                note = next_note
                advance(len(records))
        for name, number in self._source.last_numbers().items():
            if number:
                await self._target.execute("SELECT setval(pg_get_serial_sequence($1, 'seq'), $2)", name, number)
        await self._target.execute("VACUUM (ANALYZE)")  # the first lists would be slow without statistics

    def _batches(self, table: CopiedTable, after: Key | None) -> Iterator[tuple[Key, list[tuple[Any, ...]]]]:
        """Yield batches of rows after a key, each with the key of its last row."""
        records: list[tuple[Any, ...]] = []
        last, size = after, 0
        for last, values in table.read(self._source.raw, after):
            records.append(values)
            size += sum(len(value) for value in values if isinstance(value, str | bytes))
            if len(records) == BATCH_ROWS or size >= BATCH_BYTES:
                yield last, records
                records, size = [], 0
        if records and last is not None:
            yield last, records

    async def _store(
        self, table: CopiedTable, records: list[tuple[Any, ...]], note: str | None, next_note: str
    ) -> None:
        async with self._target.transaction():
            noted = await self._target.execute(
                f"UPDATE {UNFINISHED_COPY} SET note = $1 WHERE name = $2 AND note IS NOT DISTINCT FROM $3",  # noqa: S608
                *(next_note, table.name, note),
            )
            if noted != "UPDATE 1":
                raise problem(DATABASE_BUSY, "Another copy to the same target runs: end it, and copy again")
            await table.store(self._target, records)

    async def compare(self, advance: Advance) -> AsyncIterator[TableComparison]:
        """Read every table on both databases, and yield how they compare; `advance` is called with numbers of rows."""
        for table in TABLES:
            source, target = TableContent(), TableContent()
            for _, values in table.read(self._source.raw):
                source.add(table.digest(values))
                advance(1)
            async with self._target.transaction():  # for the cursor
                async for row in self._target.cursor(table.select_from_target, prefetch=BATCH_ROWS):
                    target.add(table.digest(row))
                    advance(1)
            yield TableComparison(table.name, source, target)


async def end_copy(tx: Transaction) -> None:
    """Release the target, in a transaction of its own database, so that a service may start on it."""
    await tx.fetch_all(take_lock(LockNumber.COPY))
    await tx.execute(sa.text(f"DROP TABLE {UNFINISHED_COPY}"))


def _storing_error(table: CopiedTable, note: str | None, failure: Exception) -> SupportError:
    where = f"after {note}" if note else "of the beginning"
    return problem(
        "database_copy_failed", f"PostgreSQL refuses a row of {table.name} {where}: {statement_error(failure)}"
    )
