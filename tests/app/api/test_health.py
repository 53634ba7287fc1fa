"""Health, liveness, readiness, and request ids."""

import asyncio
import gc

import pytest

from support_service.api.routing.services import ApiTimings
from support_service.core.errors import Unavailable
from support_service.database.component import DATABASE
from support_service.http.component import READINESS
from tests.support.calls import eventually, expect_problem
from tests.support.timings import patient_timings


@pytest.mark.parametrize("path", ["/health", "/livez"])
async def test_health_of_a_running_service_is_ok(client, path):
    """Clients of the previous service rely on this response."""
    async with client.get(path) as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok"}


async def test_readiness_reports_each_part(client):
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "database": "ok", "cache": "ok"}


async def test_readiness_does_not_need_redis(make_client, redis):
    """An unreachable Redis is reported, and the service still accepts requests."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    redis.kill()
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "database": "ok", "cache": "unavailable"}


async def test_request_id_of_the_client_is_returned(client):
    """It is in the headers of every response, and in problems."""
    for path in ("/health", "/support/cases", "/metrics"):
        async with client.get(path, headers={"X-Request-Id": "abc-1.2_3"}) as response:
            assert response.headers["X-Request-Id"] == "abc-1.2_3"
    response = await client.get("/support/cases/nobody", headers={"X-Request-Id": "abc"})
    assert (await expect_problem(response, 404, "case_not_found"))["requestId"] == "abc"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "é", '"><script>'])
async def test_unsafe_request_id_is_replaced(client, sent):
    """An id that could corrupt a log is replaced by a generated one, which is new for each request."""
    given = []
    for _ in range(2):
        async with client.get("/health", headers={"X-Request-Id": sent}) as response:
            given.append(response.headers["X-Request-Id"])
    assert sent not in given
    assert given[0] != given[1]
    assert all(identifier.isalnum() for identifier in given)


async def test_stopping_service_is_not_ready(client):
    """The response is 503, and still reports each part."""
    client.app[READINESS].accepting = False
    async with client.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {"status": "stopping", "database": "ok", "cache": "ok"}


@pytest.mark.parametrize("fails", [True, False])
async def test_late_end_of_a_database_ping_is_not_reported_as_an_error(make_client, monkeypatch, fails):
    """A ping that timed out may fail later, and asyncio must not report that its exception was never retrieved."""
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
    client = await make_client(timings=patient_timings(api=ApiTimings(ping_timeout=0.0)))

    async def hang():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise Unavailable("database_unavailable", "It is out of reach.") from None
            raise

    monkeypatch.setattr(client.app[DATABASE], "ping", hang)
    async with client.get("/readyz") as response:
        assert (response.status, (await response.json())["database"]) == (503, "unavailable")
    readiness = client.app[READINESS]
    await eventually(readiness.ping.done)
    await asyncio.sleep(0)
    readiness.ping = None
    gc.collect()
    assert reports == []
