"""Fixtures: one service with Redis for the tests of a module, each with a case of its own and healthy sources."""

import pytest_asyncio
from redis.asyncio import Redis

from support_service.timeline.source_health import BreakerTimings
from support_service.timings import TimelineTimings
from tests.support.calls import GENEROUS_TIMEOUT, open_case
from tests.support.timeline.fixtures import FAST_RECONNECT
from tests.support.timeline.harness import (
    CONTEXT,
    LONG_TIMEOUT,
    TimelineHarness,
    add_order,
    open_services,
    start_service,
)
from tests.support.timings import patient_timings

NEVER_OPEN = BreakerTimings(open_for=0.0)  # the faults of one test must not open a circuit in the next one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstreams():
    async with open_services() as services:
        yield services


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def timeline_client(make_shared_client, upstreams, redis_server):
    redis_server.start()
    timings = patient_timings(timeline=TimelineTimings(redis=FAST_RECONNECT, breaker=NEVER_OPEN))
    return await start_service(make_shared_client, upstreams, timings=timings, SUPPORT_REDIS_URL=redis_server.url)


@pytest_asyncio.fixture(loop_scope="module")
async def services(upstreams):
    """The upstream services, healthy, with entries of one order."""
    for service in upstreams.values():
        service.reset()
        await service.open()
    add_order(upstreams)
    return upstreams


@pytest_asyncio.fixture(loop_scope="module")
async def harness(timeline_client, services, redis):
    harness = TimelineHarness(timeline_client, await open_case(timeline_client, context=CONTEXT), services)
    harness.set_redis_timeout(GENEROUS_TIMEOUT)
    for name in services:
        harness.set_source_timeout(name, LONG_TIMEOUT)
    return harness


@pytest_asyncio.fixture(loop_scope="module")
async def store(redis):
    """A client of Redis with a generous timeout for large values."""
    async with Redis.from_url(redis.url, socket_timeout=6 * GENEROUS_TIMEOUT) as connection:
        yield connection
