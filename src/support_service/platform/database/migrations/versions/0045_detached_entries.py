"""Segments of the audit log may be moved to files: the entries up to a detached position may be deleted.

The previous release goes on as before: nothing is detached until an operator does it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"

REFUSAL = "the audit log is append-only"
COLUMNS = {"detached_position": sa.BigInteger, "detached_hash": sa.LargeBinary}
STAYS = "old.position IS NULL OR old.position > coalesce((SELECT detached_position FROM audit_head), 0)"
REFUSE = f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
UPGRADE = {
    "sqlite": (
        "DROP TRIGGER audit_log_keeps",
        f"CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log WHEN {STAYS} {REFUSE}",
    ),
    "postgresql": (
        "DROP TRIGGER audit_log_keeps ON audit_log",
        f"""
        CREATE FUNCTION audit_log_refuse_attached() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {STAYS} THEN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation'; END IF;
            RETURN old;
        END $$
        """,
        """
        CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log
        FOR EACH ROW EXECUTE FUNCTION audit_log_refuse_attached()
        """,
        """
        CREATE TRIGGER audit_log_keeps_all BEFORE TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()
        """,
    ),
}
DOWNGRADE = {
    "sqlite": ("DROP TRIGGER audit_log_keeps", f"CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log {REFUSE}"),
    "postgresql": (
        "DROP TRIGGER audit_log_keeps_all ON audit_log",
        "DROP TRIGGER audit_log_keeps ON audit_log",
        "DROP FUNCTION audit_log_refuse_attached()",
        """
        CREATE TRIGGER audit_log_keeps BEFORE DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()
        """,
    ),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("audit_head", sa.Column(name, kind))
    for statement in UPGRADE[op.get_context().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE[op.get_context().dialect.name]:
        op.execute(statement)
    for name in COLUMNS:
        op.drop_column("audit_head", name)
