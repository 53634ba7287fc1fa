"""Indexes of the active cases that do not wait, and of the active cases without a due time.

In the order of waiting, and of due times, they follow the other cases. A list of one status read every case of that
status to find them. On PostgreSQL writers go on meanwhile, and an attempt that is interrupted is repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"

INDEXES = {
    "ix_tickets_without_wait": "status IN ('open', 'pending') AND waiting_since IS NULL",
    "ix_tickets_without_due_time": "status IN ('open', 'pending') AND sla_due_at IS NULL",
}


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for name, where in INDEXES.items():
            op.create_index(name, "tickets", ["status", "seq"], sqlite_where=sa.text(where))
        return
    with op.get_context().autocommit_block():
        for name, where in INDEXES.items():
            # An interrupted attempt leaves an index that is not usable.
            op.drop_index(name, "tickets", postgresql_concurrently=True, if_exists=True)
            op.create_index(
                name, "tickets", ["status", "seq"], postgresql_where=sa.text(where), postgresql_concurrently=True
            )


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "tickets")
