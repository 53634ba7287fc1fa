"""Lists are planned for their values, and other reads only at first: PostgreSQL keeps a plan after five runs."""

import pytest
import sqlalchemy as sa

from support_service.cases.listing import case_list
from support_service.cases.model.requests import CaseQuery
from support_service.cases.sql import case_reading
from support_service.core.domain.principals import SYSTEM
from support_service.platform.audit.entry_rows import AuditFilters, find_entries
from support_service.platform.database.postgres.engine import PostgresDatabase
from tests.support.timings import PATIENT_DATABASE

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

RUNS = 8
PLANS = sa.text(
    "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE :text AND custom_plans > 1"
)
QUERY = CaseQuery.model_validate({"team": "team-1", "limit": 50})


@pytest.fixture
async def database(database_url):
    """A database with one connection, whose prepared statements the test reads."""
    database = PostgresDatabase(database_url, pool_size=1, timings=PATIENT_DATABASE.postgres)
    await database.open()
    yield database
    await database.close()


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda database: case_list.find_cases(database, QUERY, None, SYSTEM), "WITH%json_build_object%"),
        (lambda database: case_list.count_cases(database, QUERY, SYSTEM, 1001), "SELECT count(*) AS number%"),
        (lambda database: find_entries(database, AuditFilters(actor="a"), None, 50), "%audit_log%"),
    ],
    ids=["list", "count", "audit log"],
)
async def test_lists_are_planned_for_their_values(database, read, text):
    """Each time, because the best plan for a frequent value takes very long for a rare one."""
    for _ in range(RUNS):
        await read(database)
    (plans,) = await database.fetch_all(PLANS, {"text": text})
    assert plans == (0, RUNS)
    assert (await database.fetch_now(sa.text("SHOW plan_cache_mode"))).plan_cache_mode == "auto"


async def test_a_case_is_read_with_a_plan_that_is_kept(database):
    """Its plan does not depend on the case, and takes longer than the read."""
    for _ in range(RUNS):
        await case_reading.read(database, "case")
    (plans,) = await database.fetch_all(PLANS, {"text": "%conversation_bytes%"})
    assert plans.generic_plans > 0
