"""What a read gives, says and counts for every way in which Redis can fail; the sources are in order, or fail too."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from support_service.core import references
from support_service.settings import Settings
from support_service.telemetry.instruments.stores import REDIS_OPERATIONS
from support_service.timeline.cache.snapshot_cache import Case, SnapshotCache
from support_service.timeline.component import CACHE
from tests.support.calls import PATIENCE, eventually, refresh
from tests.support.servers import RedisServer
from tests.support.timeline import redis_faults
from tests.support.timeline.redis_faults import RedisFault, slow_proxy
from tests.support.timeline.world import (
    ALL,
    COLLECTED,
    CONTEXT,
    EVENTS,
    FAILURES,
    IMPATIENT,
    OPERATIONS,
    TTL,
    World,
    add_order,
    age,
    cache_key,
    freshness,
    shown,
)
from tests.support.upstream_faults import MEBIBYTE

FRESH = dict.fromkeys(("order", "payment", "fulfillment"), ("fresh", None))
CACHED = dict.fromkeys(FRESH, ("cached", None))


@dataclass(frozen=True)
class RedisFaultCase:
    """A fault of the whole Redis, and what a read counts during it."""

    name: str
    fault: RedisFault
    events: dict[str, int]
    failures: dict[str, int]
    readable: bool  # what was cached before is still given; otherwise nothing is asked of it until it is back


ROWS = [
    RedisFaultCase("refusing", redis_faults.kill, {"miss": 1, "error": 2}, {"cache": 2}, readable=False),
    RedisFaultCase("frozen", redis_faults.freeze, {"miss": 1, "error": 2}, {"cache": 2}, readable=False),
    RedisFaultCase("full", redis_faults.fill, {"miss": 1, "error": 2}, {"cache": 2}, readable=True),
    RedisFaultCase("read-only", redis_faults.make_read_only, {"miss": 1, "error": 2}, {"cache": 2}, readable=True),
]
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def value(*, at: str = "1.0", entries: str = "[]") -> str:
    """A cached value with these parts."""
    rest = f'"epoch":0,"note":null,"missing":false,"entries":{entries}'
    return f'{{"revision":"0f","version":2,"sources":{{"order":{{"at":{at},"ids":["ORD-1"],"ofOrders":[],{rest}}}}}}}'


VALUES: dict[str, tuple[Callable[[Redis, str], object], dict[str, int]]] = {
    "a list": (lambda store, key: store.rpush(key, b"x"), {}),
    "a hash": (lambda store, key: store.hset(key, "a", "b"), {}),
    "a stream": (lambda store, key: store.xadd(key, {"a": "b"}), {}),
    "nothing": (lambda store, key: store.set(key, b""), {"cache_decode": 1}),
    "no JSON": (lambda store, key: store.set(key, b"\x80\x04N."), {"cache_decode": 1}),
    "half of a value": (lambda store, key: store.set(key, b'{"revision":"0f","version":2,"sou'), {"cache_decode": 1}),
    "another shape": (
        lambda store, key: store.set(key, b'{"revision":"0f","version":2,"sources":[]}'),
        {"cache_decode": 1},
    ),
    "too deep": (lambda store, key: store.set(key, b"[" * 10_000), {"cache_decode": 1}),
    "4 MiB of zeros": (lambda store, key: store.set(key, bytes(4 * MEBIBYTE)), {"cache_decode": 1}),
    "NaN for a time": (lambda store, key: store.set(key, value(at="NaN")), {}),
    "a time far ahead": (lambda store, key: store.set(key, value(at="1e300")), {}),
    "an entry that is none": (lambda store, key: store.set(key, value(entries="[null]")), {"cache_decode": 1}),
    "an earlier version": (lambda store, key: store.set(key, b'{"version": 1, "sources": {}}'), {}),
    "a later version": (lambda store, key: store.set(key, b'{"revision":"0f","version":3,"parts":{}}'), {}),
    "two revisions": (
        lambda store, key: store.set(key, b'{"revision":"0F","version":2,"sources":{},"revision":"1e"}'),
        {},
    ),
}


def disturb(world: World, redis: RedisServer, row: RedisFaultCase) -> None:
    """Break Redis; a Redis that answers nothing is given up soon."""
    if row.fault is redis_faults.freeze:
        world.set_redis_timeout(IMPATIENT)
    row.fault(redis)


async def heals(world: World, redis: RedisServer) -> None:
    """Repair Redis; the service uses it again by itself."""
    redis_faults.repair(redis)
    world.set_redis_timeout(PATIENCE)
    await cached_again(world)
    assert world.moved(EVENTS) == {"hit": 1}


async def cached_again(world: World) -> None:
    """Read the case until its timeline comes from the cache."""

    async def is_cached() -> bool:
        return freshness(await world.read()) == CACHED

    await eventually(is_cached, within=3 * PATIENCE)


@each_row
async def test_a_redis_out_of_order_with_nothing_cached(world, services, redis, row):
    """The timeline is whole and fresh, within the deadline; what was not done is counted, and it heals by itself."""
    disturb(world, redis, row)
    for _ in range(2):
        detail = await world.read()
        assert sorted(shown(detail)) == ALL
        assert freshness(detail) == FRESH
        assert world.moved(EVENTS) == row.events
        assert world.moved(FAILURES) == row.failures
        assert world.moved(COLLECTED) == {"remote": 1}
    await heals(world, redis)


@each_row
async def test_a_redis_out_of_order_with_a_current_value(world, services, redis, row):
    """What can still be read is used; what can't is asked for anew."""
    await world.read()
    disturb(world, redis, row)
    detail = await world.read()
    assert sorted(shown(detail)) == ALL
    assert freshness(detail) == (CACHED if row.readable else FRESH)
    assert world.moved(EVENTS) == ({"hit": 1} if row.readable else row.events)
    assert world.moved(FAILURES) == ({} if row.readable else row.failures)
    await heals(world, redis)


