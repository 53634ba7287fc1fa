"""A service under test with a Redis, one case about one order, and its three neighbours."""

import pytest
from redis.asyncio import Redis

from tests.calls import PATIENCE
from tests.timeline.world import CONTEXT, World, neighbours


@pytest.fixture
async def services():
    """The neighbours."""
    async with neighbours() as services:
        yield services


@pytest.fixture
async def world(make_client, services, redis):
    """The service with a Redis, and its case."""
    return await World.start(make_client, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)


@pytest.fixture
async def store(redis):
    """Redis, past the service; a busy machine takes its time for what is large."""
    async with Redis.from_url(redis.url, socket_timeout=6 * PATIENCE) as connection:
        yield connection
