"""Indexes for the sorts of the case list, for cases without an agent or a team, and a table of the tags of cases.

Triggers keep the tags in step with `tickets.tags`, so that a release without the table writes them too. Tags of
existing cases are filled in a few cases at a time, each locked meanwhile: a change that came first is seen, and one
that comes later finds what was filled in.

An attempt that is interrupted on PostgreSQL is repeated from the start: each step may have been done before.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import SEQUENCE

revision = "0025"
down_revision = "0024"

BATCH = 1000  # cases in one transaction
LATEST = {
    "sqlite": "max(updated_at, coalesce(internal_updated_at, updated_at))",
    "postgresql": "greatest(updated_at, coalesce(internal_updated_at, updated_at))",
}
WAITING = "waiting_since IS NOT NULL AND status IN ('open', 'pending')"
# Each with its name, columns, and the condition of its rows.
INDEXES = (
    ("ix_tickets_latest_change_seq", ("latest", "seq"), None),
    ("ix_tickets_waiting_since_seq", ("waiting_since", "seq"), WAITING),
    ("ix_tickets_without_agent", ("seq",), "assigned_agent_id IS NULL"),
    ("ix_tickets_without_team", ("seq",), "team IS NULL"),
)
SQLITE_ADD = "INSERT OR IGNORE INTO ticket_tags (tag, seq) SELECT value, new.seq FROM json_each(new.tags)"
SQLITE_REMOVE = "DELETE FROM ticket_tags WHERE seq = old.seq AND tag IN (SELECT value FROM json_each(old.tags))"
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER ticket_tags_insert AFTER INSERT ON tickets WHEN new.tags <> '[]' BEGIN {SQLITE_ADD}; END",
        f"CREATE TRIGGER ticket_tags_delete AFTER DELETE ON tickets WHEN old.tags <> '[]' BEGIN {SQLITE_REMOVE}; END",
        f"""
        CREATE TRIGGER ticket_tags_update AFTER UPDATE OF tags ON tickets WHEN old.tags <> new.tags
        BEGIN {SQLITE_REMOVE}; {SQLITE_ADD}; END
        """,
    ),
    "postgresql": (
        """
        CREATE OR REPLACE FUNCTION index_tags() RETURNS trigger LANGUAGE plpgsql AS $$
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
        END $$
        """,
        *(
            statement
            for name, event, condition in (
                ("insert", "INSERT", "new.tags <> '[]'"),
                ("delete", "DELETE", "old.tags <> '[]'"),
                ("update", "UPDATE OF tags", "old.tags <> new.tags"),
            )
            for statement in (
                f"DROP TRIGGER IF EXISTS ticket_tags_{name} ON tickets",
                f"""
                CREATE TRIGGER ticket_tags_{name} AFTER {event} ON tickets
                FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION index_tags()
                """,
            )
        ),
    ),
}
FILL = {
    "sqlite": """
        INSERT OR IGNORE INTO ticket_tags (tag, seq)
        SELECT value, tickets.seq FROM tickets, json_each(tickets.tags) WHERE tickets.seq BETWEEN :first AND :last
    """,
    "postgresql": """
        WITH tagged AS MATERIALIZED (
            SELECT seq, tags FROM tickets WHERE seq BETWEEN :first AND :last AND tags <> '[]' ORDER BY seq FOR SHARE
        )
        INSERT INTO ticket_tags (tag, seq) SELECT each, seq FROM tagged, jsonb_array_elements_text(tags) AS each
        ON CONFLICT DO NOTHING
    """,
}


def upgrade() -> None:
    context = op.get_context()
    dialect = context.dialect.name
    op.create_table(
        "ticket_tags",
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    for statement in TRIGGERS[dialect]:
        op.execute(statement)
    if dialect != "postgresql":
        _fill(op.get_bind())
        for name, columns, condition in INDEXES:
            op.create_index(name, "tickets", _columns(columns, dialect), sqlite_where=_where(condition))
        return
    # The triggers are committed by now. Writers go on meanwhile; what an interrupted attempt leaves of an index is not
    # usable, and is made again.
    with context.autocommit_block():
        _fill(op.get_bind())
        for name, columns, condition in INDEXES:
            op.drop_index(name, "tickets", postgresql_concurrently=True, if_exists=True)
            op.create_index(
                name,
                "tickets",
                _columns(columns, dialect),
                postgresql_where=_where(condition),
                postgresql_concurrently=True,
            )


def _columns(names: tuple[str, ...], dialect: str) -> list[str | sa.TextClause]:
    return [sa.text(f"({LATEST[dialect]})") if name == "latest" else name for name in names]


def _where(condition: str | None) -> sa.TextClause | None:
    return None if condition is None else sa.text(condition)


def _fill(connection: sa.Connection) -> None:
    last = connection.scalar(sa.text("SELECT max(seq) FROM tickets")) or 0
    for first in range(1, last + 1, BATCH):
        connection.execute(sa.text(FILL[connection.dialect.name]), {"first": first, "last": first + BATCH - 1})


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    for name, _, _ in INDEXES:
        op.drop_index(name, "tickets")
    for name in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER ticket_tags_{name}{' ON tickets' if on_postgres else ''}")
    if on_postgres:
        op.execute("DROP FUNCTION index_tags()")
    op.drop_table("ticket_tags")
