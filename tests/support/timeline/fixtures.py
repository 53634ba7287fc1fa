"""A service under test with a Redis, one case about one order, and its three upstream services."""

import pytest
from redis.asyncio import Redis

from support_service.timeline.cache.base import RedisCacheTimings
from support_service.timeline.component import TimelineTimings
from tests.support.calls import PATIENCE
from tests.support.timeline.redis_faults import repair
from tests.support.timeline.world import CONTEXT, World, open_services
from tests.support.timings import patient_timings

RECOVERING_SOON = RedisCacheTimings(reconnect_interval=0.02)


@pytest.fixture
def timings():
    """The service finds a repaired Redis sooner than in production."""
    return patient_timings(timeline=TimelineTimings(redis=RECOVERING_SOON))


@pytest.fixture
def redis(redis):
    """A Redis that is repaired at the end, as later tests use it too."""
    yield redis
    repair(redis)


@pytest.fixture
async def services():
    """The upstream services."""
    async with open_services() as services:
        yield services


@pytest.fixture
async def world(make_client, services, redis):
    """The service under test with a Redis, and its case."""
    return await World.start(make_client, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)


@pytest.fixture
async def store(redis):
    """A client of Redis, with time for large values on a busy machine."""
    async with Redis.from_url(redis.url, socket_timeout=6 * PATIENCE) as connection:
        yield connection
