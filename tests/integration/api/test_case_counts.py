"""The number of cases of a list."""

import pytest
import pytest_asyncio

from tests.conftest import both_databases
from tests.support.calls import expect_problem, open_case

pytestmark = both_databases


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_client):
    """A client of a service with three cases."""
    await open_case(shared_client, subject="Parcel lost", priority="high")
    first = {"authorType": "customer", "message": "Hello"}
    await open_case(shared_client, subject="Parcel late", initialMessage=first)
    await open_case(shared_client, subject="Charged twice", priority="high")
    return shared_client


@pytest.mark.parametrize(
    ("query", "count"), [("", 3), ("?priority=high", 2), ("?q=parcel", 2), ("?status=open,pending&sort=waiting", 3)]
)
async def test_count_is_that_of_the_list(client, query, count):
    """Every filter of the list counts. Its order leaves no case out."""
    answer = await (await client.get(f"/support/cases/count{query}")).json()
    assert answer == {"count": count, "more": False}
    assert len((await (await client.get(f"/support/cases{query}")).json())["items"]) == count


async def test_unknown_filter_value_is_refused(client):
    """The answer names the field."""
    await expect_problem(client.get("/support/cases/count?status=lost"), 422, "invalid_request")
