"""Schema migrations: upgrade, downgrade, and comparison with the newest schema.

Most starts find the newest schema, so Alembic is imported only for a change, and the driver only for PostgreSQL.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from support_service.core.errors import problem
from support_service.platform.database import MigrationTimings
from support_service.platform.database.failures import invalid_url_error, unusable_database_error

BUSY_TIMEOUT = 30.0  # seconds on SQLite, for another process that migrates the same file
MIGRATIONS = Path(__file__).parent / "migrations"
REVISION_ID = re.compile("[0-9]{4}")  # form of the revision ids
# A table of the earlier support-service, and the first table of this one.
EARLIER_TABLE, OWN_TABLE = "support_tickets", "tickets"
EARLIER_SERVICE_MESSAGE = (
    f"The database at SUPPORT_DATABASE_URL is that of the earlier support-service (table {EARLIER_TABLE}), and was not "
    "changed. Give this service a database or a PostgreSQL schema of its own, then both can run side by side"
)
BASELINE = "0060"  # the first migration, and the last one of release 0.2.0
LAST_OF_0_1_0 = "0011"
EARLIER_RELEASE_MESSAGE = (
    "The database at SUPPORT_DATABASE_URL is of {release} (revision {revision}), and was not changed. Upgrade it with "
    'release 0.2.0 first: run `support-service migrate` of 0.2.0, then of this release. The page "Upgrades and '
    'rollbacks" of the documentation has the steps'
)
# What 0.2.0 does after it has migrated an older database, and a query that finds a row as long as it is not done.
UNFINISHED_UPGRADES = {
    "messages without search documents": "SELECT 1 FROM messages WHERE NOT has_document LIMIT 1",
    "an interrupted `reports rebuild`": "SELECT 1 FROM report_state WHERE rebuilding_from IS NOT NULL",
    "events without a case": """
        SELECT 1 FROM outbox WHERE case_id IS NULL AND type <> 'support.database.restored.v1'
        UNION ALL
        SELECT 1 FROM published_events WHERE case_id IS NULL AND type <> 'support.database.restored.v1'
        UNION ALL
        SELECT 1 FROM webhook_deliveries WHERE case_id IS NULL AND type <> 'support.database.restored.v1'
        LIMIT 1
    """,
}
UNFINISHED_UPGRADE_MESSAGE = (
    "The database at SUPPORT_DATABASE_URL has {left}, and was not changed. Finish its upgrade with release 0.2.0, then "
    'start this release. The page "Upgrades and rollbacks" of the documentation has the steps'
)
UNFINISHED_COPY = "database_copy"  # a table that a target of `support-service database copy` has until it is complete
UNFINISHED_COPY_MESSAGE = (
    "The database at SUPPORT_DATABASE_URL has a part of another one: run `support-service database copy` until it has "
    "compared both"
)
ALEMBIC_VERSION = sa.table("alembic_version", sa.column("version_num"))  # Alembic's own table

Result = TypeVar("Result")
SchemaStatus = Literal["older", "newest", "newer"]  # a schema compared with the newest one that this release knows


def upgrade(url: str, revision: str = "head", timings: MigrationTimings = MigrationTimings()) -> SchemaStatus:
    """Apply all migrations up to `revision`, and return how the schema compares afterwards.

    A database that has all of them, or a newer schema, stays unchanged. Raises SupportError if the database can't be
    used, or if its upgrade to 0.2.0 was not finished. Blocks; must not be called in the thread of a running event loop.
    """

    def work(connection: sa.Connection) -> SchemaStatus:
        before = _compare_schema(connection)
        if before == "newer" or (before == "newest" and revision == "head"):
            return before
        _run_alembic(connection, "upgrade", revision)
        return _compare_schema(connection)

    return _run_exclusively(url, work, timings)


def downgrade(url: str, revision: str) -> None:
    """Revert migrations down to `revision`, which is BASELINE or a later one. Only tests and drills do this."""
    _run_exclusively(url, lambda connection: _run_alembic(connection, "downgrade", revision))


def _run_alembic(connection: sa.Connection, what: Literal["upgrade", "downgrade"], revision: str) -> None:
    """Run a command of Alembic. Raises Unavailable if the revision does not exist."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if connection.dialect.name == "postgresql":
        connection.rollback()  # ends a read-only transaction: Alembic begins no transaction of its own within another
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        getattr(command, what)(config, revision)
    except CommandError as failure:
        raise unusable_database_error(failure) from failure


