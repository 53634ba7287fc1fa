"""An index of cases by the time of their opening, for the report with a row for each case.

On PostgreSQL writers go on meanwhile, and an attempt that is interrupted is repeated.
"""

from alembic import op

revision = "0050"
down_revision = "0049"

NAME = "ix_tickets_created_at_seq"


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.create_index(NAME, "tickets", ["created_at", "seq"])
        return
    with op.get_context().autocommit_block():
        # An interrupted attempt leaves an index that is not usable.
        op.drop_index(NAME, "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(NAME, "tickets", ["created_at", "seq"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index(NAME, "tickets")
