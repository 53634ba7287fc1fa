"""What the API says while Redis is down."""

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis

from support_service.platform.database.tables import audit_log
from support_service.timings import EventTimings
from tests.support.calls import eventually, expect_problem
from tests.support.service import service_of
from tests.support.timings import patient_timings

LETTERS = "/support/dead-letters"


async def read(client, path):
    async with client.get(path) as response:
        return response.status, await response.json()


pytestmark = pytest.mark.usefixtures("patient_cache")


@pytest.mark.parametrize(
    ("variable", "part", "code"),
    [("SUPPORT_REDIS_URL", "cache", "cache_unavailable"), ("SUPPORT_EVENTS_REDIS_URL", "events", "broker_unavailable")],
)
async def test_readiness_does_not_need_redis(make_client, redis, variable, part, code):
    """An unreachable Redis is reported, once the consumer of its events knows. The service still accepts requests."""
    timings = patient_timings(events=EventTimings(backlog_refresh_interval=0.05))
    client = await make_client(timings=timings, **{variable: redis.url})
    before = (await read(client, "/readyz"))[1]
    assert (before["status"], before[part]) == ("ready", "ok")
    redis.kill()

    async def reported():
        status, ready = await read(client, "/readyz")
        return (status, ready["status"], ready[part]) == (200, "ready", code)

    await eventually(reported)


async def test_unavailable_redis_is_reported(make_client, redis):
    """Cache, stream and dead letters are unavailable. The other cards have their figures."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    found = (await read(client, "/support/oncall"))[1]
    assert found["cache"]["status"] == found["stream"]["status"] == found["deadLetters"]["status"] == "ok"
    redis.kill()

    async def told():
        found = (await read(client, "/support/oncall"))[1]
        cards = {name: card for name, card in found.items() if isinstance(card, dict)}
        down = {name for name, card in cards.items() if card.get("status") == "unavailable"}
        return found if down == {"cache", "stream", "deadLetters"} else None

    found = await eventually(told)
    assert (found["deadLetters"]["count"], found["database"]["status"]) == (None, "ok")


async def test_dead_letters_are_refused(make_client, redis):
    """Reading and changing are refused with a code of their own, and nothing is recorded."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    async with Redis.from_url(redis.url) as stream:
        await stream.xadd("support.inbound.dead", {"event": "x", "reason": "why", "tries": 1, "at": "then"})
    assert (await read(client, LETTERS))[1]["items"][0]["at"] == "then"
    redis.kill()

    async def refused():
        return (await read(client, LETTERS))[0] == 503

    await eventually(refused)
    await expect_problem(await client.get(LETTERS), 503, "broker_unavailable")
    await expect_problem(await client.delete(f"{LETTERS}/1-0"), 503, "broker_unavailable")
    assert await service_of(client).database.fetch_all(sa.select(audit_log.c.action)) == []
