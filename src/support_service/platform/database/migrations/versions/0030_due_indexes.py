"""Indexes for the cases that are due first, of a status, an agent, a team and a priority, and for an agent's changes.

Those of due times have only cases with one. An attempt that is interrupted on PostgreSQL is repeated from the start:
each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"

HAS_DUE_TIME = sa.text("sla_due_at IS NOT NULL")
IS_ASSIGNED = sa.text("assigned_agent_id IS NOT NULL")
LATEST = {
    "sqlite": "max(updated_at, coalesce(internal_updated_at, updated_at))",
    "postgresql": "greatest(updated_at, coalesce(internal_updated_at, updated_at))",
}
DUE_COLUMNS = ("status", "assigned_agent_id", "team", "priority")


Columns = list[str | sa.TextClause]


def _indexes(dialect: str) -> list[tuple[str, Columns, sa.TextClause]]:
    """Return the name, the columns and the condition of each index."""
    found = []
    for column in DUE_COLUMNS:
        columns: Columns = [column, "sla_due_at", "seq"]
        found.append((f"ix_tickets_{column}_sla_due_at_seq", columns, HAS_DUE_TIME))
    columns = ["assigned_agent_id", sa.text(f"({LATEST[dialect]})"), "seq"]
    return [*found, ("ix_tickets_assigned_agent_id_latest_change_seq", columns, IS_ASSIGNED)]


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    if dialect != "postgresql":
        for name, columns, condition in _indexes(dialect):
            op.create_index(name, "tickets", columns, sqlite_where=condition)
        return
    # Writers go on meanwhile. What an interrupted attempt leaves of an index is not usable, and is made again.
    with op.get_context().autocommit_block():
        for name, columns, condition in _indexes(dialect):
            op.drop_index(name, "tickets", postgresql_concurrently=True, if_exists=True)
            op.create_index(name, "tickets", columns, postgresql_where=condition, postgresql_concurrently=True)


def downgrade() -> None:
    for name, _, _ in _indexes(op.get_context().dialect.name):
        op.drop_index(name, "tickets")
