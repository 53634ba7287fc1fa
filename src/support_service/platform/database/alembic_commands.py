"""Alembic upgrades and downgrades, on a connection opened by migrate.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from support_service.platform.database.failures import unusable_database_error


def upgrade(connection: sa.Connection, migrations: Path, revision: str) -> None:
    """Apply all migrations up to `revision`; raises Unavailable if the revision does not exist."""
    with _config(connection, migrations) as config:
        command.upgrade(config, revision)


def downgrade(connection: sa.Connection, migrations: Path, revision: str) -> None:
    """Revert migrations down to `revision`; raises Unavailable if the revision does not exist."""
    with _config(connection, migrations) as config:
        command.downgrade(config, revision)


@contextmanager
def _config(connection: sa.Connection, migrations: Path) -> Iterator[Config]:
    if connection.dialect.name == "postgresql":
        connection.rollback()  # ends a read-only transaction: Alembic begins no transaction of its own within another
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    try:
        yield config
    except CommandError as failure:
        raise unusable_database_error(failure) from failure
