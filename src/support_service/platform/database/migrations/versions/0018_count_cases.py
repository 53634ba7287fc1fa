"""Count the cases that were there before the triggers of 0017.

One statement, which sees the cases and what the triggers have counted at the same moment, and adds the difference. It
locks no case, and loses no change that is made meanwhile: on PostgreSQL the triggers are committed by now, and every
transaction that wrote without them had ended before.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

COUNT = """
INSERT INTO case_counts (status, priority, number)
SELECT status, priority, sum(number) FROM (
    SELECT status, priority, count(*) AS number FROM tickets
    WHERE NOT coalesce(synthetic, channel = 'synthetic') GROUP BY status, priority
    UNION ALL SELECT status, priority, -number FROM case_counts
) AS difference GROUP BY status, priority HAVING sum(number) <> 0
"""
ADD_IN_PLACE = "ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number"  # for SQLite


def upgrade() -> None:
    op.execute(f"{COUNT} {ADD_IN_PLACE if op.get_bind().dialect.name == 'sqlite' else ''}")


def downgrade() -> None:
    op.execute("DELETE FROM case_counts")
