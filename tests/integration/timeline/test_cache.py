"""The timeline cache, in process and on Redis."""

import asyncio

import pytest
from redis.asyncio import Redis

from support_service.core.units import MAX_DURATION
from support_service.timeline.cache import CacheUnavailable, InProcessCache, Lease, RedisCacheTimings
from support_service.timeline.redis_cache import MAX_BATCHES_IN_FLIGHT, RedisCache
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.clock import Clock
from tests.support.timeline.fixtures import FAST_RECONNECT
from tests.support.timeline.harness import SHORT_TIMEOUT
from tests.support.timeline.redis_faults import fill


def cached_value(text, revision="0a"):
    return f'{{"revision":"{revision}","text":"{text}"}}'.encode()


async def test_value_is_kept_until_it_is_replaced_or_deleted(cache):
    """Byte for byte, also with the longest TTL and stale TTL that the settings allow. Other values stay."""
    longest = 2 * MAX_DURATION.total_seconds()
    assert await cache.get("key") is None
    await cache.delete("key")
    assert await cache.compare_and_set("key", b"\x00\xff", longest, "") is None
    assert await cache.get("key") == b"\x00\xff"
    assert await cache.compare_and_set("key", cached_value("a"), 60, "") is None
    assert await cache.get("key") == cached_value("a")
    await cache.compare_and_set("other", cached_value("b"), 60, "")
    await cache.delete("key")
    assert [await cache.get(key) for key in ("key", "other")] == [None, cached_value("b")]


async def test_write_with_an_outdated_revision_is_refused(cache):
    """A writer that names another revision than the current one gets the current value, and can retry."""
    await cache.compare_and_set("key", cached_value("first", "0a"), 60, "")
    assert await cache.compare_and_set("key", cached_value("second", "0b"), 60, "") == cached_value("first", "0a")
    assert await cache.compare_and_set("key", cached_value("second", "0b"), 60, "0c") == cached_value("first", "0a")
    assert await cache.get("key") == cached_value("first", "0a")
    assert await cache.compare_and_set("key", cached_value("second", "0b"), 60, "0a") is None
    assert await cache.get("key") == cached_value("second", "0b")


async def test_value_expires_after_its_ttl_in_process(monkeypatch):
    cache, clock = InProcessCache(), Clock()
    monkeypatch.setattr("time.monotonic", clock)
    await cache.compare_and_set("key", cached_value("a"), 60, "")
    clock.now += 59.9
    assert await cache.get("key")
    clock.now += 0.1
    assert await cache.get("key") is None


async def test_value_expires_after_its_ttl_in_redis(redis):
    """Redis has the TTL in milliseconds, which it rounds to one at least."""
    cache = RedisCache(redis.url, GENEROUS_TIMEOUT)
    await cache.compare_and_set("key", cached_value("a"), 0.0001, "")

    async def is_forgotten():
        return await cache.get("key") is None

    await eventually(is_forgotten)
    async with Redis.from_url(redis.url) as store:
        for ttl in (3600, 7200):
            await cache.compare_and_set("key", cached_value(str(ttl)), ttl, "0a")
            assert 1000 * (ttl - GENEROUS_TIMEOUT) <= await store.pttl("key") <= 1000 * ttl
    await cache.close()


async def test_concurrent_reads_each_get_their_own_value(cache):
    """Each concurrent read gets the value of its key, and a cancelled read does not affect the others."""
    for number in range(0, 50, 2):
        await cache.compare_and_set(f"key-{number}", cached_value(str(number)), 60, "")
    cancelled = asyncio.ensure_future(cache.get("key-0"))
    reads = asyncio.gather(*(cache.get(f"key-{number}") for number in range(50)), cache.get("key-48"))
    await asyncio.sleep(0)
    cancelled.cancel()
    expected = [None if number % 2 else cached_value(str(number)) for number in range(50)]
    assert await reads == [*expected, cached_value("48")]


async def test_hundreds_of_concurrent_operations_share_few_connections(redis):
    """Hundreds of concurrent operations are batched over a few connections, and all succeed."""
    cache = RedisCache(redis.url, GENEROUS_TIMEOUT)
    leases = asyncio.gather(*(cache.acquire_lease(f"lease-{number}", 60) for number in range(300)))
    writes = asyncio.gather(
        *(cache.compare_and_set(f"key-{number}", cached_value(str(number)), 60, "") for number in range(300))
    )
    assert all(await leases)
    assert set(await writes) == {None}
    assert await asyncio.gather(*(cache.get(f"key-{number}") for number in range(300))) == [
        cached_value(str(number)) for number in range(300)
    ]
    assert sum(cache.connection.pool_state()[:2]) <= MAX_BATCHES_IN_FLIGHT
    await cache.close()


async def test_in_process_cache_is_limited_in_bytes():
    """The least recently used value is evicted first; a value larger than the whole cache is not stored."""
    cache = InProcessCache(2 * len(cached_value("1")))
    await cache.compare_and_set("a", cached_value("1"), 60, "")
    await cache.compare_and_set("b", cached_value("2"), 60, "")
    await cache.get("a")
    await cache.compare_and_set("c", cached_value("3"), 60, "")
    await cache.compare_and_set("d", cached_value("4" * 100), 60, "")
    kept = [await cache.get(key) for key in "abcd"]
    assert kept == [cached_value("1"), None, cached_value("3"), None]


@pytest.fixture
async def replicas(redis):
    caches = RedisCache(redis.url, GENEROUS_TIMEOUT), RedisCache(redis.url, GENEROUS_TIMEOUT)
    yield caches
    for each in caches:
        await each.close()


