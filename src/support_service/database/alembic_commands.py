"""Migrations applied and taken back by Alembic, on a connection that migrate.py has opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from support_service.database.protocols import unusable


def upgrade(connection: sa.Connection, migrations: Path, revision: str) -> None:
    """Apply every migration up to a revision; raises Unavailable where there is no such revision."""
    with _config(connection, migrations) as config:
        command.upgrade(config, revision)


def downgrade(connection: sa.Connection, migrations: Path, revision: str) -> None:
    """Take migrations back down to a revision; raises Unavailable where there is no such revision."""
    with _config(connection, migrations) as config:
        command.downgrade(config, revision)


@contextmanager
def _config(connection: sa.Connection, migrations: Path) -> Iterator[Config]:
    if connection.dialect.name == "postgresql":
        connection.rollback()  # of what only read: within a transaction that is there Alembic begins none of its own
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    try:
        yield config
    except CommandError as failure:
        raise unusable(failure) from failure
