"""What every timeline cache does, and what only one of them can."""

import asyncio

import pytest

from support_service.timeline.cache import SKEW, CacheFault, InProcessCache, Value
from support_service.timeline.redis_cache import RedisCache
from tests.calls import PATIENCE


def value(text, asked=1000.5, ttl=60.0):
    """A value that begins as every cached one does, with the time of its question."""
    return Value(f'{{"asked":{asked},"text":"{text}"}}'.encode(), asked, ttl)


async def test_a_value_is_given_back(cache):
    """What was set is given back, byte by byte, until it is set anew."""
    odd = Value(b"\x00\xff", 1.0, 60)
    assert await cache.set("key", odd, None)
    assert await cache.get("key") == b"\x00\xff"
    assert await cache.set("key", value("other"), None)
    assert await cache.get("key") == value("other").data


async def test_a_later_value_stays(cache):
    """Who asked earlier and is done later does not overwrite; who asked at the same time or later does."""
    await cache.set("key", value("late", asked=1000.5), None)
    assert not await cache.set("key", value("early", asked=1000.25), None)
    assert await cache.get("key") == value("late", asked=1000.5).data
    assert await cache.set("key", value("again", asked=1000.5), None)
    assert await cache.set("key", value("later", asked=1001), None)
    assert await cache.get("key") == value("later", asked=1001).data


async def test_a_stamp_of_a_wrong_clock_does_not_stay(cache):
    """A value from further in the future than clocks may differ gives way to one of now."""
    await cache.set("key", value("future", asked=2000.5 + SKEW), None)
    assert await cache.set("key", value("now", asked=2000.25), None)


async def test_a_key_that_nobody_set_is_none(cache):
    """An unknown key is None, and may be deleted."""
    assert await cache.get("key") is None
    await cache.delete("key")


async def test_a_deleted_value_is_gone(cache):
    """A deleted value is not given again, and others stay."""
    await cache.set("key", value("a"), None)
    await cache.set("other", value("b"), None)
    await cache.delete("key")
    assert await cache.get("key") is None
    assert await cache.get("other") == value("b").data


async def test_a_value_ends_with_its_time(cache):
    """A value whose time is over is not given."""
    await cache.set("key", value("a", ttl=0.001), None)
    async with asyncio.timeout(5):
        while await cache.get("key") is not None:  # noqa: ASYNC110 - a cache tells nobody what it forgets
            await asyncio.sleep(0.001)


async def test_reads_at_once_each_get_their_own_value(cache):
    """Many keys asked for in one moment each give their own value, and one that gives up costs the others nothing."""
    for number in range(0, 50, 2):
        await cache.set(f"key-{number}", value(str(number)), None)
    gives_up = asyncio.ensure_future(cache.get("key-0"))
    reads = asyncio.gather(*(cache.get(f"key-{number}") for number in range(50)))
    await asyncio.sleep(0)
    gives_up.cancel()
    assert await reads == [None if number % 2 else value(str(number)).data for number in range(50)]


async def test_ping_answers(cache):
    """A cache that is up says so without a fault."""
    await cache.ping()


async def test_the_process_cache_is_bounded_in_bytes():
    """The least recently used value goes first, and one that is larger than the whole cache is not kept."""
    size = len(value("1").data)
    cache = InProcessCache(2 * size)
    await cache.set("a", value("1"), None)
    await cache.set("b", value("2"), None)
    await cache.get("a")
    await cache.set("c", value("3"), None)
    await cache.set("d", value("4" * 2 * size), None)
    kept = [await cache.get(key) for key in "abcd"]
    assert kept == [value("1").data, None, value("3").data, None]


@pytest.fixture
async def replicas(redis):
    """Two replicas' caches over one Redis."""
    caches = RedisCache(redis.url, PATIENCE), RedisCache(redis.url, PATIENCE)
    yield caches
    for each in caches:
        await each.close()


async def test_one_replica_has_a_claim(replicas):
    """A claim is one replica's until it sets the value or gives the claim up."""
    one, two = replicas
    claim = await one.claim("key", 60)
    assert claim
    assert await two.claim("key", 60) is None
    await two.release("key", "not the claim")
    assert await two.claim("key", 60) is None
    await one.set("key", value("a"), claim)
    claim = await two.claim("key", 60)
    assert claim
    await two.release("key", claim)
    assert await one.claim("key", 60)


async def test_a_claim_ends_by_itself(replicas):
    """The claim of a replica that died is free again after its time."""
    one, two = replicas
    await one.claim("key", 0.001)
    async with asyncio.timeout(5):
        while await two.claim("key", 60) is None:  # noqa: ASYNC110 - a claim tells nobody of its end
            await asyncio.sleep(0.001)


async def test_a_refused_value_ends_the_claim_too(replicas):
    """A value that comes too late is not kept, and nobody waits for it any longer."""
    one, two = replicas
    claim = await one.claim("key", 60)
    await two.set("key", value("late", asked=1000.5), None)
    assert not await one.set("key", value("early", asked=1000.25), claim)
    assert await two.claim("key", 60)


USES = [
    lambda cache: cache.get("key"),
    lambda cache: cache.set("key", value("a"), None),
    lambda cache: cache.claim("key", 1),
    lambda cache: cache.release("key", "claim"),
    lambda cache: cache.delete("key"),
    lambda cache: cache.ping(),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("state", ["killed", "frozen"])
async def test_a_redis_out_of_order_is_a_fault(redis, use, state):
    """Every operation raises CacheFault, and nothing else, where Redis is dead or does not answer."""
    cache = RedisCache(redis.url, 0.2)
    await cache.ping()
    redis.kill() if state == "killed" else redis.freeze()
    try:
        with pytest.raises(CacheFault):
            await use(cache)
    finally:
        redis.thaw() if state == "frozen" else redis.start()
        await cache.close()


async def test_a_redis_known_to_be_out_of_order_is_not_asked(redis):
    """After the first silence every operation fails without a wait and without a command, until Redis is back."""
    measured = []
    cache = RedisCache(redis.url, 0.2, lambda name, _seconds, error="": measured.append((name, error)))
    await cache.ping()
    redis.freeze()
    try:
        with pytest.raises(CacheFault):
            await cache.get("key")
        assert measured[-1] == ("MGET", "timeout")
        known = len(measured)
        for use in USES:
            with pytest.raises(CacheFault):
                await use(cache)
        assert len(measured) == known
    finally:
        redis.thaw()
    async with asyncio.timeout(10):
        while True:
            try:
                await cache.ping()
            except CacheFault:
                await asyncio.sleep(0.01)
            else:
                break
    await cache.set("key", value("a"), None)
    assert await cache.get("key") == value("a").data
    await cache.close()
