"""SQLite: short statements inline on the event loop, long reads in a few threads.

Measured for a point read by SQLAlchemy Core: 20 us inline, 137 us in a thread, 438 us through aiosqlite. A commit of
four inserts takes 133 us. So point reads and commits run inline; only lists and searches run in threads.
"""

import asyncio
import logging
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.base import Executable

from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.search_words import matches_query
from support_service.platform.background import WorkSignal
from support_service.platform.database import ContendedRow, Parameters, Row, SqliteTimings, measured
from support_service.platform.database.dialect import to_json
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    code_of_sqlite_error,
    database_error,
    driver_exception,
)
from support_service.platform.database.sqlite.connection import (
    FileIdentity,
    SqliteConnection,
    SqliteTransaction,
    create_missing_file,
)
from support_service.platform.database.sqlite.group_commit import GroupCommit
from support_service.platform.database.statements import with_padded_lists
from support_service.platform.telemetry.logs import outage_logger
from support_service.platform.telemetry.stores import PoolState, RecordOperation, discard_measurement

READ_THREADS = 4
PERMANENT_CONNECTIONS = 2  # permanent connections: the writer, and the one for point reads
CHECKPOINT_PAGES = 16_384  # pages of log at which SQLite checkpoints inline in a commit, if the thread falls behind
MERGE_PAGES = 500  # pages of the search index merged in one transaction
TRUNCATE_LOG_ATTEMPTS, TRUNCATE_LOG_PAUSE = 10, 0.2  # seconds; readers come and go
HAS_PENDING_DOCUMENTS = "SELECT 1 FROM ticket_search_pending LIMIT 1"
INDEX_PENDING_DOCUMENTS = """
INSERT INTO ticket_search(rowid, words)
SELECT id, words FROM ticket_search_pending CROSS JOIN search_documents USING (id)
"""
FORGET_PENDING_DOCUMENTS = "DELETE FROM ticket_search_pending"
MERGE_SEARCH_INDEX = sa.text("INSERT INTO ticket_search(ticket_search, rank) VALUES ('merge', :pages)")

OPERATIONAL_ERRORS = (sqlite3.OperationalError, sa.exc.OperationalError)

log = logging.getLogger(__name__)


