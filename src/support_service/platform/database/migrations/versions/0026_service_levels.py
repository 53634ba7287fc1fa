"""Service levels: versions of policies, the clocks of cases, and the number of clocks that run.

Triggers keep the numbers, on PostgreSQL as rows of +1 and -1 that the service folds, as for 0017. The previous release
writes no clock, and leaves out the new columns of `tickets`. The index of due times has only the cases with one, so
that it is empty at first.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0026"
down_revision = "0025"

CURRENT = sa.text("is_current")
RUNNING = sa.text("state = 'running'")
OVERDUE = sa.text("state = 'breached' AND running_since IS NOT NULL")
HAS_DUE_TIME = sa.text("sla_due_at IS NOT NULL")
DUE_INDEX = ("ix_tickets_sla_due_at_seq", "tickets", ["sla_due_at", "seq"])
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
    on_postgres = op.get_context().dialect.name == "postgresql"
    _change_cases(on_postgres=on_postgres)  # first: it commits
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
        sa.ForeignKeyConstraint(["case_id"], ["tickets.id"], name=op.f("fk_case_clocks_case_id"), ondelete="CASCADE"),
    )
    op.create_index("ix_case_clocks_running", "case_clocks", ["due_at"], sqlite_where=RUNNING, postgresql_where=RUNNING)
    op.create_index(
        "ix_case_clocks_overdue",
        "case_clocks",
        ["target", "due_at"],
        sqlite_where=OVERDUE,
        postgresql_where=OVERDUE,
    )
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


def _change_cases(*, on_postgres: bool) -> None:
    columns = (sa.Column("sla_policy", sa.BigInteger), sa.Column("sla_due_at", UtcDateTime))
    if not on_postgres:
        for column in columns:
            op.add_column("tickets", column)
        op.create_index(*DUE_INDEX, sqlite_where=HAS_DUE_TIME)
        return
    # Writers go on meanwhile. What an interrupted attempt leaves is not usable, and is made again.
    with op.get_context().autocommit_block():
        for column in columns:
            op.add_column("tickets", column, if_not_exists=True)
        op.drop_index(DUE_INDEX[0], "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(*DUE_INDEX, postgresql_concurrently=True, postgresql_where=HAS_DUE_TIME)


def downgrade() -> None:
    op.drop_index(DUE_INDEX[0], "tickets")
    op.drop_column("tickets", "sla_due_at")
    op.drop_column("tickets", "sla_policy")
    op.drop_table("case_clocks")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION count_clock()")
    op.drop_table("clock_counts")
    op.drop_table("sla_policies")
    op.execute("DELETE FROM leases WHERE name = 'sla'")
