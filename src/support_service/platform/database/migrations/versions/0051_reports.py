"""Reports: triggers store what happens to cases, also where a previous release writes.

Each occurrence is a row of its own, so that no two transactions wait for the same counter. A job of the service adds
the occurrences to the counters. Synthetic cases are left out. So are imported cases: the import records no
`case.opened`.

No occurrence is counted twice or left out. No transaction writes while the triggers are made. `report_state` has the
last case and the last entry of the audit log before them, so that what was before may be counted later.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import SEQUENCE, UtcDateTime

revision = "0051"
down_revision = "0050"

REAL = "NOT coalesce({row}.synthetic, {row}.channel = 'synthetic')"
ADD = "INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)"
ADD_CASE = ADD + " VALUES ('{measure}', new.id, {at}, new.created_at, new.team, new.assigned_agent_id, new.channel)"
SELECT = " SELECT {measure}, id, {at}, {at}, team, assigned_agent_id, channel FROM tickets WHERE {where}"
ADD_OF_CASE = ADD + SELECT
RESULT = """
INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES ({values})
ON CONFLICT (case_id) DO UPDATE SET {change}
"""
WAS_ACTIVE, IS_ACTIVE = (f"{row}.status IN ('open', 'pending')" for row in ("old", "new"))


class Trigger(NamedTuple):
    """A trigger after a change, with its condition and its statements, which both databases understand."""

    name: str
    table: str
    event: str
    when: str
    statements: tuple[str, ...]


TRIGGERS = (
    Trigger(
        "report_solved",
        "tickets",
        "UPDATE OF status",
        f"{WAS_ACTIVE} AND NOT {IS_ACTIVE} AND {REAL.format(row='new')}",
        (
            ADD_CASE.format(measure="solved", at="new.updated_at"),
            RESULT.format(values="new.id, new.updated_at, 0, 0", change="solved_at = excluded.solved_at"),
        ),
    ),
    Trigger(
        "report_reopened",
        "tickets",
        "UPDATE OF status",
        f"NOT {WAS_ACTIVE} AND {IS_ACTIVE} AND {REAL.format(row='new')}",
        (
            ADD_CASE.format(measure="reopened", at="new.updated_at"),
            RESULT.format(values="new.id, NULL, 1, 0", change="solved_at = NULL, reopened = case_results.reopened + 1"),
        ),
    ),
    Trigger(
        "report_answered",
        "tickets",
        "UPDATE OF answered_at",
        f"old.answered_at IS NULL AND new.answered_at IS NOT NULL AND {REAL.format(row='new')}",
        (ADD_CASE.format(measure="answered", at="new.answered_at"),),
    ),
    Trigger(
        "report_breached",
        "case_clocks",
        "UPDATE OF state",
        "old.state <> 'breached' AND new.state = 'breached' AND new.due_at IS NOT NULL",
        (
            ADD_OF_CASE.format(measure="new.target", at="new.due_at", where="id = new.case_id"),
            RESULT.format(values="new.case_id, NULL, 0, 1", change="breaches = case_results.breaches + 1"),
        ),
    ),
    Trigger(
        "report_opened",
        "audit_log",
        "INSERT",
        "new.action = 'case.opened'",
        (
            ADD_OF_CASE.format(
                measure="'opened'", at="created_at", where=f"id = new.case_id AND {REAL.format(row='tickets')}"
            ),
        ),
    ),
)


def upgrade() -> None:
    _create_tables()
    on_postgres = op.get_context().dialect.name == "postgresql"
    if on_postgres:
        op.execute("LOCK TABLE tickets, case_clocks, audit_log IN SHARE ROW EXCLUSIVE MODE")
    connection = op.get_bind()
    last_case, last_entry = (
        connection.scalar(sa.text(f"SELECT coalesce(max(seq), 0) FROM {table}"))  # noqa: S608 - our own names
        for table in ("tickets", "audit_log")
    )
    for name, table, event, when, statements in TRIGGERS:
        body = f"BEGIN {'; '.join(statements)}; {{}}END"
        trigger = f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW WHEN"
        if on_postgres:
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body.format('RETURN NULL; ')} $$"
            )
            op.execute(f"{trigger} ({when}) EXECUTE FUNCTION {name}()")
        else:
            op.execute(f"{trigger} {when} {body.format('')}")
    state = {
        "id": 1,
        "since": datetime.now(UTC) if last_case else None,
        "last_case": last_case,
        "last_entry": last_entry,
        "position": 0,
    }
    op.bulk_insert(_STATE, [state])


_STATE = sa.table(
    "report_state",
    sa.column("id"),
    sa.column("since", UtcDateTime),
    sa.column("last_case"),
    sa.column("last_entry"),
    sa.column("position"),
)


def _create_tables() -> None:
    op.create_table(
        "report_changes",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("measure", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("since", UtcDateTime, nullable=False),
        sa.Column("team", sa.String(36)),
        sa.Column("agent", sa.String(36)),
        sa.Column("channel", sa.String(32), nullable=False),
    )
    op.create_table(
        "report_counts",
        sa.Column("grain", sa.String(24), primary_key=True),
        sa.Column("span", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("team", sa.String(36), primary_key=True),
        sa.Column("agent", sa.String(36), primary_key=True),
        sa.Column("channel", sa.String(32), primary_key=True),
        sa.Column("counts", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "case_results",
        sa.Column("case_id", sa.String(36), primary_key=True),
        sa.Column("solved_at", UtcDateTime),
        sa.Column("reopened", sa.Integer, nullable=False),
        sa.Column("breaches", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["tickets.id"], name=op.f("fk_case_results_case_id"), ondelete="CASCADE"),
    )
    op.create_table(
        "report_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("since", UtcDateTime),
        sa.Column("last_case", sa.BigInteger, nullable=False),
        sa.Column("last_entry", sa.BigInteger, nullable=False),
        sa.Column("rebuilt_from", UtcDateTime),
        sa.Column("rebuilding_from", UtcDateTime),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    for name, table, *_ in TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{f' ON {table}' if on_postgres else ''}")
        if on_postgres:
            op.execute(f"DROP FUNCTION {name}()")
    for table in ("report_state", "case_results", "report_counts", "report_changes"):
        op.drop_table(table)
