"""The number of cases by status and priority, kept by triggers; 0018 counts the cases that are there.

On PostgreSQL each change adds rows of +1 and -1, so that no two transactions wait for the same row; the service folds
them. On SQLite, where one transaction writes at a time, a change updates the numbers in place.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

# Synthetic cases are not counted. A change of a case never changes whether it is synthetic.
REAL = "NOT coalesce({row}.synthetic, {row}.channel = 'synthetic')"
REAL_NEW, REAL_OLD = REAL.format(row="new"), REAL.format(row="old")
MOVED = f"(old.status <> new.status OR old.priority <> new.priority) AND {REAL_NEW}"
ADD = """
INSERT INTO case_counts (status, priority, number) VALUES ({row}.status, {row}.priority, {change})
ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number
"""
ADD_NEW, ADD_OLD = ADD.format(row="new", change=1), ADD.format(row="old", change=-1)
TRIGGERS = {
    "sqlite": (
        f"CREATE TRIGGER case_counts_insert AFTER INSERT ON tickets WHEN {REAL_NEW} BEGIN {ADD_NEW}; END",
        f"CREATE TRIGGER case_counts_delete AFTER DELETE ON tickets WHEN {REAL_OLD} BEGIN {ADD_OLD}; END",
        f"""
        CREATE TRIGGER case_counts_update AFTER UPDATE OF status, priority ON tickets WHEN {MOVED}
        BEGIN {ADD_OLD}; {ADD_NEW}; END
        """,
    ),
    "postgresql": (
        """
        CREATE FUNCTION count_case() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN INSERT INTO case_counts VALUES (old.status, old.priority, -1); END IF;
            IF TG_OP <> 'DELETE' THEN INSERT INTO case_counts VALUES (new.status, new.priority, 1); END IF;
            RETURN NULL;
        END $$
        """,
        *(
            f"""
            CREATE TRIGGER case_counts_{name} AFTER {event} ON tickets
            FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION count_case()
            """
            for name, event, condition in (
                ("insert", "INSERT", REAL_NEW),
                ("delete", "DELETE", REAL_OLD),
                ("update", "UPDATE OF status, priority", MOVED),
            )
        ),
    ),
}


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "case_counts",
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        *([sa.PrimaryKeyConstraint("status", "priority", name="pk_case_counts")] if on_sqlite else []),
    )
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for name in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER case_counts_{name}{' ON tickets' if on_postgres else ''}")
    if on_postgres:
        op.execute("DROP FUNCTION count_case()")
    op.drop_table("case_counts")
