"""Bring a database to the newest schema, or tell how far it is.

PostgreSQL is in use meanwhile, by the release before: each migration commits by itself, waits for a table only as long
as others can wait behind it, and fills in rows without a lock of their table.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from support_service.database.postgres import driver_url
from support_service.errors import Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 7_351_902_114  # any number of our own: replicas that start together migrate one after another
BUSY_FOR = 30  # seconds to wait for another process that migrates the same SQLite file
LOCK_TIMEOUT = 1.0  # seconds to wait for a table in use: whoever wants it next waits as long, and gives up after 5
PAUSE = 2.0  # seconds for the others, until the next try
TRIES = 100  # some five minutes: nothing of the service's own has a table for as long, but a dump may
IN_USE = ("55P03", "40P01")  # lock timeout, deadlock

NUMBER = re.compile("[0-9]{4}")  # what revisions are called here

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Standing = Literal["older", "newest", "newer"]  # how a schema compares with the newest that this release knows


def upgrade(url: str, revision: str = "head") -> Standing:
    """Apply every migration up to a revision; a database that has them all, or more, is left as it is.

    Gives where it stands then. Blocks until it is done; not to be called on a running event loop's thread.
    """

    def work(connection: sa.Connection) -> Standing:
        if _standing(connection) != "newer":
            command.upgrade(_config(connection), revision)
        return _standing(connection)

    return _run(url, work)


def downgrade(url: str, revision: str) -> None:
    """Take migrations back down to a revision; `base` takes them all."""
    _run(url, lambda connection: command.downgrade(_config(connection), revision))


def standing(url: str) -> Standing:
    """How the database's schema compares with the newest that this release knows."""
    return _run(url, _standing)


def _standing(connection: sa.Connection) -> Standing:
    # Newer is a standing of its own, since a release can work on such a schema: else none could be rolled back, and in
    # a rolling update no old replica could start again after `migrate`. That rests on migrations that only add, as
    # each so far does: tables, triggers on these, columns that may be left out, indexes. 0004 makes keys sort otherwise
    # and 0005 an index smaller, at which no statement fails. One that takes something away needs another answer here.
    newest = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())
    revision = MigrationContext.configure(connection).get_current_revision() or ""
    if revision == newest:
        return "newest"
    return "newer" if NUMBER.fullmatch(revision) and revision > newest else "older"


def _config(connection: sa.Connection) -> Config:
    if connection.dialect.name == "postgresql":
        connection.rollback()  # of what only read: within a transaction that is there Alembic begins none of its own
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _run(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    """Do the work while no other process does any."""
    try:
        if url.startswith("sqlite:"):
            return _run_on_sqlite(Path(url.removeprefix("sqlite:///")), work)
        return asyncio.run(_run_on_postgres(url, work))
    except (asyncpg.InterfaceError, TypeError, ValueError) as failure:  # a driver that can't read the address
        raise Unavailable(
            "database_unavailable", f"The database's address can't be used: {type(failure).__name__}"
        ) from failure
    except (OSError, TimeoutError, sa.exc.DBAPIError, asyncpg.PostgresError, CommandError) as failure:
        cause = str(getattr(failure, "orig", None) or failure).partition("\n")[0]  # what follows may quote a row
        raise Unavailable("database_unavailable", f"The database can't be used: {cause}") from failure


def _run_on_sqlite(path: Path, work: Callable[[sa.Connection], Result]) -> Result:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        f"sqlite+pysqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_FOR},
        poolclass=NullPool,
        hide_parameters=True,
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        # By hand, since the driver would commit before each CREATE TABLE.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        result = work(connection)
        connection.exec_driver_sql("COMMIT")  # an exception closes the connection, which rolls back
    return result


async def _run_on_postgres(url: str, work: Callable[[sa.Connection], Result]) -> Result:
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
