"""What probes and operators ask: health, liveness, readiness, and the id of each request."""

import pytest

from tests.calls import refused


@pytest.mark.parametrize("path", ["/health", "/livez"])
async def test_health_as_the_old_clients_know_it(client, path):
    """A service that is up says `ok`."""
    async with client.get(path) as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok"}


async def test_readiness(client):
    """A service that can work says so, part by part."""
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "database": "ok", "cache": "ok"}


async def test_readiness_does_not_need_redis(make_client, redis):
    """A dead Redis is reported, and requests are welcome all the same."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    redis.kill()
    async with client.get("/readyz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ready", "database": "ok", "cache": "unavailable"}


async def test_a_request_id_is_taken_over(client):
    """A client's request id comes back, in answers and in problems."""
    for path in ("/health", "/support/cases", "/metrics"):
        async with client.get(path, headers={"X-Request-Id": "abc-1.2_3"}) as response:
            assert response.headers["X-Request-Id"] == "abc-1.2_3"
    response = await client.get("/support/cases/nobody", headers={"X-Request-Id": "abc"})
    assert (await refused(response, 404, "case_not_found"))["requestId"] == "abc"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "é", '"><script>'])
async def test_a_request_id_of_another_form_is_replaced(client, sent):
    """An id that could do harm in a log is replaced by one of our own, a new one each time."""
    given = []
    for _ in range(2):
        async with client.get("/health", headers={"X-Request-Id": sent}) as response:
            given.append(response.headers["X-Request-Id"])
    assert sent not in given
    assert given[0] != given[1]
    assert all(identifier.isalnum() for identifier in given)
