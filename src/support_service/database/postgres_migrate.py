"""Migrations on PostgreSQL, which is in use meanwhile, by the release before.

Each migration commits by itself, waits for a table only as long as others can wait behind it, and fills in rows
without a lock of their table.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from support_service.database.postgres import driver_url
from support_service.database.protocols import unusable, wrong_address

ADVISORY_LOCK = 7_351_902_114  # any number of our own: replicas that start together migrate one after another
LOCK_TIMEOUT = 1.0  # seconds to wait for a table in use: whoever wants it next waits as long, and gives up after 5
PAUSE = 2.0  # seconds for the others, until the next try
TRIES = 100  # some five minutes: nothing of the service's own has a table for as long, but a dump may
IN_USE = ("55P03", "40P01")  # lock timeout, deadlock

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def run(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    """Do the work while no other process migrates; raises Unavailable for what the driver itself refuses."""
    try:
        return asyncio.run(_run(url, work))
    except asyncpg.InterfaceError as failure:
        raise wrong_address(failure) from failure
    except asyncpg.PostgresError as failure:
        raise unusable(failure) from failure


async def _run(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    engine = create_async_engine(driver_url(url), poolclass=NullPool, hide_parameters=True)
    async with engine.connect() as connection:
        # The session's, which has it until it ends: there are many transactions.
        await connection.execute(sa.select(sa.func.pg_advisory_lock(ADVISORY_LOCK)))
        await connection.execute(sa.text(f"SET lock_timeout = {round(LOCK_TIMEOUT * 1000)}"))
        await connection.commit()
        return await _patiently(connection, work)


async def _patiently(connection: AsyncConnection, work: Callable[[sa.Connection], Result]) -> Result:
    """Do the work; where a table is in use, let others have it and go on later from where it is."""
    left = TRIES
    while True:
        try:
            return await connection.run_sync(work)
        except sa.exc.DBAPIError as failure:
            left -= 1
            if not left or getattr(failure.orig, "sqlstate", None) not in IN_USE:
                raise
            if left == TRIES - 1:
                log.warning("The database is in use; the migration waits for its turn")
        await asyncio.sleep(PAUSE)
