"""Indexes to list the audit log across cases by time, actor and action.

Each has the order of the list at its end: a page of a frequent value is read in order, and all entries of a rare value
are found.
"""

from alembic import op

revision = "0027"
down_revision = "0026"

INDEXES = (("at", "seq"), ("actor", "at", "seq"), ("action", "at", "seq"))


def _name(columns: tuple[str, ...]) -> str:
    return f"ix_audit_log_{'_'.join(columns)}"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        for columns in INDEXES:
            op.create_index(_name(columns), "audit_log", columns)
        return
    # Writers go on meanwhile. What an interrupted attempt leaves is not usable, and is made again.
    with op.get_context().autocommit_block():
        for columns in INDEXES:
            op.drop_index(_name(columns), "audit_log", postgresql_concurrently=True, if_exists=True)
            op.create_index(_name(columns), "audit_log", columns, postgresql_concurrently=True)


def downgrade() -> None:
    for columns in INDEXES:
        op.drop_index(_name(columns), "audit_log")
