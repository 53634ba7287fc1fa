"""The number of cases of a list."""

import pytest

from tests.conftest import both_databases
from tests.support.calls import expect_problem, open_case


@both_databases
@pytest.mark.parametrize(
    ("query", "count"), [("", 3), ("?priority=high", 2), ("?q=parcel", 2), ("?status=open,pending&sort=waiting", 3)]
)
async def test_count_is_that_of_the_list(client, query, count):
    """Every filter of the list counts. Its order leaves no case out."""
    await open_case(client, subject="Parcel lost", priority="high")
    await open_case(client, subject="Parcel late", initialMessage={"authorType": "customer", "message": "Hello"})
    await open_case(client, subject="Charged twice", priority="high")
    answer = await (await client.get(f"/support/cases/count{query}")).json()
    assert answer == {"count": count, "more": False}
    assert len((await (await client.get(f"/support/cases{query}")).json())["items"]) == count


async def test_unknown_filter_value_is_refused(client):
    """The answer names the field."""
    await expect_problem(await client.get("/support/cases/count?status=lost"), 422, "invalid_request")
