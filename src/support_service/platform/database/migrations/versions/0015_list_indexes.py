"""Indexes for the filters of the case list: one for each filter, and for statuses with priorities.

Each has `seq` at its end: a page of a frequent value is read in order, and all rows of a rare value are found.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

INDEXES = (
    ("status", "priority", "seq"),
    ("priority", "seq"),
    ("team", "seq"),
    ("channel", "seq"),
)


def _name(columns: tuple[str, ...]) -> str:
    return f"ix_tickets_{'_'.join(columns)}"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        for columns in INDEXES:
            op.create_index(_name(columns), "tickets", columns, sqlite_where=_present(columns))
        return
    # Writers go on meanwhile. What an interrupted attempt leaves is not usable, and is made again.
    with op.get_context().autocommit_block():
        for columns in INDEXES:
            op.drop_index(_name(columns), "tickets", postgresql_concurrently=True, if_exists=True)
            op.create_index(_name(columns), "tickets", columns, postgresql_concurrently=True)


def _present(columns: tuple[str, ...]) -> sa.TextClause | None:
    return sa.text("team IS NOT NULL") if "team" in columns else None


def downgrade() -> None:
    for columns in INDEXES:
        op.drop_index(_name(columns), "tickets")
