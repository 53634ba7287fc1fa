"""The index of an agent's cases also tells synthetic cases, so that a workload is counted without reading the cases."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

EARLIER = ("assigned_agent_id", "status", "seq")
COLUMNS = (*EARLIER, "synthetic", "channel")
ASSIGNED = sa.text("assigned_agent_id IS NOT NULL")


def _name(columns: tuple[str, ...]) -> str:
    return f"ix_tickets_{'_'.join(columns)}"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        op.create_index(_name(COLUMNS), "tickets", COLUMNS, sqlite_where=ASSIGNED)
        op.drop_index(_name(EARLIER), "tickets")
        return
    with op.get_context().autocommit_block():
        op.drop_index(_name(COLUMNS), "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(_name(COLUMNS), "tickets", COLUMNS, postgresql_concurrently=True)
        op.drop_index(_name(EARLIER), "tickets", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    op.drop_index(_name(COLUMNS), "tickets")
    op.create_index(_name(EARLIER), "tickets", EARLIER, sqlite_where=ASSIGNED)
