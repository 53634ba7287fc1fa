"""Tables that no previous release reads or writes: views, macros, links, service levels, sessions, keys, staged files.

Triggers keep the number of clocks that run. On PostgreSQL each change of a clock adds a row of +1 or -1, which the
service folds. So no two transactions wait for the same row.
"""

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, STORAGE_KEY, UtcDateTime

revision = "0036"
down_revision = "0035"

KEY_BYTES = 32
CURRENT = sa.text("is_current")
RUNNING = sa.text("state = 'running'")
OVERDUE = sa.text("state = 'breached' AND running_since IS NOT NULL")
NEW_RUNS, OLD_RUNS = "new.state = 'running'", "old.state = 'running'"
ADD = """
INSERT INTO clock_counts (target, number) VALUES ({row}.target, {change})
ON CONFLICT (target) DO UPDATE SET number = number + excluded.number
"""
ADD_NEW, ADD_OLD = ADD.format(row="new", change=1), ADD.format(row="old", change=-1)
EVENTS = (
    ("insert", "INSERT", NEW_RUNS, 1),
    ("delete", "DELETE", OLD_RUNS, -1),
    ("start", "UPDATE OF state", f"{NEW_RUNS} AND NOT {OLD_RUNS}", 1),
    ("stop", "UPDATE OF state", f"{OLD_RUNS} AND NOT {NEW_RUNS}", -1),
)
COUNT_CLOCK = """
CREATE FUNCTION count_clock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO clock_counts VALUES (coalesce(new.target, old.target), TG_ARGV[0]::bigint);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    _create_named_resources()
    _create_links_and_staged_files()
    _create_service_levels(on_postgres=op.get_context().dialect.name == "postgresql")
    op.create_table(
        "console_sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("sealed_token", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_console_sessions_token_hash_created_at", "console_sessions", ["token_hash", "created_at"])
    op.create_index("ix_console_sessions_expires_at", "console_sessions", ["expires_at"])
    secrets = op.create_table(
        "secrets", sa.Column("name", sa.String(32), primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    op.bulk_insert(secrets, [{"name": "cursors", "value": token_hex(KEY_BYTES)}])


def _create_named_resources() -> None:
    op.create_table(
        "views",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(128)),
        sa.Column("team", sa.String(36)),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("query", JSON_VALUE, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("id", name="uq_views_id"),
        sa.UniqueConstraint("owner", "name", name="uq_views_owner"),
        sa.UniqueConstraint("team", "name", name="uq_views_team"),
    )
    op.create_table(
        "macros",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("status", sa.String(16)),
        sa.Column("tags", JSON_VALUE, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("name", name=op.f("uq_macros_name")),
    )
    op.create_table(
        "sla_policies",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("content", JSON_VALUE, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "ix_sla_policies_name", "sla_policies", ["name"], unique=True, sqlite_where=CURRENT, postgresql_where=CURRENT
    )


def _create_links_and_staged_files() -> None:
    op.create_table(
        "case_links",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("other_case_id", sa.String(36), nullable=False),
        sa.Column("previous_status", sa.String(16)),
        sa.Column("created_at", UtcDateTime, nullable=False),
        _of_case("case_links", "case_id"),
        _of_case("case_links", "other_case_id"),
        sa.UniqueConstraint("id", name=op.f("uq_case_links_id")),
    )
    columns = ["case_id", "kind", "other_case_id"]
    op.create_index("ix_case_links_case_id_kind_other_case_id", "case_links", columns, unique=True)
    op.create_index("ix_case_links_other_case_id_kind", "case_links", ["other_case_id", "kind"])
    op.create_table(
        "staged_attachments",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("ticket_id", sa.String(36), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("storage", sa.String(16), nullable=False),
        sa.Column("storage_key", STORAGE_KEY, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("detected_type", sa.String(255)),
        sa.Column("staged_by", sa.String(255), nullable=False),
        sa.Column("staged_until", UtcDateTime, nullable=False),
        _of_case("staged_attachments", "ticket_id"),
    )
    for column in ("ticket_id", "staged_by", "staged_until"):
        op.create_index(f"ix_staged_attachments_{column}", "staged_attachments", [column])


def _create_service_levels(*, on_postgres: bool) -> None:
    op.create_table(
        "case_clocks",
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("policy", sa.BigInteger, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("allowance", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("running_since", UtcDateTime),
        sa.Column("due_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.PrimaryKeyConstraint("case_id", "target", name="pk_case_clocks"),
        _of_case("case_clocks", "case_id"),
    )
    for name, columns, where in (("running", ["due_at"], RUNNING), ("overdue", ["target", "due_at"], OVERDUE)):
        op.create_index(f"ix_case_clocks_{name}", "case_clocks", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "clock_counts",
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *([] if on_postgres else [sa.PrimaryKeyConstraint("target", name="pk_clock_counts")]),
    )
    op.execute("INSERT INTO leases (name, holder, fence, expires_at) VALUES ('sla', '', 0, 0)")
    if on_postgres:
        op.execute(COUNT_CLOCK)
    for name, event, condition, change in EVENTS:
        if on_postgres:
            what = f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION count_clock('{change}')"
        else:
            what = f"WHEN {condition} BEGIN {ADD_NEW if change > 0 else ADD_OLD}; END"
        op.execute(f"CREATE TRIGGER clock_counts_{name} AFTER {event} ON case_clocks {what}")


def _of_case(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["tickets.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")


def downgrade() -> None:
    op.execute("DELETE FROM leases WHERE name = 'sla'")
    op.drop_table("case_clocks")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION count_clock()")
    for table in (
        "clock_counts",
        "sla_policies",
        "staged_attachments",
        "case_links",
        "macros",
        "views",
        "secrets",
        "console_sessions",
    ):
        op.drop_table(table)
