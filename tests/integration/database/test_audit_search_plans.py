"""Lists of the audit log across cases read by an index, in its order, on both databases."""

import itertools
import re
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from support_service.platform.audit.entry_rows import AuditFilters, find_entries
from tests.conftest import both_databases

ENTRIES = 20_000
FILL = """
    INSERT INTO audit_log (at, actor, role, action, case_id, changes)
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {entries})
    SELECT {at}, 'agent-' || (n % 50), 'agent',
        CASE WHEN n % 5000 = 0 THEN 'override.set' WHEN n % 3 = 0 THEN 'case.opened' ELSE 'message.added' END,
        'case-' || (n / 10), '{{"subject":[null,"A parcel"]}}'
    FROM numbers
"""
AT = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%f000+00:00', '2026-01-01', n || ' seconds')",
    "postgresql": "TIMESTAMPTZ '2026-01-01Z' + n * INTERVAL '1 second'",
}


class Plan(sa.Executable, sa.ClauseElement):
    """A statement that returns the database's plan of another."""

    inherit_cache = False

    def __init__(self, statement):
        self.statement = statement


@compiles(Plan)
def _(element, compiler, **kw):
    prefix = "EXPLAIN QUERY PLAN" if compiler.dialect.name == "sqlite" else "EXPLAIN"
    return f"{prefix} {compiler.process(element.statement, **kw)}"


class Recorder:
    def __init__(self, reader):
        self._reader = reader

    async def fetch_all(self, statement, parameters):
        self.recorded = statement, parameters
        return await self._reader.fetch_all(statement, parameters)


@pytest.fixture
async def filled(database, backend):
    async with database.transaction() as tx:
        await tx.execute(sa.text(FILL.format(entries=ENTRIES, at=AT[backend]).replace(":", r"\:")))
    async with database.transaction() as tx:
        await tx.execute(sa.text("ANALYZE audit_log"))
    return database


START = datetime(2026, 1, 1, 2, tzinfo=UTC)
FILTERS = [
    (AuditFilters(), "ix_audit_log_at_seq"),
    (AuditFilters(start=START), "ix_audit_log_at_seq"),
    (AuditFilters(actor="agent-7"), "ix_audit_log_actor_at_seq"),
    (AuditFilters(action="override.set"), "ix_audit_log_action_at_seq"),
    (AuditFilters(action="macro.deleted"), "ix_audit_log_action_at_seq"),
    (AuditFilters(case_id="case-7"), "ix_audit_log_case_id_seq"),
]


@both_databases
async def test_page_is_read_by_an_index(filled, subtests):
    """The page's rows are found by the index of the filter, and the table is not read from end to end."""
    places = (None, (datetime(2026, 1, 1, 3, tzinfo=UTC), 10_000))
    for (filters, index), before in itertools.product(FILTERS, places):
        with subtests.test(filters=filters, before=before):
            recorder = Recorder(filled)
            await find_entries(recorder, filters, before, 50)
            statement, parameters = recorder.recorded
            plan = "\n".join(str(row[-1]) for row in await filled.fetch_all(Plan(statement), parameters))
            assert index in plan, plan
            assert not re.search(r"Seq Scan on audit_log|SCAN audit_log\n|SCAN tickets", plan), plan
