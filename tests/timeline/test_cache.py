"""What every timeline cache does, and what only one of them can."""

import asyncio

import pytest

from support_service.timeline.cache import CacheFault, InProcessCache, RedisCache


async def test_a_value_is_given_back(cache):
    """What was set is given back, byte by byte, until it is set anew."""
    await cache.set("key", b"\x00\xff", 60)
    assert await cache.get("key") == b"\x00\xff"
    await cache.set("key", b"other", 60)
    assert await cache.get("key") == b"other"


async def test_a_key_that_nobody_set_is_none(cache):
    """An unknown key is None, and may be deleted."""
    assert await cache.get("key") is None
    await cache.delete("key")


async def test_a_deleted_value_is_gone(cache):
    """A deleted value is not given again, and others stay."""
    await cache.set("key", b"value", 60)
    await cache.set("other", b"value", 60)
    await cache.delete("key")
    assert await cache.get("key") is None
    assert await cache.get("other") == b"value"


async def test_a_value_ends_with_its_time(cache):
    """A value whose time is over is not given."""
    await cache.set("key", b"value", 0.001)
    async with asyncio.timeout(5):
        while await cache.get("key") is not None:  # noqa: ASYNC110 - a cache tells nobody what it forgets
            await asyncio.sleep(0.001)


async def test_reads_at_once_each_get_their_own_value(cache):
    """Many keys asked for in one moment each give their own value, and one that gives up costs the others nothing."""
    for number in range(0, 50, 2):
        await cache.set(f"key-{number}", str(number).encode(), 60)
    gives_up = asyncio.ensure_future(cache.get("key-0"))
    reads = asyncio.gather(*(cache.get(f"key-{number}") for number in range(50)))
    await asyncio.sleep(0)
    gives_up.cancel()
    assert await reads == [None if number % 2 else str(number).encode() for number in range(50)]


async def test_ping_answers(cache):
    """A cache that is up says so without a fault."""
    await cache.ping()


async def test_the_process_cache_is_bounded():
    """The least recently used value goes first."""
    cache = InProcessCache(entries=2)
    await cache.set("a", b"1", 60)
    await cache.set("b", b"2", 60)
    await cache.get("a")
    await cache.set("c", b"3", 60)
    assert [await cache.get(key) for key in "abc"] == [b"1", None, b"3"]


@pytest.mark.parametrize(
    "use",
    [
        lambda cache: cache.get("key"),
        lambda cache: cache.set("key", b"value", 60),
        lambda cache: cache.delete("key"),
        lambda cache: cache.ping(),
    ],
)
@pytest.mark.parametrize("state", ["killed", "frozen"])
async def test_a_redis_out_of_order_is_a_fault(redis, use, state):
    """Every operation raises CacheFault, and nothing else, where Redis is dead or does not answer."""
    cache = RedisCache(redis.url)
    await cache.ping()
    redis.kill() if state == "killed" else redis.freeze()
    try:
        with pytest.raises(CacheFault):
            await use(cache)
    finally:
        redis.thaw() if state == "frozen" else redis.start()
        await cache.close()
