"""Restores of the database from a backup, from which versions count."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0047"
down_revision = "0046"


def upgrade() -> None:
    op.create_table(
        "database_restores",
        sa.Column("version_base", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("undone_after", UtcDateTime),
    )


def downgrade() -> None:
    op.drop_table("database_restores")
