"""Rates that replicas share: how closely they hold one, and that no request ever waits for Redis."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis as Client

from support_service.limits.rates import Limiter, Rate
from support_service.limits.shared import SharedRates
from support_service.periodic import beside
from tests.calls import eventually

REPLICAS = 3
RATE = Rate(200, 1)
HEARD_WITHIN = 0.6  # seconds; SETTLE_EVERY is a third of it, and the machine may be busy


@asynccontextmanager
async def replicas(url, rate=RATE):
    """Limiters of as many replicas, settled with one Redis."""
    limiters = [Limiter("address", rate) for _ in range(REPLICAS)]
    async with AsyncExitStack() as stack:
        for limiter in limiters:
            shared = SharedRates(url, [limiter])
            stack.push_async_callback(shared.close)
            await stack.enter_async_context(beside(shared.run()))
        yield limiters


async def ask(limiters, seconds):
    """Ask all of them again and again; gives how many were let in, and in how many seconds."""
    started, admitted = time.monotonic(), 0
    while (took := time.monotonic() - started) < seconds:
        admitted += sum(limiter.take("a").admitted for limiter in limiters for _ in range(20))
        await asyncio.sleep(0.002)
    return admitted, took


async def test_replicas_hold_one_rate(redis):
    """At their start each gives out one bucket; from then on all together hold the rate, whoever is asked."""
    async with replicas(redis.url) as limiters:
        first, took = await ask(limiters, 1)
        second, more = await ask(limiters, 4)
        at_the_start = REPLICAS * (RATE.requests + RATE.requests * HEARD_WITHIN)
        assert first <= at_the_start + RATE.requests * took
        # What was given out beyond the rate at the start has been paid back by now, or soon is.
        assert first + second <= at_the_start + RATE.requests * (took + more)
        third, time_of_third = await ask(limiters, 2)
        assert third == pytest.approx(RATE.requests * time_of_third, rel=0.35)


async def test_what_one_replica_gave_out_another_knows(redis):
    """A key that has spent its bucket on one replica finds none on another, once they have settled."""
    async with replicas(redis.url, Rate(10, 3600)) as (one, other, _):
        while one.take("greedy").admitted:
            pass
        assert other.take("greedy").admitted  # which they may not know yet
        await eventually(lambda: not other.take("greedy").admitted)


@pytest.mark.parametrize("fault", ["freeze", "kill"])
async def test_without_redis_each_replica_counts_for_itself(redis, fault):
    """A dead or frozen Redis costs no request anything; each replica holds the rate alone, and they share it again."""
    async with replicas(redis.url, Rate(10, 3600)) as (one, other, _):
        one.take("a")
        getattr(redis, fault)()
        try:
            started = time.process_time()
            assert sum(one.take("b").admitted for _ in range(1000)) == 10
            assert sum(other.take("b").admitted for _ in range(1000)) == 10
            assert time.process_time() - started < 1  # nothing waited: it is the processor's time, not the clock's
        finally:
            redis.thaw() if fault == "freeze" else redis.start()
        while one.take("c").admitted:
            pass
        await eventually(lambda: not other.take("c").admitted)


async def test_a_value_that_is_none_of_ours(redis):
    """Nonsense in Redis, or a debt that can't be, counts as nothing and bounds nobody for ever."""
    limiter = Limiter("address", Rate(10, 1))
    shared = SharedRates(redis.url, [limiter])
    key = "support:rate:address:a"
    async with Client.from_url(redis.url) as client:
        for nonsense in ("nonsense", "99999999999999999999", "-5"):
            await client.set(key, nonsense)
            limiter.take("a")
            await shared._settle(limiter)
            assert limiter.take("a").full_in < 12
        await client.delete(key)
        await client.lpush(key, "x")
        other = Limiter("address", Rate(10, 1))
        other.share()
        other.take("a")
        await shared._settle(other)
        assert await client.pttl(key) > 0
    await shared.close()
