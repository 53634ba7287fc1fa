"""What every timeline cache does, and what only one of them can."""

import asyncio

import pytest
from redis.asyncio import Redis

from support_service.core.units import MAX_DURATION
from support_service.timeline.cache.base import CacheUnavailable, Lease, RedisCacheTimings
from support_service.timeline.cache.memory import InProcessCache
from support_service.timeline.cache.redis import MAX_BATCHES_IN_FLIGHT, RedisCache
from tests.support.calls import PATIENCE, eventually
from tests.support.timeline.fixtures import RECOVERING_SOON
from tests.support.timeline.world import IMPATIENT


def value(text, revision="0a"):
    """A value that begins as every cached one does, with its revision."""
    return f'{{"revision":"{revision}","text":"{text}"}}'.encode()


async def test_a_value_is_given_back(cache):
    """What was set is given back, byte by byte, until it is set anew."""
    assert await cache.set("key", b"\x00\xff", 60, "") is None
    assert await cache.get("key") == b"\x00\xff"
    assert await cache.set("key", value("other"), 60, "") is None
    assert await cache.get("key") == value("other")


async def test_a_value_that_the_writer_has_not_seen_stays(cache):
    """Who writes in place of another value than the one that is there gets that one back, and may try again."""
    await cache.set("key", value("first", "0a"), 60, "")
    assert await cache.set("key", value("second", "0b"), 60, "") == value("first", "0a")
    assert await cache.set("key", value("second", "0b"), 60, "0c") == value("first", "0a")
    assert await cache.get("key") == value("first", "0a")
    assert await cache.set("key", value("second", "0b"), 60, "0a") is None
    assert await cache.get("key") == value("second", "0b")


async def test_a_key_that_nobody_set_is_none(cache):
    """An unknown key is None, and may be deleted."""
    assert await cache.get("key") is None
    await cache.delete("key")


async def test_a_deleted_value_is_gone(cache):
    """A deleted value is not given again, and others stay."""
    await cache.set("key", value("a"), 60, "")
    await cache.set("other", value("b"), 60, "")
    await cache.delete("key")
    assert await cache.get("key") is None
    assert await cache.get("other") == value("b")


async def test_a_value_ends_with_its_time(cache):
    """A value whose time is over is not given."""
    await cache.set("key", value("a"), 0.001, "")

    async def is_forgotten():
        return await cache.get("key") is None

    await eventually(is_forgotten)


async def test_reads_at_once_each_get_their_own_value(cache):
    """Many keys asked for in one moment each give their own value, and one that gives up costs the others nothing."""
    for number in range(0, 50, 2):
        await cache.set(f"key-{number}", value(str(number)), 60, "")
    gives_up = asyncio.ensure_future(cache.get("key-0"))
    reads = asyncio.gather(*(cache.get(f"key-{number}") for number in range(50)), cache.get("key-48"))
    await asyncio.sleep(0)
    gives_up.cancel()
    expected = [None if number % 2 else value(str(number)) for number in range(50)]
    assert await reads == [*expected, value("48")]


async def test_a_burst_is_no_fault(redis):
    """Hundreds of different operations at once go out together over a few connections, and all are answered."""
    cache = RedisCache(redis.url, PATIENCE)
    claims = asyncio.gather(*(cache.claim(f"claim-{number}", 60) for number in range(300)))
    writes = asyncio.gather(*(cache.set(f"key-{number}", value(str(number)), 60, "") for number in range(300)))
    assert all(await claims)
    assert set(await writes) == {None}
    assert await asyncio.gather(*(cache.get(f"key-{number}") for number in range(300))) == [
        value(str(number)) for number in range(300)
    ]
    assert sum(cache.connection.usage()) <= MAX_BATCHES_IN_FLIGHT
    await cache.close()


async def test_ping_answers(cache):
    """A cache that is up says so without a fault."""
    await cache.ping()


async def test_the_process_cache_is_bounded_in_bytes():
    """The least recently used value goes first, and one that is larger than the whole cache is not kept."""
    cache = InProcessCache(2 * len(value("1")))
    await cache.set("a", value("1"), 60, "")
    await cache.set("b", value("2"), 60, "")
    await cache.get("a")
    await cache.set("c", value("3"), 60, "")
    await cache.set("d", value("4" * 100), 60, "")
    kept = [await cache.get(key) for key in "abcd"]
    assert kept == [value("1"), None, value("3"), None]


@pytest.fixture
async def replicas(redis):
    """Two replicas' caches over one Redis."""
    caches = RedisCache(redis.url, PATIENCE), RedisCache(redis.url, PATIENCE)
    yield caches
    for each in caches:
        await each.close()


async def test_one_replica_has_a_claim(replicas):
    """A claim is one replica's until it gives it back; nobody else can."""
    one, two = replicas
    claim = await one.claim("key", 60)
    assert claim
    assert await two.claim("key", 60) is None
    await two.release(Lease("key", "not the token"))
    assert await two.claim("key", 60) is None
    await one.release(claim)
    assert await two.claim("key", 60)


async def test_a_claim_ends_by_itself_unless_it_is_extended(replicas, redis):
    """The claim of a replica that died is free again after its time; that of one that is alive is not."""
    one, two = replicas
    claim = await one.claim("key", 0.001)
    await eventually(lambda: two.claim("key", 60))
    await one.extend(claim, 600)  # is another's now
    async with Redis.from_url(redis.url) as store:
        assert await store.pttl("key") <= 60_000
        await store.delete("key")
        claim = await one.claim("key", 60)
        await one.extend(claim, 600)
        assert await store.pttl("key") > 60_000


