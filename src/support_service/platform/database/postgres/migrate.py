"""Online migrations on PostgreSQL, while the previous release uses the database.

Each migration commits separately. It waits for a lock only as long as other sessions can wait behind it, and fills in
rows without locking their table. The engine gives each statement its limits, so that no migration can forget them.
"""

import asyncio
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from support_service.core.clock import utc_now
from support_service.platform.database import MigrationTimings
from support_service.platform.database.dialect import LockNumber
from support_service.platform.database.failures import unusable_database_error
from support_service.platform.database.postgres.connection import (
    DRIVER_ERRORS,
    Connection,
    Hosts,
    refused_connection_error,
)

CONNECT_TIMEOUT = 5.0  # seconds
LOCK_POLL_INTERVAL = 0.2  # seconds between two attempts to be the only process that migrates
LOCK_CONFLICT_STATES = ("55P03", "40P01")  # lock timeout, deadlock
# Statements without a limit of time. They wait for the transactions of others, while nobody waits behind them.
CONCURRENT = re.compile(r"\s*(CREATE\s+(UNIQUE\s+)?|DROP\s+)INDEX\s+CONCURRENTLY\s", re.IGNORECASE)
# A transaction that holds the lock of migrations, and has no snapshot: CREATE INDEX CONCURRENTLY waits for snapshots.
_BEGIN_LOCKED = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0"
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
_SELECT_HOLDER = """
SELECT pid, coalesce(application_name, '') AS application, coalesce(client_addr::text, 'local') AS address
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND classid::bigint << 32 | objid::bigint = $1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def run_locked(url: str, work: Callable[[sa.Connection], Result], timings: MigrationTimings) -> Result:
    """Run `work` while no other process migrates, and return its result.

    It also works through a pooler in transaction mode. The lock is held by a transaction of its own, and nothing is set
    for a whole session.
    """
    return asyncio.run(run_alone(url, "migrate", lambda hosts: _run_limited(hosts, work, timings), timings))


def run_reading(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    """Run `work`, which only reads, without waiting for a process that migrates. Raises Unavailable."""

    async def read() -> Result:
        async with _engine(Hosts(url, CONNECT_TIMEOUT)).connect() as connection:
            return await connection.run_sync(work)

    with _refusals_translated(url):
        return asyncio.run(read())


async def run_alone(
    url: str, command: str, work: Callable[[Hosts], Coroutine[Any, Any, Result]], timings: MigrationTimings
) -> Result:
    """Run `work` of a command while no process migrates, and return its result.

    It is cancelled if the lock is lost. Raises Unavailable, also if another process migrates for too long.
    """
    with _refusals_translated(url):
        hosts = Hosts(url, CONNECT_TIMEOUT)
        async with _migration_lock(hosts, timings, command) as lost:
            working = asyncio.create_task(work(hosts))
            try:
                await asyncio.wait([working, lost], return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return working.result()
                raise unusable_database_error(
                    f"the session that holds the lock of migrations was ended; run `{command}` again"
                )
            finally:  # from now on another process may migrate
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)


@contextmanager
def _refusals_translated(url: str) -> Iterator[None]:
    """Raise Unavailable for what the driver raises in the block."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as failure:
        raise refused_connection_error(failure, url) from failure


def _engine(hosts: Hosts) -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://",
        # SQLAlchemy takes no URL with several hosts. Statements have no name, as a pooler needs it.
        async_creator=partial(hosts.connect, statement_cache_size=0),
        connect_args={"prepared_statement_cache_size": 0, "prepared_statement_name_func": str},
        poolclass=NullPool,
        hide_parameters=True,
    )


class _Attempts:
    """The attempts to get a lock that another session holds."""

    def __init__(self, timings: MigrationTimings) -> None:
        self._timings = timings
        self._failed = 0  # since the last success

    def succeed(self) -> None:
        self._failed = 0

    async def wait_for_next(self, failure: BaseException | None) -> bool:
        """Wait before the next attempt. Return False after the last one, and if no lock was in use."""
        self._failed += 1
        if getattr(failure, "sqlstate", None) not in LOCK_CONFLICT_STATES or self._failed >= self._timings.attempts:
            return False
        if self._failed == 1:
            log.warning("The database is in use; the migration is retried until it gets the tables")
        await asyncio.sleep(self._timings.retry_pause)
        return True


async def _run_limited(hosts: Hosts, work: Callable[[sa.Connection], Result], timings: MigrationTimings) -> Result:
    engine = _engine(hosts)
    attempts = _Attempts(timings)
    limits = {
        "lock_timeout": round(timings.lock_timeout * 1000),
        # What a role has for the service is too short for an index.
        "statement_timeout": 0,
        "idle_in_transaction_session_timeout": 0,
    }
    _limit_statements(engine, limits, attempts)
    async with engine.connect() as connection:
        await _lift_limits(connection, limits)
        while True:
            try:
                return await connection.run_sync(work)
            except sa.exc.DBAPIError as failure:  # migrations that are already committed are not repeated
                if not await attempts.wait_for_next(failure.orig):
                    raise