async def test_lease_is_held_by_one_replica(replicas):
    """A lease is held by one replica until that replica releases it; no other can release it."""
    one, two = replicas
    lease = await one.acquire_lease("key", 60)
    assert lease
    assert await two.acquire_lease("key", 60) is None
    await two.release_lease(Lease("key", "not the token"))
    assert await two.acquire_lease("key", 60) is None
    await one.release_lease(lease)
    assert await two.acquire_lease("key", 60)


async def test_lease_expires_unless_it_is_extended(replicas, redis):
    """The lease of a dead replica expires; only the current holder can extend it."""
    one, two = replicas
    lease = await one.acquire_lease("key", 0.001)
    await eventually(lambda: two.acquire_lease("key", 60))
    await one.extend_lease(lease, 600)  # the other replica holds the lease now
    async with Redis.from_url(redis.url) as store:
        assert await store.pttl("key") <= 60_000
        await store.delete("key")
        lease = await one.acquire_lease("key", 60)
        await one.extend_lease(lease, 600)
        assert await store.pttl("key") > 60_000


async def is_reachable(cache):
    try:
        await cache.ping()
    except CacheUnavailable:
        return False
    return True


OPERATIONS = [
    lambda cache: cache.get("key"),
    lambda cache: cache.compare_and_set("key", cached_value("a"), 60, ""),
    lambda cache: cache.acquire_lease("key", 1),
    lambda cache: cache.extend_lease(Lease("key", "token"), 1),
    lambda cache: cache.release_lease(Lease("key", "token")),
    lambda cache: cache.delete("key"),
    lambda cache: cache.ping(),
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operations_survive_a_redis_that_fails(redis, operation):
    """If Redis is down or does not answer, each operation raises CacheUnavailable, and no other error.

    Redis is used again once it answers, whatever it answers late. If it restarted or the network closed idle
    connections, each operation opens a new one and succeeds.
    """
    cache = RedisCache(redis.url, GENEROUS_TIMEOUT, timings=FAST_RECONNECT)
    await asyncio.gather(*(cache.get(f"key-{number}") for number in range(20)), cache.ping())
    async with Redis.from_url(redis.url) as store:
        await store.client_kill_filter(_type="normal", skipme=True)
    await operation(cache)
    for fail, repair in ((redis.freeze, redis.thaw), (redis.kill, redis.start)):
        cache.connection.timeout = SHORT_TIMEOUT
        fail()
        try:
            with pytest.raises(CacheUnavailable):
                await operation(cache)
        finally:
            repair()
        cache.connection.timeout = GENEROUS_TIMEOUT
        await eventually(lambda: is_reachable(cache))
    await cache.close()


async def test_invalid_redis_response_fails_all_waiting_reads():
    """All waiting reads fail with CacheUnavailable, and none waits forever."""
    responses, serving = [b"+OK\r\n", b"*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n:2\r\n"], []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        while asked := await reader.read(65_536):
            commands = asked.count(b"\r\n*") + 1
            writer.write(responses[0] if b"MGET" in asked else b"+PONG\r\n" * commands)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    cache = RedisCache(url, GENEROUS_TIMEOUT, timings=FAST_RECONNECT)
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        await cache.ping()
        while responses:
            found = await asyncio.gather(cache.get("a"), cache.get("b"), return_exceptions=True)
            assert [type(each) for each in found] == [CacheUnavailable, CacheUnavailable], responses[0]
            await eventually(lambda: is_reachable(cache))  # its responses to pings are valid
            responses.pop(0)
        await cache.close()
        await asyncio.gather(*serving)
    server.close()


async def test_unavailable_redis_gets_no_commands_until_it_recovers(redis):
    """After the first timeout each operation fails at once and sends no command, until Redis answers again."""
    measured = []
    cache = RedisCache(
        redis.url, GENEROUS_TIMEOUT, lambda name, _seconds, error="": measured.append((name, error)), FAST_RECONNECT
    )
    await cache.ping()
    cache.connection.timeout = SHORT_TIMEOUT
    redis.freeze()
    try:
        with pytest.raises(CacheUnavailable):
            await cache.get("key")
        assert measured[-1] == ("MGET", "timeout")
        count = len(measured)
        for operation in OPERATIONS:
            with pytest.raises(CacheUnavailable):
                await operation(cache)
        assert len(measured) == count
    finally:
        redis.thaw()
    cache.connection.timeout = GENEROUS_TIMEOUT
    await eventually(lambda: is_reachable(cache))
    await cache.compare_and_set("key", cached_value("a"), 60, "")
    assert await cache.get("key") == cached_value("a")
    await cache.close()


async def test_refused_command_takes_nothing_else_out_of_use(redis):
    """A Redis that is full refuses writes, and still gives what it has."""
    cache = RedisCache(redis.url, GENEROUS_TIMEOUT, timings=RedisCacheTimings(reconnect_interval=3600.0))
    await cache.compare_and_set("key", cached_value("a"), 60, "")
    fill(redis)
    with pytest.raises(CacheUnavailable, match="maxmemory"):
        await cache.compare_and_set("other", cached_value("b"), 60, "")
    assert await cache.get("key") == cached_value("a")
    await cache.close()


async def test_oversized_value_is_neither_stored_nor_returned(redis):
    """An oversized value is not sent to Redis; one that is stored already is removed by its first reader."""
    cache = RedisCache(
        redis.url, GENEROUS_TIMEOUT, timings=RedisCacheTimings(max_value_bytes=len(cached_value("long")) - 1)
    )
    async with Redis.from_url(redis.url) as store:
        await store.set("key", cached_value("long"))
    assert await cache.compare_and_set("other", cached_value("long"), 60, "") is None
    assert await cache.get("other") is None
    assert await cache.get("key") is None
    async with Redis.from_url(redis.url) as store:
        assert await store.exists("key", "other") == 0
    await cache.close()
