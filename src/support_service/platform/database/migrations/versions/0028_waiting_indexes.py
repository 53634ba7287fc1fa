"""Indexes for the longest-waiting cases of a status, of an agent, of a team and of a priority.

They have only cases that wait. The index of all cases by status and waiting time goes: what read it, the gauge of the
longest wait, reads the index by waiting time.

An attempt that is interrupted on PostgreSQL is repeated from the start: each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

WAITING = sa.text("waiting_since IS NOT NULL AND status IN ('open', 'pending')")
COLUMNS = ("status", "assigned_agent_id", "team", "priority")
UNUSED = "ix_tickets_status_waiting_since"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        for column in COLUMNS:
            op.create_index(_name(column), "tickets", [column, "waiting_since", "seq"], sqlite_where=WAITING)
        op.drop_index(UNUSED, "tickets")
        return
    # Writers go on meanwhile. What an interrupted attempt leaves of an index is not usable, and is made again.
    with op.get_context().autocommit_block():
        for column in COLUMNS:
            op.drop_index(_name(column), "tickets", postgresql_concurrently=True, if_exists=True)
            op.create_index(
                _name(column),
                "tickets",
                [column, "waiting_since", "seq"],
                postgresql_where=WAITING,
                postgresql_concurrently=True,
            )
        op.drop_index(UNUSED, "tickets", postgresql_concurrently=True, if_exists=True)


def _name(column: str) -> str:
    return f"ix_tickets_{column}_waiting_since_seq"


def downgrade() -> None:
    op.create_index(UNUSED, "tickets", ["status", "waiting_since"])
    for column in COLUMNS:
        op.drop_index(_name(column), "tickets")