async def is_reachable(cache):
    """Return whether a cache answers a ping."""
    try:
        await cache.ping()
    except CacheUnavailable:
        return False
    return True


USES = [
    lambda cache: cache.get("key"),
    lambda cache: cache.set("key", value("a"), 60, ""),
    lambda cache: cache.claim("key", 1),
    lambda cache: cache.extend(Lease("key", "token"), 1),
    lambda cache: cache.release(Lease("key", "token")),
    lambda cache: cache.delete("key"),
    lambda cache: cache.ping(),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("state", ["killed", "frozen"])
async def test_a_redis_out_of_order_is_a_fault(redis, use, state):
    """Every operation raises CacheFault, and nothing else, where Redis is dead or does not answer."""
    cache = RedisCache(redis.url, PATIENCE)
    await cache.ping()
    cache.connection.timeout = IMPATIENT
    redis.kill() if state == "killed" else redis.freeze()
    try:
        with pytest.raises(CacheUnavailable):
            await use(cache)
    finally:
        redis.thaw() if state == "frozen" else redis.start()
        await cache.close()


@pytest.mark.parametrize("use", USES)
async def test_connections_that_were_closed_while_they_lay_idle_are_no_fault(redis, use):
    """A Redis that was restarted, or a line that ends what is idle, costs no operation: each finds a new connection."""
    cache = RedisCache(redis.url, PATIENCE)
    await asyncio.gather(*(cache.get(f"key-{number}") for number in range(20)), cache.ping())
    async with Redis.from_url(redis.url) as store:
        await store.client_kill_filter(_type="normal", skipme=True)
    await use(cache)
    await cache.close()


@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n:2\r\n"])
async def test_what_answers_as_no_redis_does_is_a_fault(answer):
    """Where values are answered with something else, all who wait for one hear of it, and nobody waits for ever."""
    serving = []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        while asked := await reader.read(65_536):
            commands = asked.count(b"\r\n*") + 1
            writer.write(answer if b"MGET" in asked else b"+PONG\r\n" * commands)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    cache = RedisCache(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", PATIENCE, timings=RECOVERING_SOON)
    async with asyncio.timeout(PATIENCE):
        await cache.ping()
        found = await asyncio.gather(cache.get("a"), cache.get("b"), return_exceptions=True)
        assert [type(each) for each in found] == [CacheUnavailable, CacheUnavailable]
        await eventually(lambda: is_reachable(cache))  # its answers to pings are valid
        await cache.close()
        await asyncio.gather(*serving)
    server.close()


async def test_a_redis_known_to_be_out_of_order_is_not_asked(redis):
    """After the first silence every operation fails without a wait and without a command, until Redis is back."""
    measured = []
    cache = RedisCache(
        redis.url,
        PATIENCE,
        lambda name, _seconds, error="": measured.append((name, error)),
        RECOVERING_SOON,
    )
    await cache.ping()
    cache.connection.timeout = IMPATIENT
    redis.freeze()
    try:
        with pytest.raises(CacheUnavailable):
            await cache.get("key")
        assert measured[-1] == ("MGET", "timeout")
        known = len(measured)
        for use in USES:
            with pytest.raises(CacheUnavailable):
                await use(cache)
        assert len(measured) == known
    finally:
        redis.thaw()
    cache.connection.timeout = PATIENCE
    await eventually(lambda: is_reachable(cache))
    await cache.set("key", value("a"), 60, "")
    assert await cache.get("key") == value("a")
    await cache.close()


@pytest.mark.parametrize("use", USES)
async def test_a_redis_that_froze_is_used_again_whatever_was_late(redis, use):
    """Whichever operation found the silence out, and whatever its late answer is, Redis is used once it answers."""
    cache = RedisCache(redis.url, PATIENCE, timings=RECOVERING_SOON)
    await cache.ping()
    cache.connection.timeout = IMPATIENT
    redis.freeze()
    try:
        with pytest.raises(CacheUnavailable):
            await use(cache)
    finally:
        redis.thaw()
    cache.connection.timeout = PATIENCE
    await eventually(lambda: is_reachable(cache))
    await cache.close()


async def test_a_value_is_kept_for_as_long_as_can_be_set(cache):
    """A value of the longest time that the settings allow, current and stale together, is no fault."""
    assert await cache.set("key", value("a"), 2 * MAX_DURATION.total_seconds(), "") is None
    assert await cache.get("key") == value("a")


async def test_a_value_that_is_too_long_is_neither_kept_nor_given(redis):
    """A long value is not sent to Redis; one that is there all the same is removed by the first who reads it."""
    cache = RedisCache(redis.url, PATIENCE, timings=RedisCacheTimings(max_value_bytes=len(value("long")) - 1))
    async with Redis.from_url(redis.url) as store:
        await store.set("key", value("long"))
    assert await cache.set("other", value("long"), 60, "") is None
    assert await cache.get("other") is None
    assert await cache.get("key") is None
    async with Redis.from_url(redis.url) as store:
        assert await store.exists("key", "other") == 0
    await cache.close()
