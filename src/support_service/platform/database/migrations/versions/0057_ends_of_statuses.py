"""Triggers on the status of cases, also for changes of the previous release: what ends with a status is forgotten.

- Only a pending case has `snoozed_until`.
- A duplicate that leaves `closed` has no former status any more, which the removal of its link would give it back.

What the previous release has left is removed. On PostgreSQL this follows once the triggers are committed.
"""

from alembic import op

revision = "0057"
down_revision = "0056"

SNOOZE_ENDED = "{row}status <> 'pending' AND {row}snoozed_until IS NOT NULL"
FORGET_SNOOZE = "UPDATE tickets SET snoozed_until = NULL WHERE"
REOPENED = "old.status = 'closed' AND new.status <> 'closed'"
FORGET_STATUS = (
    "UPDATE case_links SET previous_status = NULL, previous_snoozed_until = NULL WHERE previous_status IS NOT NULL AND"
)
# The condition of each, the statement on SQLite, and the time and the statement on PostgreSQL.
TRIGGERS = {
    "snooze_ended": (
        SNOOZE_ENDED.format(row="new."),
        f"{FORGET_SNOOZE} seq = new.seq",
        ("BEFORE", "new.snoozed_until = NULL"),
    ),
    "duplicate_reopened": (
        REOPENED,
        f"{FORGET_STATUS} case_id = new.id",
        ("AFTER", f"{FORGET_STATUS} case_id = new.id"),
    ),
}


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        for name, (condition, statement, _) in TRIGGERS.items():
            event = "AFTER UPDATE OF status ON tickets"
            op.execute(f"CREATE TRIGGER {name} {event} WHEN {condition} BEGIN {statement}; END")
        _remove_what_is_left()
        return
    for name, (condition, _, (time, statement)) in TRIGGERS.items():
        body = f"BEGIN {statement}; RETURN new; END"
        op.execute(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON tickets")
        event = f"{time} UPDATE OF status ON tickets FOR EACH ROW"
        op.execute(f"CREATE TRIGGER {name} {event} WHEN ({condition}) EXECUTE FUNCTION {name}()")
    with op.get_context().autocommit_block():
        _remove_what_is_left()


def _remove_what_is_left() -> None:
    op.execute(f"{FORGET_SNOOZE} {SNOOZE_ENDED.format(row='')}")
    op.execute(f"{FORGET_STATUS} case_id IN (SELECT id FROM tickets WHERE status <> 'closed')")  # noqa: S608 - our own literals


def downgrade() -> None:
    on_postgres = op.get_context().dialect.name == "postgresql"
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{' ON tickets' if on_postgres else ''}")
        if on_postgres:
            op.execute(f"DROP FUNCTION {name}()")
