"""Rates that replicas share: how closely they hold one, and that no request ever waits for Redis."""

import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis as Client

from support_service.guard import shared_rates as sharing
from support_service.guard.rates import Rate, RateLimiter, RateSyncTimings
from support_service.guard.shared_rates import SharedRateLimits
from support_service.platform.background import run_in_background
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.clock import Clock

REPLICAS = 3
RATE = Rate(200, 3600)  # by a clock that a test sets; what Redis keeps of it outlives any stall of the machine
SETTLED = 0.2  # of that hour, as often as the interval is in a rate of a second
LARGE = Rate(10_000, 10_000 * 3600)  # more than a test spends by looking, and nothing of it is given back meanwhile


TIMINGS = RateSyncTimings(redis_timeout=GENEROUS_TIMEOUT)  # a working Redis does not time out on a busy machine


def expect_success(operation, _seconds, error=""):
    """Fail the test where an operation on Redis failed: a settlement itself raises nothing."""
    assert not error, f"{operation} failed: {error}"


@asynccontextmanager
async def replicas(url):
    """Limiters of as many replicas, settled with one Redis."""
    limiters = [RateLimiter("address", LARGE) for _ in range(REPLICAS)]
    async with AsyncExitStack() as stack:
        for limiter in limiters:
            shared = SharedRateLimits(url, [limiter], timings=TIMINGS)
            stack.push_async_callback(shared.close)
            await stack.enter_async_context(run_in_background(shared.run()))
        yield limiters


@pytest.fixture
async def settled(redis, monkeypatch):
    """Limiters of as many replicas, and a call that asks all of them for some hours and gives how many were let in."""
    now = 1_700_000_000.0  # s
    of_redis, of_ours = "time[1] * 1000000 + time[2]", "tonumber(redis.call('GET', 'now'))"
    assert of_redis in sharing.SYNC_SCRIPT
    monkeypatch.setattr(sharing, "SYNC_SCRIPT", sharing.SYNC_SCRIPT.replace(of_redis, of_ours))
    limiters = [RateLimiter("address", RATE, lambda: now) for _ in range(REPLICAS)]
    shared = [SharedRateLimits(redis.url, [limiter], expect_success, timings=TIMINGS) for limiter in limiters]

    async def ask(hours):
        nonlocal now
        admitted = 0
        for look in range(round(hours * 100)):
            admitted += sum(limiter.consume("a").admitted for limiter in limiters for _ in range(20))
            now += RATE.seconds / 100
            await store.set("now", round(now * sharing.MICROSECONDS_PER_SECOND))
            if look % round(SETTLED * 100) == 0:
                for each in shared:
                    await each.synchronize()
        return admitted

    async with Client.from_url(redis.url) as store:
        yield ask
        for each in shared:
            await each.close()


async def test_replicas_share_one_rate(settled):
    """At its start each may admit one bucket; afterwards all together keep the rate."""
    first = await settled(1)
    second = await settled(4)
    at_the_start = REPLICAS * (RATE.requests + RATE.requests * SETTLED)
    assert REPLICAS * RATE.requests <= first <= at_the_start + RATE.requests
    # What was given out beyond the rate at the start has been paid back by now, or soon is.
    assert first + second <= at_the_start + RATE.requests * 5
    assert await settled(2) == pytest.approx(RATE.requests * 2, rel=0.1)


async def test_bucket_used_on_one_replica_is_used_on_all(redis):
    """After the replicas have exchanged their counts."""
    async with replicas(redis.url) as (one, other, _):
        while one.consume("greedy").admitted:
            pass
        assert other.consume("greedy").admitted  # which they may not know yet
        await eventually(lambda: not other.consume("greedy").admitted)


@pytest.mark.parametrize("fault", ["freeze", "kill"])
async def test_replicas_limit_alone_while_redis_is_down(redis, fault):
    """A frozen or stopped Redis delays no request. Afterwards they share the rate again."""
    async with replicas(redis.url) as (one, other, _):
        one.consume("a")
        getattr(redis, fault)()
        try:
            started = time.process_time()
            assert sum(one.consume("b").admitted for _ in range(11_000)) == LARGE.requests
            assert sum(other.consume("b").admitted for _ in range(11_000)) == LARGE.requests
            assert time.process_time() - started < 1  # nothing waited: it is the processor's time, not the clock's
        finally:
            redis.thaw() if fault == "freeze" else redis.start()
        while one.consume("c").admitted:
            pass
        await eventually(lambda: not other.consume("c").admitted)


async def test_invalid_value_in_redis_counts_as_zero(redis):
    """So does an impossible debt: no key is limited indefinitely."""
    limiter, other = RateLimiter("address", Rate(10, 1)), RateLimiter("address", Rate(10, 3600))
    limits = [[limiter], [other]]
    shared, shared_too = (SharedRateLimits(redis.url, each, expect_success, timings=TIMINGS) for each in limits)
    key = "support:rate:address:a"
    async with Client.from_url(redis.url) as client:
        for nonsense in ("nonsense", "99999999999999999999", "-5"):
            await client.set(key, nonsense)
            limiter.consume("a")
            await shared.synchronize()
            assert limiter.consume("a").seconds_until_full < 12
        await client.delete(key)
        await client.lpush(key, "x")
        other.consume("a")
        await shared_too.synchronize()
        assert await client.pttl(key) > 0
    await shared.close()
    await shared_too.close()


async def test_full_bucket_after_a_redis_outage(redis):
    """For a caller that kept to the rate, on each limiter."""
    clock = Clock()
    limiters = [RateLimiter(name, Rate(10, 3600), clock) for name in ("address", "principal")]
    shared = SharedRateLimits(redis.url, limiters, timings=TIMINGS)
    redis.kill()
    try:
        for _ in range(5):
            assert all(limiter.consume("a").admitted for limiter in limiters for _ in range(10))
            await shared.synchronize()
            clock.now += 3600
    finally:
        redis.start()
    for limiter in limiters:
        limiter.consume("a")
    await shared.synchronize()
    assert [limiter.consume("a").remaining for limiter in limiters] == [8, 8]
    async with Client.from_url(redis.url) as client:
        assert len(await client.keys("support:rate:*")) == 2  # they were settled
    await shared.close()


async def test_stored_debt_is_limited(redis):
    """To ten windows, however much is added at once."""
    clock = Clock()
    limiter = RateLimiter("address", Rate(10, 10), clock)
    shared = SharedRateLimits(redis.url, [limiter], expect_success, timings=TIMINGS)
    for _ in range(50):
        for _ in range(10):
            limiter.consume("a")
        clock.now += 10
    await shared.synchronize()
    assert limiter.consume("a").seconds_until_full == pytest.approx(100)
    await shared.close()
