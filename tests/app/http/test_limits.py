"""What is refused before any work: over a rate, too much to do, a query without end."""

import asyncio

import pytest

from support_service.http.admission import MAX_QUERY_BYTES, MAX_QUERY_PARAMETERS
from support_service.http.component import ADMISSION, READINESS
from support_service.limits.overload import LATE_CHECKS_BEFORE_SHEDDING
from support_service.telemetry.component import TelemetryTimings
from tests.app.api.test_uploads import PART, send_open, write_chunk
from tests.conftest import both_databases
from tests.support.calls import add_message, eventually, expect_problem, open_case
from tests.support.scrape import Scrape
from tests.support.timings import patient_timings

TURNED_AWAY = "support_request_turned_away_total"
HEALTH = ("/livez", "/readyz", "/health", "/metrics")


async def test_a_rate_of_an_address(make_client):
    """Answers tell the policy and what is left; over it there is 429 with the time to come again, and no work."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="3/h")
    client.app[ADMISSION].by_address.clock = lambda: 1000.0
    for left in (2, 1, 0):
        async with client.get("/support/cases") as response:
            assert response.status == 200
            assert response.headers["RateLimit-Policy"] == '"address";q=3;w=3600'
            assert response.headers["RateLimit"] == f'"address";r={left};t={1200 * (3 - left)}'
    response = await client.get("/support/cases")
    assert response.headers["Retry-After"] == "1200"
    assert response.headers["RateLimit"] == '"address";r=0;t=3600'
    assert "3 requests in 3600 s" in (await expect_problem(response, 429, "rate_limited"))["detail"]
    assert Scrape(client.app).nonzero(TURNED_AWAY) == {"address": 1}
    for path in HEALTH:
        async with client.get(path) as response:
            assert response.status == 200
            assert "RateLimit" not in response.headers


async def test_a_rate_of_a_caller(make_client):
    """Each caller has a rate beside that of the address, and answers tell of both."""
    client = await make_client(SUPPORT_RATE_LIMIT="1/h", SUPPORT_RATE_LIMIT_ADDRESS="9/h")
    async with client.get("/support/cases") as response:
        assert response.status == 200
        assert response.headers["RateLimit-Policy"] == '"address";q=9;w=3600, "principal";q=1;w=3600'
        assert response.headers["RateLimit"] == '"address";r=8;t=400, "principal";r=0;t=3600'
    await expect_problem(await client.get("/support/cases"), 429, "rate_limited")
    assert Scrape(client.app).nonzero(TURNED_AWAY) == {"principal": 1}
    async with client.get("/livez") as response:
        assert response.status == 200


@both_databases
@pytest.mark.parametrize(("query", "left", "admitted"), [("", 14, 4), ("?includeTimeline=true", 9, 2)])
@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_long_answer_costs_as_much_as_several_requests(make_client, query, left, admitted, concurrent):
    """Of ten reads only those are admitted that the caller's rate allows, one after another or at once."""
    client = await make_client(SUPPORT_RATE_LIMIT="40/h")
    client.app[ADMISSION].by_principal.clock = lambda: 1000.0
    case = await open_case(client)
    for _ in range(20):
        await add_message(client, case, "x" * 60_000)
    path = f"/support/cases/{case['id']}{query}"  # 1.2 MB, with the timeline 2.4 MB; 19 requests are left
    if concurrent:
        responses = await asyncio.gather(*(client.get(path) for _ in range(10)))
        assert 1 <= [response.status for response in responses].count(200) <= admitted
    else:
        responses = [await client.get(path) for _ in range(10)]
        assert [response.status for response in responses] == [200] * admitted + [429] * (10 - admitted)
        assert responses[0].headers["RateLimit"] == f'"principal";r={left};t={90 * (40 - left)}'
    for response in responses:
        if response.status != 200:
            await expect_problem(response, 429, "rate_limited")
    await expect_problem(await client.get("/support/cases"), 429, "rate_limited")


async def test_no_rate_on_loopback(client):
    """Without authentication no rate is the default, and no header speaks of one."""
    async with client.get("/support/cases") as response:
        assert not [name for name in response.headers if name.startswith("RateLimit")]


