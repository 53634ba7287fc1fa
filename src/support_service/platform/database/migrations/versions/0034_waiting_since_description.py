"""A description is the customer's first message: a case that was opened with one waits since then.

A trigger says so of cases that the previous release opens during the upgrade, or after a rollback. Cases that exist are
corrected a few at a time, each locked meanwhile: also settled ones, which wait again when they are reopened.

An attempt that is interrupted on PostgreSQL is repeated from the start: each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"

BATCH = 1000  # cases in one transaction
NEW_WAITS = "new.waiting_since IS NULL AND new.answered_at IS NULL AND new.description <> ''"
SQLITE_WAIT = "UPDATE tickets SET waiting_since = created_at WHERE seq = new.seq"
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER tickets_waiting_insert AFTER INSERT ON tickets WHEN {NEW_WAITS} BEGIN {SQLITE_WAIT}; END",
    ),
    "postgresql": (
        """
        CREATE OR REPLACE FUNCTION wait_since_opening() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            new.waiting_since = new.created_at;
            RETURN new;
        END $$
        """,
        "DROP TRIGGER IF EXISTS tickets_waiting_insert ON tickets",
        f"""
        CREATE TRIGGER tickets_waiting_insert BEFORE INSERT ON tickets
        FOR EACH ROW WHEN ({NEW_WAITS}) EXECUTE FUNCTION wait_since_opening()
        """,
    ),
}
FILL = {
    "sqlite": """
        UPDATE tickets SET waiting_since = created_at
        WHERE seq BETWEEN :first AND :last AND waiting_since IS NULL AND answered_at IS NULL AND description <> ''
    """,
    "postgresql": """
        WITH unanswered AS MATERIALIZED (
            SELECT seq FROM tickets
            WHERE seq BETWEEN :first AND :last AND waiting_since IS NULL AND answered_at IS NULL AND description <> ''
            ORDER BY seq FOR UPDATE
        )
        UPDATE tickets SET waiting_since = created_at FROM unanswered WHERE tickets.seq = unanswered.seq
    """,
}


def upgrade() -> None:
    context = op.get_context()
    for statement in TRIGGERS[context.dialect.name]:
        op.execute(statement)
    if context.dialect.name != "postgresql":
        _fill(op.get_bind())
        return
    with context.autocommit_block():  # the trigger is committed by now
        _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    last = connection.scalar(sa.text("SELECT max(seq) FROM tickets")) or 0
    for first in range(1, last + 1, BATCH):
        connection.execute(sa.text(FILL[connection.dialect.name]), {"first": first, "last": first + BATCH - 1})


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    op.execute(f"DROP TRIGGER tickets_waiting_insert{' ON tickets' if on_postgres else ''}")
    if on_postgres:
        op.execute("DROP FUNCTION wait_since_opening()")
