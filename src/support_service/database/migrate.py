"""Bring a database to the newest schema, or tell how far it is.

Most starts find the newest schema: only a change imports Alembic, and only PostgreSQL its driver.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from support_service.database.protocols import unusable, wrong_address

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_FOR = 30  # seconds to wait for another process that migrates the same SQLite file

NUMBER = re.compile("[0-9]{4}")  # what revisions are called here
APPLIED = sa.table("alembic_version", sa.column("version_num"))  # Alembic's own table

Result = TypeVar("Result")
Standing = Literal["older", "newest", "newer"]  # how a schema compares with the newest that this release knows


def upgrade(url: str, revision: str = "head") -> Standing:
    """Apply every migration up to a revision; a database that has them all, or more, is left as it is.

    Gives where it stands then. Blocks until it is done; not to be called on a running event loop's thread.
    """

    def work(connection: sa.Connection) -> Standing:
        before = _standing(connection)
        if before == "newer" or (before == "newest" and revision == "head"):
            return before
        from support_service.database import alembic_commands

        alembic_commands.upgrade(connection, MIGRATIONS, revision)
        return _standing(connection)

    return _run(url, work)


def downgrade(url: str, revision: str) -> None:
    """Take migrations back down to a revision; `base` takes them all."""
    from support_service.database import alembic_commands

    _run(url, lambda connection: alembic_commands.downgrade(connection, MIGRATIONS, revision))


def standing(url: str) -> Standing:
    """How the database's schema compares with the newest that this release knows."""
    return _run(url, _standing)


def newest() -> str:
    """The revision of the last migration: each file's name begins with its own."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _standing(connection: sa.Connection) -> Standing:
    # Newer is a standing of its own, since a release can work on such a schema: else none could be rolled back, and in
    # a rolling update no old replica could start again after `migrate`. That rests on migrations that only add, as
    # each so far does: tables, triggers on these, columns that may be left out, indexes. 0004 makes keys sort otherwise
    # and 0005 an index smaller, at which no statement fails. One that takes something away needs another answer here.
    known = newest()
    revision = _revision(connection)
    if revision == known:
        return "newest"
    return "newer" if NUMBER.fullmatch(revision) and revision > known else "older"


def _revision(connection: sa.Connection) -> str:
    """The revision that the database says it has; empty where it has none."""
    if not sa.inspect(connection).has_table(APPLIED.name):
        return ""
    revisions = connection.scalars(sa.select(APPLIED.c.version_num)).all()
    if len(revisions) > 1:
        raise unusable(f"Table {APPLIED.name} has more than one row")
    return str(revisions[0]) if revisions else ""


def _run(url: str, work: Callable[[sa.Connection], Result]) -> Result:
    """Do the work while no other process does any."""
    try:
        if url.startswith("sqlite:"):
            return _run_on_sqlite(Path(url.removeprefix("sqlite:///")), work)
        from support_service.database import postgres_migrate

        return postgres_migrate.run(url, work)
    except (TypeError, ValueError) as failure:  # a driver that can't read the address
        raise wrong_address(failure) from failure
    except (OSError, TimeoutError, sa.exc.DBAPIError) as failure:
        raise unusable(failure) from failure


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