def read_schema_status(url: str) -> SchemaStatus:
    """Return how the database's schema compares with the newest one that this release knows.

    Raises the errors of `upgrade`.
    """
    return _run_exclusively(url, _compare_schema, reads_only=True)


def latest_revision() -> str:
    """Return the revision of the last migration; each migration's file name begins with its revision."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _compare_schema(connection: sa.Connection) -> SchemaStatus:
    # "newer" is separate because a release must work on a newer schema: otherwise no release could be rolled back, and
    # in a rolling update no old replica could restart after `migrate`. This requires additive migrations, as all are so
    # far: tables, triggers on these, optional columns, indexes. A migration that removes something needs a different
    # result here.
    known = latest_revision()
    revision = _read_revision(connection)
    if BASELINE <= revision <= known:
        _check_upgraded(connection)
    if revision == known:
        return "newest"
    if not REVISION_ID.fullmatch(revision):
        return "older"
    if revision < BASELINE:
        release = "release 0.1.0" if revision <= LAST_OF_0_1_0 else "a version between 0.1.0 and 0.2.0"
        message = EARLIER_RELEASE_MESSAGE.format(release=release, revision=revision)
        raise problem("database_of_earlier_release", message)
    return "newer" if revision > known else "older"


def _check_upgraded(connection: sa.Connection) -> None:
    """Raise SupportError for a database whose upgrade from a release before 0.2.0 is not finished."""
    for left, query in UNFINISHED_UPGRADES.items():
        if connection.execute(sa.text(query)).first():
            raise problem("database_of_earlier_release", UNFINISHED_UPGRADE_MESSAGE.format(left=left))


def _check_usable(connection: sa.Connection) -> None:
    """Raise SupportError for a database of the earlier support-service only, and for a part of a copy."""
    found = sa.inspect(connection)
    if found.has_table(EARLIER_TABLE) and not found.has_table(OWN_TABLE):
        raise problem("database_of_earlier_service", EARLIER_SERVICE_MESSAGE)
    if found.has_table(UNFINISHED_COPY):
        raise problem("database_copy_unfinished", UNFINISHED_COPY_MESSAGE)


def _read_revision(connection: sa.Connection) -> str:
    """Return the revision recorded in the database, or an empty text without one."""
    if not sa.inspect(connection).has_table(ALEMBIC_VERSION.name):
        return ""
    revisions = connection.scalars(sa.select(ALEMBIC_VERSION.c.version_num)).all()
    if len(revisions) > 1:
        raise unusable_database_error(f"Table {ALEMBIC_VERSION.name} has more than one row")
    return str(revisions[0]) if revisions else ""


def _run_exclusively(
    url: str,
    work: Callable[[sa.Connection], Result],
    timings: MigrationTimings = MigrationTimings(),
    *,
    reads_only: bool = False,
) -> Result:
    """Run `work` on a connection while no other process migrates, and return its result.

    Work that only reads waits for no process on PostgreSQL: a replica may start while the database is migrated.

    Raises Unavailable for a database URL that can't be used, and for a database that fails. Raises SupportError for
    the database of the earlier support-service, and for a part of a copy.
    """

    def checked(connection: sa.Connection) -> Result:
        _check_usable(connection)
        return work(connection)

    try:
        if url.startswith("sqlite:"):
            return _run_on_sqlite(Path(url.removeprefix("sqlite:///")), checked)
        from support_service.platform.database.postgres import migrate

        return migrate.run_reading(url, checked) if reads_only else migrate.run_locked(url, checked, timings)
    except (OSError, TimeoutError, sa.exc.DBAPIError) as failure:
        raise unusable_database_error(failure, url) from failure
    except (TypeError, ValueError) as failure:  # the driver can't parse the URL
        raise invalid_url_error(failure) from failure


def _run_on_sqlite(path: Path, work: Callable[[sa.Connection], Result]) -> Result:
    from support_service.platform.database.sqlite.connection import create_missing_file

    create_missing_file(path)
    engine = sa.create_engine(
        f"sqlite+pysqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT},
        poolclass=NullPool,
        hide_parameters=True,
    )
    with engine.connect() as connection:
        # Explicit, because the driver would commit before each CREATE TABLE.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        result = work(connection)
        connection.exec_driver_sql("COMMIT")  # an exception closes the connection, which rolls back
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # last: it changes the file, also one that is refused
    return result
