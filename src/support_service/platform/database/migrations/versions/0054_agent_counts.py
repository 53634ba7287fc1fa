"""The number of open and pending cases of each agent, which triggers keep like `case_counts`: see 0037.

Cases that exist are counted once the triggers are committed. On PostgreSQL an interrupted attempt is repeated from the
start.
"""

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"

COUNTED = (
    "({row}.assigned_agent_id IS NOT NULL AND {row}.status IN ('open', 'pending')"
    " AND NOT coalesce({row}.synthetic, {row}.channel = 'synthetic'))"
)
NEW, OLD = COUNTED.format(row="new"), COUNTED.format(row="old")
CHANGED = "AFTER UPDATE OF status, assigned_agent_id"
MOVED = "(old.status <> new.status OR coalesce(old.assigned_agent_id, '') <> coalesce(new.assigned_agent_id, ''))"
ADD = """
INSERT INTO agent_counts (agent_id, status, number) SELECT {row}.assigned_agent_id, {row}.status, {change}
WHERE {counted} ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number
"""
ADD_NEW, ADD_OLD = ADD.format(row="new", change=1, counted=NEW), ADD.format(row="old", change=-1, counted=OLD)
# One statement sees the cases and what the triggers have counted at the same moment, and adds the difference.
COUNT = f"""
INSERT INTO agent_counts (agent_id, status, number)
SELECT agent_id, status, sum(number) FROM (
    SELECT assigned_agent_id AS agent_id, status, count(*) AS number FROM tickets
    WHERE {COUNTED.format(row="tickets")} GROUP BY assigned_agent_id, status
    UNION ALL SELECT agent_id, status, -number FROM agent_counts
) AS difference GROUP BY agent_id, status HAVING sum(number) <> 0
"""  # noqa: S608 - our own literals
SQLITE_TRIGGERS = (
    f"CREATE TRIGGER agent_counts_insert AFTER INSERT ON tickets WHEN {NEW} BEGIN {ADD_NEW}; END",
    f"CREATE TRIGGER agent_counts_delete AFTER DELETE ON tickets WHEN {OLD} BEGIN {ADD_OLD}; END",
    f"CREATE TRIGGER agent_counts_update {CHANGED} ON tickets WHEN {MOVED} BEGIN {ADD_OLD}; {ADD_NEW}; END",
)
POSTGRES_FUNCTION = f"""
CREATE OR REPLACE FUNCTION count_case_of_agent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' AND {OLD} THEN
            INSERT INTO agent_counts VALUES (old.assigned_agent_id, old.status, -1);
        END IF;
        IF TG_OP <> 'DELETE' AND {NEW} THEN
            INSERT INTO agent_counts VALUES (new.assigned_agent_id, new.status, 1);
        END IF;
        RETURN NULL;
    END $$
"""  # noqa: S608 - our own literals
POSTGRES_TRIGGERS = (
    ("agent_counts_insert", "AFTER INSERT", NEW),
    ("agent_counts_delete", "AFTER DELETE", OLD),
    ("agent_counts_update", CHANGED, MOVED),
)


def upgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    op.create_table(
        "agent_counts",
        sa.Column("agent_id", sa.String(36), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *([] if on_postgres else [sa.PrimaryKeyConstraint("agent_id", "status", name="pk_agent_counts")]),
        if_not_exists=True,
    )
    if not on_postgres:
        for statement in SQLITE_TRIGGERS:
            op.execute(statement)
        op.execute(f"{COUNT} ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number")
        return
    op.execute(POSTGRES_FUNCTION)
    for name, event, condition in POSTGRES_TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON tickets")
        op.execute(
            f"CREATE TRIGGER {name} {event} ON tickets FOR EACH ROW WHEN ({condition}) "
            "EXECUTE FUNCTION count_case_of_agent()"
        )
    with op.get_context().autocommit_block():
        op.execute(COUNT)


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    for name, *_ in POSTGRES_TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{' ON tickets' if on_postgres else ''}")
    if on_postgres:
        op.execute("DROP FUNCTION count_case_of_agent()")
    op.drop_table("agent_counts")
