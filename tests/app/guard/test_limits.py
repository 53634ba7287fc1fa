"""What is refused before any work: over a rate, too much to do, a query without end."""

import asyncio

import pytest

from support_service.api import admin, cases
from support_service.api.routing.pipeline import MAX_QUERY_BYTES, MAX_QUERY_PARAMETERS
from support_service.guard import server
from support_service.guard.guard import GuardTimings
from support_service.guard.overload import LATE_CHECKS_BEFORE_SHEDDING
from support_service.platform.telemetry.telemetry import TelemetryTimings
from tests.support.attachments.raw_uploads import PART, send_open, write_chunk
from tests.support.calls import add_message, eventually, expect_json, expect_problem, open_case
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import patient_timings

TURNED_AWAY = "support_request_turned_away_total"
HEALTH = ("/livez", "/readyz", "/health", "/metrics")


async def test_rate_of_an_address_is_limited(make_client):
    """Responses state the policy and the remaining requests. Over the limit they are 429 with Retry-After."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="3/h")
    service_of(client).guard.address_limiter.clock = lambda: 1000.0
    for left in (2, 1, 0):
        async with client.get("/support/cases") as response:
            assert response.status == 200
            assert response.headers["RateLimit-Policy"] == '"address";q=3;w=3600'
            assert response.headers["RateLimit"] == f'"address";r={left};t={1200 * (3 - left)}'
    response = await client.get("/support/cases")
    assert response.headers["Retry-After"] == "1200"
    assert response.headers["RateLimit"] == '"address";r=0;t=3600'
    assert "3 requests in 3600 s" in (await expect_problem(response, 429, "rate_limited"))["detail"]
    assert Scrape(service_of(client).metrics).nonzero(TURNED_AWAY) == {"address": 1}
    for path in HEALTH:
        async with client.get(path) as response:
            assert response.status == 200
            assert "RateLimit" not in response.headers


async def test_rate_of_a_caller_is_limited_beside_that_of_its_address(make_client):
    """Responses state both policies."""
    client = await make_client(SUPPORT_RATE_LIMIT="1/h", SUPPORT_RATE_LIMIT_ADDRESS="9/h")
    async with client.get("/support/cases") as response:
        assert response.status == 200
        assert response.headers["RateLimit-Policy"] == '"address";q=9;w=3600, "principal";q=1;w=3600'
        assert response.headers["RateLimit"] == '"address";r=8;t=400, "principal";r=0;t=3600'
    await expect_problem(await client.get("/support/cases"), 429, "rate_limited")
    assert Scrape(service_of(client).metrics).nonzero(TURNED_AWAY) == {"principal": 1}
    await expect_json(client.get("/livez"))


@pytest.mark.parametrize("is_admin", [False, True])
async def test_caller_is_not_limited_where_its_address_is_not(make_client, monkeypatch, is_admin):
    """Neither on a path that is treated like health, nor at the admin port."""
    if is_admin:
        monkeypatch.setattr(admin, "HEALTH", cases.TAG)
    else:
        monkeypatch.setattr(server, "UNMEASURED_PATHS", {"/support/cases"})
    port = "0" if is_admin else ""
    client = await make_client(SUPPORT_RATE_LIMIT="1/h", SUPPORT_RATE_LIMIT_ADDRESS="1/h", SUPPORT_ADMIN_PORT=port)
    path = "/support/cases"
    url = service_of(client).admin_url + path if is_admin else client.make_url(path)
    for _ in range(3):
        async with client.session.get(url) as response:
            assert (response.status, "RateLimit" in response.headers) == (200, False)


@pytest.mark.parametrize(("query", "left", "admitted", "least"), [("", 14, 4, 3), ("?includeTimeline=true", 9, 2, 2)])
@pytest.mark.parametrize("concurrent", [False, True])
async def test_long_response_counts_as_several_requests(make_client, query, left, admitted, least, concurrent):
    """Of ten reads only those within the caller's rate succeed. Concurrent ones are counted before their responses."""
    client = await make_client(SUPPORT_RATE_LIMIT="40/h")
    service_of(client).guard.principal_limiter.clock = lambda: 1000.0
    case = await open_case(client)
    for _ in range(20):
        await add_message(client, case, "x" * 60_000)
    path = f"/support/cases/{case['id']}{query}"  # 1.2 MB, with the timeline 2.4 MB; 19 requests are left
    if concurrent:
        responses = await asyncio.gather(*(client.get(path) for _ in range(10)))
        assert least <= [response.status for response in responses].count(200) <= admitted
    else:
        responses = [await client.get(path) for _ in range(10)]
        assert [response.status for response in responses] == [200] * admitted + [429] * (10 - admitted)
        assert responses[0].headers["RateLimit"] == f'"principal";r={left};t={90 * (40 - left)}'
    for response in responses:
        if response.status != 200:
            await expect_problem(response, 429, "rate_limited")
    await expect_problem(await client.get("/support/cases"), 429, "rate_limited")


async def test_long_body_counts_as_several_requests(make_client):
    """Its parsing delays all callers, whether it is refused or not. A body with an unknown length costs as much."""
    client = await make_client(SUPPORT_RATE_LIMIT="20/h")
    service_of(client).guard.principal_limiter.clock = lambda: 1000.0
    body = b'{"message": [' + b"0," * 330_000 + b"0]}"  # ten further requests
    json = {"Content-Type": "application/json"}

    async def in_parts():
        yield body

    for sent in (body, in_parts()):
        await expect_problem(await client.post("/support/cases", data=sent, headers=json), 422, "invalid_request")
    await expect_problem(await client.post("/support/cases", data=b"{" + body, headers=json), 429, "rate_limited")


