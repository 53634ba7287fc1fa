"""What a service with Redis stores, and its Redis."""

from functools import partial

import pytest
from redis.asyncio import Redis

from tests.support.privacy.stored import stored_text


@pytest.fixture
def environment(environment, redis):
    return environment | {"SUPPORT_REDIS_URL": redis.url}


@pytest.fixture
async def server(redis):
    """A connection to the Redis of the service."""
    async with Redis.from_url(redis.url) as connection:
        yield connection


@pytest.fixture
def stored(database, attachment_dir, redis):
    """Return everything that the service stores, as one text in lower case."""
    return partial(stored_text, database, attachment_dir, redis)
