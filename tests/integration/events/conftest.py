"""A service with Redis; brokers, and Redis servers that may be killed; receivers of webhooks and of spans."""

import pytest
from redis.asyncio import Redis

from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.events.fixtures import broker  # noqa: F401 - fixtures
from tests.support.events.webhooks import endpoint  # noqa: F401 - fixtures
from tests.support.telemetry.fixtures import otlp_receiver  # noqa: F401 - fixtures


@pytest.fixture
def environment(environment, redis):
    return environment | {"SUPPORT_REDIS_URL": redis.url}


@pytest.fixture
async def stream(redis):
    """Redis, past the service, and with time for 100 MB at once."""
    async with Redis.from_url(redis.url, socket_timeout=6 * GENEROUS_TIMEOUT) as connection:
        yield connection