async def test_no_rate_limit_by_default_on_loopback(shared_client):
    """Without authentication there is no default limit, and no header mentions one."""
    async with shared_client.get("/support/cases") as response:
        assert not [name for name in response.headers if name.startswith("RateLimit")]


async def test_each_client_behind_a_trusted_proxy_has_its_own_rate(make_client):
    """Without a trusted proxy the forwarding header is ignored, since any client can send it."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="1/h", SUPPORT_TRUSTED_PROXIES="127.0.0.1")
    for number in range(5):
        await expect_json(client.get("/support/cases", headers={"X-Forwarded-For": f"198.51.100.{number}"}))
    made_up = {"X-Forwarded-For": "203.0.113.1, 198.51.100.1"}
    await expect_problem(await client.get("/support/cases", headers=made_up), 429, "rate_limited")
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="1/h")
    await expect_json(client.get("/support/cases", headers={"X-Forwarded-For": "198.51.100.1"}))
    forged = {"X-Forwarded-For": "198.51.100.2"}
    await expect_problem(await client.get("/support/cases", headers=forged), 429, "rate_limited")


async def test_query_that_is_too_long_is_refused(shared_client):
    """So is one with too many parameters."""
    for query, status, code in (
        ("q=" + "x" * MAX_QUERY_BYTES, 414, "uri_too_long"),
        ("&".join(["a=b"] * (MAX_QUERY_PARAMETERS + 1)), 400, "too_many_parameters"),
        ("&" * MAX_QUERY_PARAMETERS, 400, "too_many_parameters"),
    ):
        await expect_problem(await shared_client.get(f"/support/cases?{query}"), status, code)
    await expect_json(shared_client.get("/support/cases?" + "&".join(["a=b"] * MAX_QUERY_PARAMETERS)))


async def test_late_event_loop_sheds_requests(make_client):
    """While the loop is late, requests get 503 with Retry-After; health and metrics are served. Then it recovers."""
    never = patient_timings(telemetry=TelemetryTimings(lag_sample_interval=3600))  # the test says how late it is
    client = await make_client(SUPPORT_SHED_LAG="0.5", timings=never)
    metrics, overload = Scrape(service_of(client).metrics), service_of(client).guard.load_shedder
    for _ in range(LATE_CHECKS_BEFORE_SHEDDING + 8):
        overload.record_lag(60)
    answers = [await client.get("/support/cases") for _ in range(32)]
    refusals = [answer for answer in answers if answer.status == 503]
    assert len(refusals) >= 24
    assert refusals[0].headers["Retry-After"] == "1"
    await expect_problem(refusals[0], 503, "overloaded")
    assert metrics.nonzero(TURNED_AWAY) == {"lag": len(refusals)}
    for path in HEALTH:
        await expect_json(client.get(path))
    for _ in range(16):
        overload.record_lag(0)
    for _ in range(16):
        await expect_json(client.get("/support/cases"))


async def test_concurrent_requests_are_limited(make_client, orders):
    """A request over the limit is refused before any work. Requests that wait for their client do not count."""
    client = await make_client(
        timings=patient_timings(guard=GuardTimings(requests=2)),
        SUPPORT_ORDER_URL=orders.url,
        SUPPORT_TIMELINE_SOURCE_TIMEOUT="60",
    )
    orders.add("ORD-1")
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    release = orders.hang()
    path = f"/support/cases/{case['id']}/timeline/refresh"
    async with send_open(client, case) as (_, one), send_open(client, case) as (_, two):
        for writer in (one, two):
            await write_chunk(writer, PART)
        readiness = service_of(client).readiness
        await eventually(lambda: readiness.waiting_for_client == 2)
        busy = [asyncio.create_task(client.post(path)) for _ in range(2)]
        await eventually(lambda: readiness.in_progress - readiness.waiting_for_client == 2)
        await expect_problem(await client.get("/support/cases"), 503, "overloaded")
        await expect_json(client.get("/readyz"))
        release.set()
        for answer in await asyncio.gather(*busy):
            assert answer.status == 200
        await expect_json(client.get("/support/cases"))
    assert Scrape(service_of(client).metrics).nonzero(TURNED_AWAY) == {"requests": 1}


async def test_long_response_to_a_change_is_sent_even_over_the_rate(make_client):
    """It counts against the rate, but the caller still learns what was changed."""
    client = await make_client(SUPPORT_RATE_LIMIT="32/h")
    service_of(client).guard.principal_limiter.clock = lambda: 1000.0
    case = await open_case(client)
    for _ in range(19):
        await add_message(client, case, "x" * 60_000)  # 2.3 MB with the timeline: a long answer costs 8 requests more
    path = f"/support/cases/{case['id']}"
    async with client.post(f"{path}/timeline/refresh") as response:
        assert (response.status, response.headers["RateLimit"].partition(";t=")[0]) == (200, '"principal";r=3')
    headers = [None, {"Idempotency-Key": "k"}]
    for response in await asyncio.gather(*(client.post(f"{path}/close", headers=each) for each in headers)):
        async with response:
            assert (response.status, response.headers["RateLimit"].partition(";t=")[0]) == (200, '"principal";r=0')
    response = await client.get("/support/cases")
    assert int(response.headers["Retry-After"]) > 10 * 3600 / 32
    await expect_problem(response, 429, "rate_limited")