@each_row
async def test_a_redis_out_of_order_with_an_old_value(world, services, redis, store, row):
    """An old answer is renewed though the new one can't be kept."""
    await world.read()
    await age(store, world.case, TTL + 60)
    disturb(world, redis, row)
    detail = await world.read()
    assert sorted(shown(detail)) == ALL
    assert freshness(detail) == FRESH
    assert world.moved(EVENTS) == row.events
    assert world.moved(FAILURES) == row.failures
    await heals(world, redis)


@each_row
async def test_a_redis_and_a_source_out_of_order(world, services, redis, store, row):
    """Both at once cost that source's entries, or their freshness where the old ones can be read; then both heal."""
    await world.read()
    await age(store, world.case, TTL + 60)
    disturb(world, redis, row)
    services["payment"].fail_with(503)
    detail = await world.read()
    status = "stale" if row.readable else "unavailable"
    assert freshness(detail) == FRESH | {"payment": (status, "status 503")}
    assert sorted(shown(detail)) == [name for name in ALL if row.readable or name != "PAY-1"]
    assert world.moved(EVENTS) == row.events
    assert world.moved(FAILURES) == row.failures | {"http": 1}
    services["payment"].heal()
    assert freshness(await world.read()) == FRESH
    await heals(world, redis)


@each_row
async def test_a_redis_and_all_sources_out_of_order(world, services, redis, row):
    """With everything down the case's own history is still answered in time, and says what is missing."""
    disturb(world, redis, row)
    for service in services.values():
        await service.close()
    detail = await world.read()
    assert [entry["type"] for entry in detail["timeline"]] == ["order"]  # the context
    assert set(freshness(detail).values()) == {("unavailable", "connection failed")}
    assert world.moved(EVENTS)["miss"] == 1
    assert world.moved(FAILURES)["cache"] == 1  # the claim where it can be read, and there is nothing to write
    for service in services.values():
        await service.open()
    await heals(world, redis)


@pytest.mark.parametrize("row", ROWS[:2], ids=["refusing", "frozen"])
async def test_a_redis_that_is_known_to_be_bad_costs_nothing(world, services, redis, row):
    """One read waits for one operation; after it none asks Redis for anything until it answers a ping of our own."""
    disturb(world, redis, row)
    await world.read()
    assert _asked(world) == 1
    for _ in range(10):
        assert freshness(await world.read()) == FRESH
        assert _asked(world) == 0
    await heals(world, redis)


def test_a_redis_has_50_ms_at_most():
    """What the one read that finds Redis out of order waits for it is within 50 ms, unless the settings say more."""
    assert Settings.load({}).timeline.redis_timeout <= 0.05


def _asked(world):
    """Redis operations that the last read made."""
    made = world.moved(OPERATIONS, db_system_name="redis")
    return sum(made.get(name, 0) for name in REDIS_OPERATIONS)  # those of events are not the read's


