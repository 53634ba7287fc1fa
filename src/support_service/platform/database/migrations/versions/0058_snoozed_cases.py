"""An index of the snoozed cases in the order of opening: a list of them would read and sort all."""

import sqlalchemy as sa
from alembic import op

revision = "0058"
down_revision = "0057"

INDEX = "ix_tickets_snoozed"
IS_SNOOZED = sa.text("snoozed_until IS NOT NULL AND status = 'pending'")


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.create_index(INDEX, "tickets", ["seq"], sqlite_where=IS_SNOOZED)
        return
    with op.get_context().autocommit_block():
        # An interrupted attempt leaves an index that is not usable.
        op.drop_index(INDEX, "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(INDEX, "tickets", ["seq"], postgresql_where=IS_SNOOZED, postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index(INDEX, "tickets")