async def test_each_client_behind_a_proxy_has_a_rate(make_client):
    """Behind a trusted proxy each client counts for itself; without trust the header is anyone's to write."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="1/h", SUPPORT_TRUSTED_PROXIES="127.0.0.1")
    for number in range(5):
        async with client.get("/support/cases", headers={"X-Forwarded-For": f"198.51.100.{number}"}) as response:
            assert response.status == 200
    made_up = {"X-Forwarded-For": "203.0.113.1, 198.51.100.1"}
    await expect_problem(await client.get("/support/cases", headers=made_up), 429, "rate_limited")
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="1/h")
    async with client.get("/support/cases", headers={"X-Forwarded-For": "198.51.100.1"}) as response:
        assert response.status == 200
    forged = {"X-Forwarded-For": "198.51.100.2"}
    await expect_problem(await client.get("/support/cases", headers=forged), 429, "rate_limited")


async def test_a_dead_redis_refuses_nobody(make_client, redis):
    """With Redis frozen from the start requests are let in and counted as ever."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="5/h", SUPPORT_REDIS_URL=redis.url)
    redis.freeze()
    try:
        for _ in range(5):
            async with client.get("/support/cases") as response:
                assert response.status == 200
        await expect_problem(await client.get("/support/cases"), 429, "rate_limited")
    finally:
        redis.thaw()


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("q=" + "x" * MAX_QUERY_BYTES, 414, "uri_too_long"),
        ("&".join(["a=b"] * (MAX_QUERY_PARAMETERS + 1)), 400, "too_many_parameters"),
        ("&" * MAX_QUERY_PARAMETERS, 400, "too_many_parameters"),
    ],
)
async def test_a_query_without_end(client, query, status, code):
    """A query that is too long, or has too many parameters, is refused by its bound."""
    await expect_problem(await client.get(f"/support/cases?{query}"), status, code)
    async with client.get("/support/cases?" + "&".join(["a=b"] * MAX_QUERY_PARAMETERS)) as response:
        assert response.status == 200


async def test_a_loop_that_stays_late(make_client):
    """While the loop is late requests are told when to come again, health and metrics answer, and then it is over."""
    never = patient_timings(telemetry=TelemetryTimings(lag_sample_interval=3600))  # the test says how late it is
    client = await make_client(SUPPORT_SHED_LAG="0.5", timings=never)
    metrics, overload = Scrape(client.app), client.app[ADMISSION].overload
    for _ in range(LATE_CHECKS_BEFORE_SHEDDING + 8):
        overload.record_lag(60)
    answers = [await client.get("/support/cases") for _ in range(32)]
    refusals = [answer for answer in answers if answer.status == 503]
    assert len(refusals) >= 24
    assert refusals[0].headers["Retry-After"] == "1"
    await expect_problem(refusals[0], 503, "overloaded")
    assert metrics.nonzero(TURNED_AWAY) == {"lag": len(refusals)}
    for path in HEALTH:
        async with client.get(path) as response:
            assert response.status == 200
    for _ in range(16):
        overload.record_lag(0)
    for _ in range(16):
        async with client.get("/support/cases") as response:
            assert response.status == 200


async def test_too_many_requests_at_once(make_client, orders):
    """One request too many is refused before any work; those that only wait for their client do not count."""
    client = await make_client(
        SUPPORT_REQUESTS="2",
        SUPPORT_ORDER_URL=orders.url,
        SUPPORT_TIMELINE_DEADLINE="60",
        SUPPORT_TIMELINE_SOURCE_TIMEOUT="60",
    )
    orders.add("ORD-1")
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    release = orders.hang()
    path = f"/support/cases/{case['id']}/timeline/refresh"
    async with send_open(client, case) as (_, one), send_open(client, case) as (_, two):
        for writer in (one, two):
            await write_chunk(writer, PART)
        readiness = client.app[READINESS]
        await eventually(lambda: readiness.waiting_for_client == 2)
        busy = [asyncio.create_task(client.post(path)) for _ in range(2)]
        await eventually(lambda: readiness.in_progress - readiness.waiting_for_client == 2)
        await expect_problem(await client.get("/support/cases"), 503, "overloaded")
        async with client.get("/readyz") as response:
            assert response.status == 200
        release.set()
        for answer in await asyncio.gather(*busy):
            assert answer.status == 200
        async with client.get("/support/cases") as response:
            assert response.status == 200
    assert Scrape(client.app).nonzero(TURNED_AWAY) == {"requests": 1}


@both_databases
async def test_a_long_answer_to_a_change_costs_as_much_and_is_always_sent(make_client):
    """A caller that owes requests still learns what it has changed."""
    client = await make_client(SUPPORT_RATE_LIMIT="22/h")
    client.app[ADMISSION].by_principal.clock = lambda: 1000.0
    case = await open_case(client)
    for _ in range(9):
        await add_message(client, case, "é" * 65_000)  # 2.3 MB with the timeline: a long answer costs 8 requests more
    path = f"/support/cases/{case['id']}"
    async with client.post(f"{path}/timeline/refresh") as response:
        assert (response.status, response.headers["RateLimit"].partition(";t=")[0]) == (200, '"principal";r=3')
    headers = [None, {"Idempotency-Key": "k"}]
    for response in await asyncio.gather(*(client.post(f"{path}/close", headers=each) for each in headers)):
        async with response:
            assert (response.status, response.headers["RateLimit"].partition(";t=")[0]) == (200, '"principal";r=0')
    response = await client.get("/support/cases")
    assert int(response.headers["Retry-After"]) > 10 * 3600 / 22
    await expect_problem(response, 429, "rate_limited")