async def test_a_slow_redis_is_given_up_and_stays_so(make_client, services, redis):
    """A Redis that answers later than its timeout delays one read, and none after it."""
    async with slow_proxy(redis.url) as (proxy, url):
        world = await World.start(make_client, services, CONTEXT, SUPPORT_REDIS_URL=url)
        assert freshness(await world.read()) == FRESH
        assert freshness(await world.read()) == CACHED
        world.set_redis_timeout(IMPATIENT)
        proxy.delay = IMPATIENT  # each way
        assert freshness(await world.read()) == FRESH
        assert world.moved(EVENTS) == {"miss": 1, "error": 2}
        assert world.moved(FAILURES) == {"cache": 2}
        enough = proxy.chunks + 20  # of attempts to reach Redis, whose answers are late too
        async with asyncio.timeout(3 * PATIENCE):
            while proxy.chunks < enough:
                assert freshness(await world.read()) == FRESH
                assert _asked(world) == 0
        proxy.delay = 0.0
        await heals(world, redis)


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_is_none(world, store, name):
    """Whatever is kept under a case's key is a miss, is counted where it should have been a value, and is replaced."""
    put, failures = VALUES[name]
    await put(store, cache_key(world.case))
    detail = await world.read()
    assert sorted(shown(detail)) == ALL
    assert freshness(detail) == FRESH
    removed = {"invalidate": 1} if failures else {}
    assert world.moved(EVENTS) == {"miss": 1, "write": 1} | removed
    assert world.moved(FAILURES) == failures
    assert freshness(await world.read()) == CACHED


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_is_none_with_a_source_out_of_order(world, services, store, name):
    """It does not stand in for a source that fails either."""
    put, failures = VALUES[name]
    await put(store, cache_key(world.case))
    services["order"].fail_with(503)
    detail = await world.read()
    assert freshness(detail) == FRESH | {"order": ("unavailable", "status 503")}
    assert sorted(shown(detail)) == ["PAY-1", "SHP-1"]
    assert world.moved(FAILURES) == failures | {"http": 2}


async def test_a_claim_that_nobody_ends(world, store, instruments):
    """What holds a claim's key without an end, or is no claim at all, is not waited for."""
    wanted = references.references_by_service([CONTEXT])
    cache = SnapshotCache(world.client.app[CACHE], instruments)
    claim = await cache.claim(Case(world.case["id"], wanted, 0), 1)
    for put in (store.set(claim.key, b"for ever"), store.set(claim.key, b"x", ex=900), store.rpush(claim.key, b"x")):
        await store.delete(cache_key(world.case), claim.key)
        await put
        assert freshness(await world.read()) == FRESH
        assert world.moved(EVENTS) == {"miss": 1, "write": 1}
        assert freshness(await world.read()) == CACHED


async def test_an_enormous_value_hurts_for_a_moment_only(world, store):
    """A value that takes longer to arrive than a read waits is removed, and the case is cached again."""
    await store.setrange(cache_key(world.case), 32 * MEBIBYTE, b"\0")
    world.set_redis_timeout(0.001)  # 32 MiB never arrive in a millisecond
    assert freshness(await world.read()) == FRESH
    world.set_redis_timeout(PATIENCE)
    await cached_again(world)
    assert await store.strlen(cache_key(world.case)) < MEBIBYTE


async def test_a_refresh_with_a_redis_out_of_order(world, services, redis):
    """A refresh asks every source though neither the old value can be read nor the new one kept."""
    await world.read()
    redis.kill()
    assert freshness(await refresh(world.client, world.case)) == FRESH
    await heals(world, redis)


async def test_a_redis_that_can_not_forget(world, services, redis):
    """What was cached of other references is never shown, though Redis refuses to remove it, and a source fails."""
    await world.read()
    add_order(services, 2)
    redis_faults.make_read_only(redis)
    context = [{"type": "order", "orderId": "ORD-2"}]
    async with world.client.patch(f"/support/cases/{world.case['id']}", json={"context": context}) as response:
        assert response.status == 200
    services["payment"].fail_with(503)
    detail = await world.read()
    assert freshness(detail) == FRESH | {"payment": ("unavailable", "status 503")}
    assert sorted(shown(detail)) == ["ORD-2", "SHP-2", "e0"]
