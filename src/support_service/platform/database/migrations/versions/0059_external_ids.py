"""An index of cases by their external id alone, by which a search finds them.

On PostgreSQL writers go on meanwhile, and an attempt that is interrupted is repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"

NAME = "ix_tickets_external_id"
HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.create_index(NAME, "tickets", ["external_id"], sqlite_where=HAS_EXTERNAL_ID)
        return
    with op.get_context().autocommit_block():
        # An interrupted attempt leaves an index that is not usable.
        op.drop_index(NAME, "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(
            NAME, "tickets", ["external_id"], postgresql_concurrently=True, postgresql_where=HAS_EXTERNAL_ID
        )


def downgrade() -> None:
    op.drop_index(NAME, "tickets")
