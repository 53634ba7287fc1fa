"""Triggers that keep numbers of cases, tags and waiting times, also for cases that a previous release writes.

- `case_counts`: the number of cases by status and priority. On PostgreSQL each change adds rows of +1 and -1, so that
  no two transactions wait for the same row; the service folds them. On SQLite, where one transaction writes at a time,
  a change updates the numbers in place.
- `ticket_tags`: the tags of cases, from `tickets.tags`.
- `tickets.waiting_since`: a description is the customer's first message, so a case with one waits since it was opened.

Cases that exist are filled in once the triggers are committed. On PostgreSQL an attempt that is interrupted is repeated
from the start: each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import SEQUENCE

revision = "0037"
down_revision = "0036"

BATCH = 1000  # cases in one transaction

# Synthetic cases are not counted. A change of a case never changes whether it is synthetic.
REAL = "NOT coalesce({row}.synthetic, {row}.channel = 'synthetic')"
REAL_NEW, REAL_OLD = REAL.format(row="new"), REAL.format(row="old")
MOVED = f"(old.status <> new.status OR old.priority <> new.priority) AND {REAL_NEW}"
ADD = """
INSERT INTO case_counts (status, priority, number) VALUES ({row}.status, {row}.priority, {change})
ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number
"""
ADD_NEW, ADD_OLD = ADD.format(row="new", change=1), ADD.format(row="old", change=-1)
# One statement, which sees the cases and what the triggers have counted at the same moment, and adds the difference. It
# locks no case, and loses no change that is made meanwhile: every transaction that wrote without triggers has ended.
COUNT = """
INSERT INTO case_counts (status, priority, number)
SELECT status, priority, sum(number) FROM (
    SELECT status, priority, count(*) AS number FROM tickets
    WHERE NOT coalesce(synthetic, channel = 'synthetic') GROUP BY status, priority
    UNION ALL SELECT status, priority, -number FROM case_counts
) AS difference GROUP BY status, priority HAVING sum(number) <> 0
"""
COUNT_IN_PLACE = f"{COUNT} ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number"

ADD_TAGS = "INSERT OR IGNORE INTO ticket_tags (tag, seq) SELECT value, new.seq FROM json_each(new.tags)"
REMOVE_TAGS = "DELETE FROM ticket_tags WHERE seq = old.seq AND tag IN (SELECT value FROM json_each(old.tags))"
NEW_WAITS = "new.waiting_since IS NULL AND new.answered_at IS NULL AND new.description <> ''"
OLD_WAITS = "waiting_since IS NULL AND answered_at IS NULL AND description <> ''"
WAIT = "UPDATE tickets SET waiting_since = created_at WHERE seq = new.seq"

SQLITE_TRIGGERS = (
    f"CREATE TRIGGER case_counts_insert AFTER INSERT ON tickets WHEN {REAL_NEW} BEGIN {ADD_NEW}; END",
    f"CREATE TRIGGER case_counts_delete AFTER DELETE ON tickets WHEN {REAL_OLD} BEGIN {ADD_OLD}; END",
    f"""
    CREATE TRIGGER case_counts_update AFTER UPDATE OF status, priority ON tickets WHEN {MOVED}
    BEGIN {ADD_OLD}; {ADD_NEW}; END
    """,
    f"CREATE TRIGGER ticket_tags_insert AFTER INSERT ON tickets WHEN new.tags <> '[]' BEGIN {ADD_TAGS}; END",
    f"CREATE TRIGGER ticket_tags_delete AFTER DELETE ON tickets WHEN old.tags <> '[]' BEGIN {REMOVE_TAGS}; END",
    f"""
    CREATE TRIGGER ticket_tags_update AFTER UPDATE OF tags ON tickets WHEN old.tags <> new.tags
    BEGIN {REMOVE_TAGS}; {ADD_TAGS}; END
    """,
    f"CREATE TRIGGER tickets_waiting_insert AFTER INSERT ON tickets WHEN {NEW_WAITS} BEGIN {WAIT}; END",
)
POSTGRES_FUNCTIONS = {
    "count_case": """
        BEGIN
            IF TG_OP <> 'INSERT' THEN INSERT INTO case_counts VALUES (old.status, old.priority, -1); END IF;
            IF TG_OP <> 'DELETE' THEN INSERT INTO case_counts VALUES (new.status, new.priority, 1); END IF;
            RETURN NULL;
        END""",
    "index_tags": """
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                DELETE FROM ticket_tags
                WHERE seq = old.seq AND tag IN (SELECT each FROM jsonb_array_elements_text(old.tags) AS each);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                INSERT INTO ticket_tags (tag, seq) SELECT each, new.seq FROM jsonb_array_elements_text(new.tags) AS each
                ON CONFLICT DO NOTHING;
            END IF;
            RETURN NULL;
        END""",
    "wait_since_opening": """
        BEGIN
            new.waiting_since = new.created_at;
            RETURN new;
        END""",
}
# The name, the event, the condition and the function of each. SQLite's triggers have the same names.
POSTGRES_TRIGGERS = (
    ("case_counts_insert", "AFTER INSERT", REAL_NEW, "count_case"),
    ("case_counts_delete", "AFTER DELETE", REAL_OLD, "count_case"),
    ("case_counts_update", "AFTER UPDATE OF status, priority", MOVED, "count_case"),
    ("ticket_tags_insert", "AFTER INSERT", "new.tags <> '[]'", "index_tags"),
    ("ticket_tags_delete", "AFTER DELETE", "old.tags <> '[]'", "index_tags"),
    ("ticket_tags_update", "AFTER UPDATE OF tags", "old.tags <> new.tags", "index_tags"),
    ("tickets_waiting_insert", "BEFORE INSERT", NEW_WAITS, "wait_since_opening"),
)
# On PostgreSQL each case is locked meanwhile: a change that came first is seen, and one that comes later finds what was
# filled in.
FILL = {
    "sqlite": (
        """
        INSERT OR IGNORE INTO ticket_tags (tag, seq)
        SELECT value, tickets.seq FROM tickets, json_each(tickets.tags) WHERE tickets.seq BETWEEN :first AND :last
        """,
        f"UPDATE tickets SET waiting_since = created_at WHERE seq BETWEEN :first AND :last AND {OLD_WAITS}",  # noqa: S608 - our own literals
    ),
    "postgresql": (
        """
        WITH tagged AS MATERIALIZED (
            SELECT seq, tags FROM tickets WHERE seq BETWEEN :first AND :last AND tags <> '[]' ORDER BY seq FOR SHARE
        )
        INSERT INTO ticket_tags (tag, seq) SELECT each, seq FROM tagged, jsonb_array_elements_text(tags) AS each
        ON CONFLICT DO NOTHING
        """,
        f"""
        WITH unanswered AS MATERIALIZED (
            SELECT seq FROM tickets WHERE seq BETWEEN :first AND :last AND {OLD_WAITS} ORDER BY seq FOR UPDATE
        )
        UPDATE tickets SET waiting_since = created_at FROM unanswered WHERE tickets.seq = unanswered.seq
        """,  # noqa: S608 - our own literals
    ),
}


def upgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    op.create_table(
        "case_counts",
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *([] if on_postgres else [sa.PrimaryKeyConstraint("status", "priority", name="pk_case_counts")]),
        if_not_exists=True,
    )
    op.create_table(
        "ticket_tags",
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    if not on_postgres:
        for statement in SQLITE_TRIGGERS:
            op.execute(statement)
        _fill(op.get_bind(), COUNT_IN_PLACE)
        return
    for name, body in POSTGRES_FUNCTIONS.items():
        op.execute(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body} $$")
    for name, event, condition, function in POSTGRES_TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON tickets")
        op.execute(
            f"CREATE TRIGGER {name} {event} ON tickets FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {function}()"
        )
    with op.get_context().autocommit_block():
        _fill(op.get_bind(), COUNT)


def _fill(connection: sa.Connection, count: str) -> None:
    connection.execute(sa.text(count))
    last = connection.scalar(sa.text("SELECT max(seq) FROM tickets")) or 0
    for first in range(1, last + 1, BATCH):
        for statement in FILL[connection.dialect.name]:
            connection.execute(sa.text(statement), {"first": first, "last": first + BATCH - 1})


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    for name, *_ in POSTGRES_TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{' ON tickets' if on_postgres else ''}")
    if on_postgres:
        for name in POSTGRES_FUNCTIONS:
            op.execute(f"DROP FUNCTION {name}()")
    op.drop_table("ticket_tags")
    op.drop_table("case_counts")
