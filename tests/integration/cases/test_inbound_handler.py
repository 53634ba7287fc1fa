"""The cost of finding the cases that an inbound event concerns."""

import pytest
import sqlalchemy as sa

from support_service.cases.store import case_store as store
from tests.support.cases import ticket

READ = sa.text(
    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'ticket_references'"
)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_references_are_read_once_per_event(database, add_cases):
    """Each reference row is read at most once, even before PostgreSQL has statistics."""
    cases = 500
    for number in range(cases):
        await add_cases(ticket(number), references=[("order", f"o-{number}")])
    async with database.transaction() as tx:
        found = await store.lock_cases_with_references(tx, [("order", "o-7"), ("shipment", "s-7")], 0, 100)
        (read,) = await tx.fetch_one(READ)
    assert [case.id for case in found] == ["case-7"]
    assert read <= cases
