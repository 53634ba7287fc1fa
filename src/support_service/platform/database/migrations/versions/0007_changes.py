"""The version of a case, the audit log with its chain, and the keys of idempotent requests."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0007"
down_revision = "0006"

UNSEALED = sa.text("position IS NULL")
GENESIS = bytes(32)
# An entry may be given its place, once; and its changes may be erased with their salt. Nothing else of it ever changes.
SAME = " AND ".join(
    f"new.{column} IS NOT DISTINCT FROM old.{column}"
    for column in ("seq", "at", "actor", "role", "action", "case_id", "request_id")
)
SEALING = "old.position IS NULL AND new.position IS NOT NULL AND new.changes IS NOT DISTINCT FROM old.changes"
PLACE = " AND ".join(f"new.{column} IS NOT DISTINCT FROM old.{column}" for column in ("position", "digest", "hash"))
ERASING = f"{PLACE} AND new.changes IS NULL AND new.salt IS NULL"
FORBIDDEN = f"NOT ({SAME} AND (({SEALING}) OR ({ERASING})))"
REFUSAL = "the audit log is append-only"
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
        f"""
        CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log WHEN {FORBIDDEN.replace("IS NOT DISTINCT FROM", "IS")}
        BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
        """,
    ),
    "postgresql": (
        f"""
        CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation'; END $$
        """,
        """
        CREATE TRIGGER audit_log_keeps BEFORE DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()
        """,
        f"""
        CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
        FOR EACH ROW WHEN ({FORBIDDEN}) EXECUTE FUNCTION audit_log_refuse()
        """,
    ),
}


def upgrade() -> None:
    op.add_column("tickets", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "audit_log",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("case_id", sa.String(36)),
        sa.Column("request_id", sa.String(64)),
        sa.Column("changes", sa.Text),
        sa.Column("position", sa.BigInteger),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("hash", sa.LargeBinary),
    )
    op.create_index("ix_audit_log_case_id_seq", "audit_log", ["case_id", "seq"])
    op.create_index("ix_audit_log_position", "audit_log", ["position"], unique=True)
    op.create_index("ix_audit_log_unsealed", "audit_log", ["seq"], sqlite_where=UNSEALED, postgresql_where=UNSEALED)
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "position": 0, "hash": GENESIS}])
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(36), nullable=False),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", JSON_VALUE),
        sa.Column("body", sa.LargeBinary),
        sa.Column("case_id", sa.String(36)),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_index("ix_idempotency_keys_case_id", "idempotency_keys", ["case_id"])


def downgrade() -> None:
    for table in ("idempotency_keys", "audit_head", "audit_log"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_log_refuse()")
    op.drop_column("tickets", "version")