def _limit_statements(engine: AsyncEngine, limits: Mapping[str, int], attempts: _Attempts) -> None:
    """Run each statement in a transaction with the limits.

    A statement of an `autocommit_block` gets a transaction of its own, and is repeated if a lock is in use. Only a
    concurrent build or removal of an index runs outside of a transaction.
    """
    begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in limits.items())])

    @sa.event.listens_for(engine.sync_engine, "begin")
    def set_limits(connection: sa.Connection) -> None:
        if not _commits_each_statement(connection):
            settings = (sa.func.set_config(name, str(value), sa.true()) for name, value in limits.items())
            connection.execute(sa.select(*settings))

    def limited(run: Callable[[Any, str, Any], None]) -> Callable[[Any, str, Any, Any], bool]:
        def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
            connection = context.root_connection
            if not _commits_each_statement(connection) or CONCURRENT.match(statement):
                return False  # SQLAlchemy runs it
            driver = connection.connection.dbapi_connection
            while True:
                driver.run_async(lambda session: session.execute(begin))
                try:
                    run(cursor, statement, parameters)
                except Exception as failure:
                    driver.run_async(lambda session: session.execute("ROLLBACK"))
                    if not driver.run_async(lambda _, failure=failure: attempts.wait_for_next(failure)):
                        raise
                else:
                    driver.run_async(lambda session: session.execute("COMMIT"))
                    attempts.succeed()
                    return True

        return execute

    sa.event.listen(engine.sync_engine, "do_execute", limited(lambda cursor, *given: cursor.execute(*given)))
    sa.event.listen(engine.sync_engine, "do_executemany", limited(lambda cursor, *given: cursor.executemany(*given)))


def _commits_each_statement(connection: sa.Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


async def _lift_limits(connection: AsyncConnection, limits: Mapping[str, int]) -> None:
    """Lift the limits outside of transactions, where indexes are built.

    Nothing is set for a session of a pooler, because others get it. Raises Unavailable if one ends long statements.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    row = await driver.fetchrow("SELECT pg_backend_pid() AS pid, current_setting('statement_timeout') AS timeout")
    if row["pid"] == driver.get_server_pid():
        await driver.execute("; ".join(f"SET {name} = 0" for name in limits))
    elif row["timeout"] != "0":
        raise unusable_database_error(
            f"sessions behind the pooler have statement_timeout = {row['timeout']}, which is too short to build an "
            "index: give `migrate` the URL of PostgreSQL itself"
        )


@asynccontextmanager
async def _migration_lock(hosts: Hosts, timings: MigrationTimings, command: str) -> AsyncIterator[asyncio.Task[object]]:
    """Hold the lock of migrations during the block; yield a task that ends if the lock is lost.

    It belongs to a transaction. So it ends with the process, also behind a pooler, which ends the session of a
    transaction whose client is gone.
    """
    name = f"support-service {command}, {socket.gethostname()}"[:50] + f", process {os.getpid()}"
    connection = await hosts.connect(statement_cache_size=0, server_settings={"application_name": name})
    try:
        await _acquire(connection, timings)
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        lost = asyncio.create_task(ended.wait())
        yield lost
        lost.cancel()
    finally:
        with suppress(*DRIVER_ERRORS):
            await connection.execute("ROLLBACK", timeout=CONNECT_TIMEOUT)
            await connection.close(timeout=CONNECT_TIMEOUT)


async def _acquire(connection: Connection, timings: MigrationTimings) -> None:
    """Wait for the lock. A process that waits has no transaction open meanwhile, and says who holds the lock.

    Raises Unavailable at the end of `max_wait`.
    """
    until = utc_now() + timedelta(seconds=timings.max_wait)
    holder, who = None, "another process"
    while True:
        await connection.execute(_BEGIN_LOCKED)
        if await connection.fetchval(_TRY_LOCK, LockNumber.MIGRATION):
            await connection.execute("SHOW lock_timeout")  # ends the portal of the statement before, and its snapshot
            return
        row = await connection.fetchrow(_SELECT_HOLDER, LockNumber.MIGRATION)
        await connection.execute("ROLLBACK")
        if row and row["pid"] != holder:
            holder = row["pid"]
            who = f"session {holder} of PostgreSQL ({row['application'] or 'no name'}, from {row['address']})"
            text = "Another process holds the lock of migrations: %s. Waiting until %s UTC"
            log.warning(text, who, f"{until:%H:%M:%S}")
        if utc_now() >= until:
            raise unusable_database_error(
                f"{who} still holds the lock of migrations after {timings.max_wait:g} s. Wait longer, or end that "
                f"session: SELECT pg_terminate_backend({holder})"
            )
        await asyncio.sleep(LOCK_POLL_INTERVAL)
