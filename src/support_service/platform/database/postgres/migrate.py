"""Online migrations on PostgreSQL, while the previous release uses the database.

Each migration commits separately, waits for a table lock only as long as other sessions can wait behind it, and fills
in rows without locking their table.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from support_service.platform.database import MigrationTimings
from support_service.platform.database.failures import invalid_url_error, unusable_database_error
from support_service.platform.database.postgres.connection import Hosts

ADVISORY_LOCK = 7_351_902_114  # an arbitrary constant: replicas that start together migrate one after another
CONNECT_TIMEOUT = 5.0  # seconds
LOCK_POLL_INTERVAL = 0.2  # seconds between two attempts to be the only process that migrates
LOCK_CONFLICT_STATES = ("55P03", "40P01")  # lock timeout, deadlock

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def run_locked(url: str, work: Callable[[sa.Connection], Result], timings: MigrationTimings | None) -> Result:
    """Run `work` while no other process migrates, and return its result; without `timings` it only reads.

    A migration needs one session of the server from its beginning to its end. Reading also works through a pooler in
    transaction mode, because it is one transaction.

    Raises Unavailable for the driver's own errors.
    """
    try:
        return asyncio.run(_run_under_lock(url, work, timings))
    except asyncpg.InterfaceError as failure:
        raise invalid_url_error(failure) from failure
    except asyncpg.PostgresError as failure:
        raise unusable_database_error(failure, url) from failure


async def _run_under_lock(
    url: str, work: Callable[[sa.Connection], Result], timings: MigrationTimings | None
) -> Result:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # SQLAlchemy takes no URL with several hosts. Statements have no name, as a pooler needs it.
        async_creator=partial(Hosts(url, CONNECT_TIMEOUT).connect, statement_cache_size=0),
        connect_args={"prepared_statement_cache_size": 0, "prepared_statement_name_func": str},
        poolclass=NullPool,
        hide_parameters=True,
    )
    async with engine.connect() as connection:
        if timings is None:
            await _acquire_migration_lock(connection, sa.func.pg_try_advisory_xact_lock)
            return await connection.run_sync(work)
        await _acquire_migration_lock(connection, sa.func.pg_try_advisory_lock)
        await connection.execute(sa.text(f"SET lock_timeout = {round(timings.lock_timeout * 1000)}"))
        await connection.commit()
        return await _retry_while_in_use(connection, work, timings)


async def _acquire_migration_lock(connection: AsyncConnection, try_lock: Callable[[int], sa.Function[bool]]) -> None:
    """Take the lock of migrations; a migration, which has many transactions, holds it until its session ends.

    A process that waits has no transaction open meanwhile. CREATE INDEX CONCURRENTLY waits for all transactions, so the
    process that migrates would wait for the waiting processes.
    """
    while not await connection.scalar(sa.select(try_lock(ADVISORY_LOCK))):
        await connection.rollback()
        await asyncio.sleep(LOCK_POLL_INTERVAL)


async def _retry_while_in_use(
    connection: AsyncConnection, work: Callable[[sa.Connection], Result], timings: MigrationTimings
) -> Result:
    """Run `work`; if a table is in use, retry after a pause. Migrations that are already committed are not repeated."""
    attempt = 1
    while True:
        try:
            return await connection.run_sync(work)
        except sa.exc.DBAPIError as failure:
            in_use = getattr(failure.orig, "sqlstate", None) in LOCK_CONFLICT_STATES
            if not in_use or attempt == timings.attempts:
                raise
            if attempt == 1:
                log.warning("The database is in use; the migration is retried until it gets the tables")
        attempt += 1
        await asyncio.sleep(timings.retry_pause)
