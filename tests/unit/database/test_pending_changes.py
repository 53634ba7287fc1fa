"""Changes that wait: when two changes of a table are one statement."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import asyncpg

from support_service.platform.database.postgres.pending_changes import PendingChanges
from support_service.platform.database.statements import StatementCache
from support_service.platform.database.tables import tickets

ROW = tickets.update().where(tickets.c.id == sa.bindparam("of_case"))
TEAM = ROW.values(team=sa.bindparam("new_team")), {"of_case": "a", "new_team": "returns"}
AGENT = ROW.values(assigned_agent_id=sa.bindparam("agent")), {"of_case": "a", "agent": "ann"}
VERSION = ROW.values(version=tickets.c.version + 1), {"of_case": "a"}
OPENING = tickets.insert(), {"id": "a", "subject": "A parcel"}


def test_changes_of_a_row_are_one_update_only_if_that_means_the_same():
    """The second one must not read what the first one changes, and must not meet other rows or an insert."""
    statements = StatementCache(asyncpg.dialect())
    for first, second, is_one in (
        ([TEAM], AGENT, True),
        ([VERSION], TEAM, True),
        ([TEAM], VERSION, False),
        ([TEAM, TEAM], AGENT, False),
        ([OPENING], TEAM, False),
        ([TEAM], OPENING, False),
    ):
        changes = PendingChanges()
        for change in first:
            assert changes.add(tickets, statements.bind(*change))
        assert changes.add(tickets, statements.bind(*second)) == is_one, (first, second)
    sql, values = changes.statement()
    assert (sql.count("UPDATE tickets"), values) == (1, ["returns", "a"])