class SqliteDatabase:
    """One connection for writes, one for point reads, and a few in threads for long reads."""

    is_shared = False

    def __init__(
        self, url: str, *, measure: RecordOperation = discard_measurement, timings: SqliteTimings = SqliteTimings()
    ) -> None:
        self.changed = WorkSignal()
        self._measure = measure
        self._timings = timings
        self._path = Path(url.removeprefix("sqlite:///"))
        self._file = FileIdentity(self._path)
        self._engine = sa.create_engine(
            f"sqlite+pysqlite:///{self._path}",
            # Every connection is in autocommit mode. Transactions begin explicitly with BEGIN IMMEDIATE, so that they
            # can't fail halfway because they don't get the write lock.
            isolation_level="AUTOCOMMIT",
            # SQLite itself must not wait, as that would block the event loop: `_retry_while_busy` waits.
            connect_args={"check_same_thread": False, "timeout": 0},
            pool_size=READ_THREADS + PERMANENT_CONNECTIONS,
            json_serializer=to_json,
            hide_parameters=True,  # exception texts are logged
        )
        sa.event.listen(self._engine, "connect", self._prepare)
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="sqlite")
        self._wrote = False
        self._checkpoints: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            create_missing_file(self._path)
            self._writer = SqliteConnection(await self._retry_while_busy(self._engine.connect))
            self._transaction = SqliteTransaction(self._writer)
            self._writer.raw.execute("PRAGMA temp_store=MEMORY")  # a savepoint's rollback data is only a few pages
            self._commits = GroupCommit(
                self._writer.raw, self._timings.max_waiting, self._file.check, self._index_pending_documents
            )
            self._reader = SqliteConnection(await self._retry_while_busy(self._engine.connect))
            await self._retry_while_busy(lambda: self._reader.fetch_now(sa.text("SELECT 1 FROM sqlite_master")))
            self._file.remember()
        except (OSError, sa.exc.OperationalError) as failure:
            raise problem("database_unavailable", f"Can't open {self._path}: {driver_exception(failure)}") from failure
        self._checkpoints = asyncio.create_task(self._checkpoint_periodically())

    async def close(self) -> None:
        if self._checkpoints:
            self._checkpoints.cancel()
            with suppress(asyncio.CancelledError):
                await self._checkpoints
            self._reader.close()
            self._writer.close()
        self._threads.shutdown()
        self._engine.dispose()  # closing the last connection checkpoints the write-ahead log

    async def ping(self) -> None:
        self._file.check()
        await self.fetch_now(sa.text("SELECT 1"))

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """Return the first row, or None, read inline on the event loop; for statements that use an index."""
        with measured(self._measure, "SELECT"):
            try:
                return self._reader.fetch_now(statement, parameters)  # without the cost of a retry, which is rare
            except OPERATIONAL_ERRORS as failure:
                if not _is_busy(failure):
                    raise _unavailable_error(failure) from failure
            try:
                row: Row | None = await self._retry_while_busy(lambda: self._reader.fetch_now(statement, parameters))
            except OPERATIONAL_ERRORS as failure:
                raise _unavailable_error(failure) from failure
            return row

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Return all rows, read in a thread."""

        def read() -> Sequence[Row]:
            with self._engine.connect() as connection:
                return connection.execute(statement, with_padded_lists(statement, parameters)).all()

        loop = asyncio.get_running_loop()
        with measured(self._measure, "SELECT"):
            try:
                rows: Sequence[Row] = await self._retry_while_busy(partial(loop.run_in_executor, self._threads, read))
            except OPERATIONAL_ERRORS as failure:
                raise _unavailable_error(failure) from failure
            return rows

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        async with self.transaction() as tx:
            return await tx.execute(statement, parameters)

    def pool_state(self) -> PoolState:
        pool: Any = self._engine.pool
        used = pool.checkedout() - PERMANENT_CONNECTIONS
        return PoolState(max(0, used), pool.checkedin() + PERMANENT_CONNECTIONS, pool.size(), self._commits.waiting)

    @asynccontextmanager
    async def transaction(
        self,
        *_rows: ContendedRow,
        without_locks: bool = False,  # noqa: ARG002 - one transaction writes at a time
    ) -> AsyncIterator[SqliteTransaction]:
        """Run a transaction, one at a time in all processes; wait up to `busy_timeout` for the others."""
        raw, commits = self._writer.raw, self._commits
        deadline = self._busy_deadline()
        with measured(self._measure, "TRANSACTION"):
            try:
                await commits.take_turn(deadline)
                try:
                    if not raw.in_transaction:
                        await self._retry_while_busy(lambda: raw.execute("BEGIN IMMEDIATE"), deadline)
                    commits.set_savepoint()
                    try:
                        yield self._transaction
                        commits.release_savepoint()
                    except BaseException as failure:
                        commits.roll_back(failure)
                        raise
                finally:
                    commits.end_turn()
                await commits.committed()
            except OPERATIONAL_ERRORS as failure:
                raise _unavailable_error(failure) from failure
        self._wrote = True

    async def purge_search_index(self) -> None:
        """Merge the segments of the search index, MERGE_PAGES pages at a time.

        FTS5 only marks deleted words; a merge removes them.

        By FTS5's documentation, a negative number of pages begins a merge of the whole index. The merge is complete
        with the first step that changes fewer than two rows.
        """
        pages, changed = -MERGE_PAGES, 2
        while changed > 1:
            async with self.transaction() as tx:
                before = self._writer.raw.total_changes
                await tx.execute(MERGE_SEARCH_INDEX, {"pages": pages})
                changed = self._writer.raw.total_changes - before
            pages = MERGE_PAGES

    def _index_pending_documents(self) -> None:
        """Add the documents of all transactions of a commit to the search index, which writes them together."""
        raw = self._writer.raw
        if raw.execute(HAS_PENDING_DOCUMENTS).fetchone():
            raw.execute(INDEX_PENDING_DOCUMENTS)
            raw.execute(FORGET_PENDING_DOCUMENTS)

    async def truncate_write_ahead_log(self) -> bool:
        """Move the log into the file and truncate it; a reader of an older state prevents it.

        A log that only starts over keeps old pages behind its new end, for as long as a process has the database open.
        """

        def truncate() -> bool:
            with self._engine.connect() as connection:
                (busy, *_) = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                return not busy

        for _ in range(TRUNCATE_LOG_ATTEMPTS):
            if await asyncio.get_running_loop().run_in_executor(self._threads, truncate):
                return True
            await asyncio.sleep(TRUNCATE_LOG_PAUSE)
        return False

    def _busy_deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timings.busy_timeout

    async def _retry_while_busy(self, work: Callable[[], Any], deadline: float | None = None) -> Any:
        """Run `work`; while another process holds the lock, retry until `deadline` without blocking the event loop.

        The default deadline is in `busy_timeout`.

        Raises Unavailable (DATABASE_BUSY) if the lock is not released in time, and the database's other errors.
        """
        loop = asyncio.get_running_loop()
        deadline = self._busy_deadline() if deadline is None else deadline
        pause = 0.001
        while True:
            try:
                answer = work()
                return await answer if isinstance(answer, asyncio.Future) else answer
            except OPERATIONAL_ERRORS as failure:
                if not _is_busy(failure):
                    raise
                if loop.time() > deadline:
                    raise database_error(DATABASE_BUSY) from failure
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 0.1)

    async def _checkpoint_periodically(self) -> None:
        """Checkpoint the write-ahead log periodically in a thread, so that commits need not.

        Also log that the file was deleted or replaced, once.
        """
        changed = False

        def checkpoint() -> None:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()

        while True:
            await asyncio.sleep(self._timings.checkpoint_interval)
            try:
                self._file.check()
            except Unavailable as failure:
                if not changed:
                    log.error("%s", failure)  # noqa: TRY400 - a traceback would say nothing
                changed = True
                continue
            changed = False
            if self._wrote:
                self._wrote = False
                try:
                    await asyncio.get_running_loop().run_in_executor(self._threads, checkpoint)
                except OPERATIONAL_ERRORS as failure:
                    log.exception("The write-ahead log could not be checkpointed", exc_info=_unavailable_error(failure))
                except Exception:
                    log.exception("The write-ahead log could not be checkpointed")

    def _prepare(self, connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        self._file.check()  # a connection to another file would answer with other cases, and could damage that file
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # a power cut loses the last commits
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.create_function("words_match", 2, matches_query, deterministic=True)


def _is_busy(failure: Exception) -> bool:
    return code_of_sqlite_error(failure) == DATABASE_BUSY


def _unavailable_error(failure: Exception) -> SupportError:
    """Return the error without SQLite's text, which a client would see; the log gets the name of SQLite's error."""
    name = getattr(driver_exception(failure), "sqlite_errorname", type(failure).__name__)
    outage_logger(f"sqlite.{name}").info("SQLite failed: %s", name)
    return database_error(code_of_sqlite_error(failure))
