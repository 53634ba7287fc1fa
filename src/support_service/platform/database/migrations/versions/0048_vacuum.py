"""PostgreSQL: room for changed keys of idempotency, and a vacuum of large tables before a fifth of them is dead.

A key is inserted and changed twice. With half of a page free, the changes stay on it and touch no index. The lock of
these statements lets reads and writes go on. Pages that exist stay as they are.
"""

from alembic import op

revision = "0048"
down_revision = "0047"

VACUUM = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_insert_scale_factor": 0.02,
    "autovacuum_analyze_scale_factor": 0.02,
}
OPTIONS = {
    "idempotency_keys": {"fillfactor": 50} | VACUUM,
    **dict.fromkeys(("tickets", "messages", "case_clocks", "search_documents", "audit_log"), VACUUM),
}


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for table, options in OPTIONS.items():
            op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in options.items())})")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for table, options in OPTIONS.items():
            op.execute(f"ALTER TABLE {table} RESET ({', '.join(options)})")
