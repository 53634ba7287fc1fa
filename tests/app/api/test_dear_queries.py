"""Searches and counts: what they cost their caller, and the turns in which they run, so that others need not wait."""

from dataclasses import replace

from support_service.core.domain.principals import ANONYMOUS
from support_service.guard.fair_turns import TurnLimits
from tests.support.access.principals import Principals
from tests.support.calls import expect_json, expect_problem
from tests.support.service import service_of
from tests.support.timings import PATIENT_API, patient_timings

VIEWS = "/support/views"
SEARCH = "/support/cases?q=parcel"
IMPATIENT = patient_timings(api=replace(PATIENT_API, turns=TurnLimits(total=2, per_caller=1, max_wait=0.0)))


async def save(client, name, **query):
    assert (await client.post(VIEWS, json={"name": name, "query": query})).status == 201


async def counts(client):
    """Return the counts of the views, newest first."""
    return [view["count"] for view in (await expect_json(client.get(VIEWS)))["items"]]


async def left(client):
    """Return the requests that the caller has left, after one that asks for nothing dear."""
    async with client.get("/support/me") as response:
        return int(response.headers["RateLimit"].partition("r=")[2].partition(";")[0])


async def test_a_search_waits_behind_those_of_its_caller_only(make_client, subtests):
    """Beyond its bound it is refused when its turn does not come in time. Searches of another caller do not matter."""
    client = await make_client(timings=IMPATIENT)
    turns = service_of(client).turns
    for path in (SEARCH, "/support/cases?limit=51", "/support/cases/count"):
        with subtests.test(path):
            async with turns.occupy("another caller"):
                assert (await client.get(path)).status == 200
            async with turns.occupy(ANONYMOUS.name):
                async with client.get(path) as response:
                    await expect_problem(response, 429, "searches_waiting")
                    assert response.headers["Retry-After"] == "2"
                assert (await client.get("/support/cases")).status == 200
            assert (await client.get(path)).status == 200


async def test_views_wait_behind_counts_of_their_caller_only(make_client, constants):
    """What is not counted by the deadline has no count; the views are listed all the same."""
    for holder, seconds, expected in ((ANONYMOUS.name, 0.05, None), ("another caller", 3600.0, 0)):
        turns = TurnLimits(total=2, per_caller=1, max_wait=3600.0)
        constants("api.views", COUNT_TIMEOUT=seconds)
        client = await make_client(timings=patient_timings(api=replace(PATIENT_API, turns=turns)))
        await save(client, f"Closed, beside {holder}", status="closed")
        async with service_of(client).turns.occupy(holder):
            assert (await counts(client))[0] == expected


COSTS = [
    ("/support/cases", 1),
    ("/support/cases?limit=50", 1),
    ("/support/cases?limit=200", 4),
    ("/support/cases?q=parcel", 5),
    ("/support/cases?q=parcel&limit=200&sort=updated", 20),
    ("/support/cases/count?status=open", 1),
    ("/support/cases/count?q=parcel", 5),
]


async def test_a_search_counts_as_several_requests(make_client, subtests):
    """It costs more the more it reads."""
    client = await make_client(SUPPORT_RATE_LIMIT="40/h")
    rates = service_of(client).guard.principal_limiter
    for hour, (path, cost) in enumerate(COSTS, 1):
        with subtests.test(path):
            rates.clock = lambda hour=hour: hour * 3600.0  # the caller has all requests again
            assert (await client.get(path)).status == 200
            assert await left(client) == 40 - cost - 1


async def test_searches_are_refused_once_the_rate_is_used_up(make_client):
    """The caller may overdraw it by one search."""
    client = await make_client(SUPPORT_RATE_LIMIT="50/h")
    service_of(client).guard.principal_limiter.clock = lambda: 1000.0
    path = "/support/cases?q=parcel&limit=200"
    assert [(await client.get(path)).status for _ in range(4)] == [200, 200, 200, 429]
    await expect_problem(client.get("/support/cases"), 429, "rate_limited")


async def test_each_view_that_is_counted_counts_as_a_request(make_client):
    """One with a search counts as five."""
    client = await make_client(SUPPORT_RATE_LIMIT="60/h")
    service_of(client).guard.principal_limiter.clock = lambda: 1000.0
    await save(client, "Open", status="open")
    for number in range(3):
        await save(client, f"Search {number}", q="parcel")
    assert await counts(client) == [0] * 4
    assert await left(client) == 60 - 4 - (1 + 1 + 3 * 5) - 1


async def test_a_count_that_took_long_is_shared_by_those_who_see_the_same_cases(tmp_path, make_client, constants):
    """Agents share it with nobody who sees other cases. Other filters are another count."""
    constants("cases.listing.case_list", MIN_SHARED_DURATION=0.0, MAX_SHARED_AGE=3600.0)
    principals = Principals(None, tmp_path / "tokens.json")
    for name, role, fields in (
        ("boss", "supervisor", {}),
        ("deputy", "supervisor", {}),
        ("lan", "agent", {"subject": "agent-1", "teams": ["returns"]}),
        ("ann", "agent", {"subject": "agent-2", "teams": ["billing"]}),
        ("khach", "customer", {"subject": "customer-1"}),
    ):
        principals.add(name, role, **fields)
    principals.client = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tmp_path / "tokens.json"))

    async def count(name, query=""):
        return (await principals.read_json(name, "GET", f"/support/cases/count{query}"))["count"]

    case = {"subject": "A parcel", "channel": "email", "team": "returns", "customerId": "customer-1"}
    await principals.read_json("boss", "POST", "/support/cases", json=case)
    assert [await count(name) for name in ("boss", "lan", "ann", "khach")] == [1, 1, 0, 1]
    await principals.read_json("boss", "POST", "/support/cases", json=case)
    assert [await count(name) for name in ("boss", "deputy", "lan", "ann", "khach")] == [1, 1, 1, 0, 1]
    assert [await count(name, "?status=open") for name in ("deputy", "lan", "ann", "khach")] == [2, 2, 0, 2]
