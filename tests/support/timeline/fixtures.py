"""Fixtures: Redis and fake upstream services, for one test."""

import pytest
from redis.asyncio import Redis

from support_service.timeline.cache import RedisCacheTimings
from support_service.timings import TimelineTimings
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.timeline.harness import open_services
from tests.support.timeline.redis_faults import repair
from tests.support.timings import patient_timings

FAST_RECONNECT = RedisCacheTimings(reconnect_interval=0.02)


@pytest.fixture
def timings():
    """Timings with which the service reconnects to a repaired Redis sooner than in production."""
    return patient_timings(timeline=TimelineTimings(redis=FAST_RECONNECT))


@pytest.fixture
def redis(redis):
    yield redis
    repair(redis)


@pytest.fixture
async def services():
    async with open_services() as services:
        yield services


@pytest.fixture
async def store(redis):
    """A client of Redis with a generous timeout for large values."""
    async with Redis.from_url(redis.url, socket_timeout=6 * GENEROUS_TIMEOUT) as connection:
        yield connection
