"""Bring a database to the newest schema, or tell whether it is there."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from support_service.database.postgres import driver_url
from support_service.errors import Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 7_351_902_114  # any number of our own: replicas that start together migrate one after another
BUSY_FOR = 30  # seconds to wait for another process that migrates the same SQLite file

Result = TypeVar("Result")


def upgrade(url: str, revision: str = "head") -> None:
    """Apply every migration up to a revision; a database that has them all is left as it is.

    Blocks until it is done; not to be called on a running event loop's thread.
    """
    _run(url, lambda connection: command.upgrade(_config(connection), revision))


def downgrade(url: str, revision: str) -> None:
    """Take migrations back down to a revision; `base` takes them all."""
    _run(url, lambda connection: command.downgrade(_config(connection), revision))


def is_current(url: str) -> bool:
    """Whether the database has every migration that this release knows."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    return _run(url, lambda connection: MigrationContext.configure(connection).get_current_revision() == head)


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _run(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    """Do the work in one transaction that no other process shares."""
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
    async with engine.begin() as connection:
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        return await connection.run_sync(work)
