"""The pools of connections to the Redis of events."""

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from support_service.events.broker.base import RedisBrokerTimings
from support_service.platform.redis import limited_parser


def connection_pool(url: str, timings: RedisBrokerTimings, size: int) -> redis.BlockingConnectionPool:
    """Return a pool of at most `size` connections that retries nothing; its users repeat what failed."""
    return redis.BlockingConnectionPool.from_url(
        url,
        parser_class=limited_parser(url),
        timeout=timings.timeout,
        socket_timeout=timings.timeout,
        socket_connect_timeout=timings.timeout,
        max_connections=size,
        retry=Retry(NoBackoff(), 0),
    )
