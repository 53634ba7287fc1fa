"""Faults of Redis and of the cache in it, held for a block and repaired after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis

from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.fault import fault
from tests.e2e.drill.injection import repeatedly
from tests.e2e.drill.runbook_checks import Cause

REDIS = "SupportTimelineCacheErrors SupportOutboxStalled"


@asynccontextmanager
async def redis_is_killed(deployment: Deployment) -> AsyncIterator[None]:
    deployment.redis.kill()
    yield
    await asyncio.to_thread(deployment.redis.start)


@asynccontextmanager
async def redis_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.redis.freeze()
    yield
    deployment.redis.thaw()


@asynccontextmanager
async def cache_is_corrupt(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client:

        async def corrupt() -> None:
            async for key in client.scan_iter("support:timeline:*", count=1000):
                if not key.endswith(b"claim"):
                    await client.set(key, b"not a timeline", xx=True, keepttl=True)

        async with repeatedly(corrupt, 0.02):
            yield
        await client.flushdb()


@asynccontextmanager
async def cache_is_emptied(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client, repeatedly(client.flushdb, 0.02):
        yield


@asynccontextmanager
async def redis_is_full(deployment: Deployment) -> AsyncIterator[None]:
    """Its memory is used up, and it evicts nothing."""
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", 1)
        yield
        await client.config_set("maxmemory", 0)


@asynccontextmanager
async def redis_is_read_only(deployment: Deployment) -> AsyncIterator[None]:
    """It has become a replica, as after a failover that the service does not follow."""
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.replicaof("127.0.0.1", "9")
        yield
        await client.replicaof("NO", "ONE")


@asynccontextmanager
async def redis_may_evict(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        yield
        await client.config_set("maxmemory-policy", "noeviction")


FAULTS = (
    fault("Redis killed", REDIS, redis_is_killed, Cause(1, "refused")),
    fault("Redis frozen", REDIS, redis_freezes, Cause(4, "Redis is unavailable")),
    fault("Redis full", REDIS, redis_is_full, Cause(3, r'"server": "events"} [1-9]')),
    fault("Redis read-only", REDIS, redis_is_read_only, Cause(2, "role:slave")),
    fault("Redis may evict", "SupportRedisEvicting", redis_may_evict, Cause(1, "allkeys-lru")),
    fault(
        "cache corrupt",
        "SupportTimelineCollectionFailures[cache_decode]",
        cache_is_corrupt,
        Cause(4, "can't be read, and is removed"),
    ),
    fault(
        "cache emptied",
        "SupportTimelineCacheMissSurge",
        cache_is_emptied,
        Cause(2, r'"miss"} [1-9]'),
    ),
)
