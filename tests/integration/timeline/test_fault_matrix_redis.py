"""What a read returns, reports and counts for each fault of Redis, with healthy and with failing sources."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from support_service.core.domain import references
from support_service.platform.telemetry.stores import REDIS_OPERATIONS
from support_service.service import REDIS_TIMEOUT
from support_service.timeline.snapshots import SnapshotCache, SnapshotSubject
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json, read_detail, refresh
from tests.support.servers import RedisServer
from tests.support.service import service_of
from tests.support.timeline import redis_faults
from tests.support.timeline.harness import (
    ALL_ENTRIES,
    CACHED,
    COLLECTIONS,
    CONTEXT,
    EVENTS,
    FAILURES,
    FRESH,
    OPERATIONS,
    SHORT_TIMEOUT,
    STALE_TTL,
    TTL,
    TimelineHarness,
    add_order,
    age_snapshots,
    all_but,
    cache_key,
    source_entries,
    source_freshness,
    start_service,
)
from tests.support.timeline.redis_faults import RedisFault, slow_proxy
from tests.support.upstream_faults import MEBIBYTE


@dataclass(frozen=True)
class RedisFaultCase:
    """A fault of the Redis server, and what a read counts during it."""

    name: str
    fault: RedisFault
    events: dict[str, int]
    failures: dict[str, int]
    readable: bool  # cached snapshots can still be read; otherwise Redis is skipped until it recovers


COUNTED = {"miss": 1, "error": 2}, {"cache": 2}
ROWS = [
    RedisFaultCase("refusing", redis_faults.kill, *COUNTED, readable=False),
    RedisFaultCase("frozen", redis_faults.freeze, *COUNTED, readable=False),
    RedisFaultCase("full", redis_faults.fill, *COUNTED, readable=True),
    RedisFaultCase("read-only", redis_faults.make_read_only, *COUNTED, readable=True),
]
each_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def cached_value(*, at: str = "1.0", entries: str = "[]") -> str:
    rest = f'"epoch":0,"note":null,"missing":false,"entries":{entries}'
    return f'{{"revision":"0f","version":2,"sources":{{"order":{{"at":{at},"ids":["ORD-1"],"ofOrders":[],{rest}}}}}}}'


def stored_as(value):
    return lambda store, key: store.set(key, value)


NOT_DECODED = {"cache_decode": 1}
VALUES: dict[str, tuple[Callable[[Redis, str], object], dict[str, int]]] = {
    "a list": (lambda store, key: store.rpush(key, b"x"), {}),
    "a hash": (lambda store, key: store.hset(key, "a", "b"), {}),
    "a stream": (lambda store, key: store.xadd(key, {"a": "b"}), {}),
    "an empty value": (stored_as(b""), NOT_DECODED),
    "not JSON": (stored_as(b"\x80\x04N."), NOT_DECODED),
    "a truncated value": (stored_as(b'{"revision":"0f","version":2,"sou'), NOT_DECODED),
    "JSON of another shape": (stored_as(b'{"revision":"0f","version":2,"sources":[]}'), NOT_DECODED),
    "nested too deep": (stored_as(b"[" * 10_000), NOT_DECODED),
    "4 MiB of zeros": (stored_as(bytes(4 * MEBIBYTE)), NOT_DECODED),
    "NaN for a timestamp": (stored_as(cached_value(at="NaN")), {}),
    "a timestamp far in the future": (stored_as(cached_value(at="1e300")), {}),
    "an invalid entry": (stored_as(cached_value(entries="[null]")), NOT_DECODED),
    "an earlier version": (stored_as(b'{"version": 1, "sources": {}}'), {}),
    "a later version": (stored_as(b'{"revision":"0f","version":3,"parts":{}}'), {}),
    "two revisions": (stored_as(b'{"revision":"0F","version":2,"sources":{},"revision":"1e"}'), {}),
}


def inject_fault(harness: TimelineHarness, redis: RedisServer, row: RedisFaultCase) -> None:
    """Break Redis; use a short timeout for a Redis that does not answer."""
    if row.fault is redis_faults.freeze:
        harness.set_redis_timeout(SHORT_TIMEOUT)
    row.fault(redis)


async def repair_and_wait(harness: TimelineHarness, redis: RedisServer) -> None:
    """Repair Redis, and wait until the service uses it again."""
    redis_faults.repair(redis)
    harness.set_redis_timeout(GENEROUS_TIMEOUT)
    await wait_until_cached(harness)
    assert harness.metric_changes(EVENTS) == {"hit": 1}


async def wait_until_cached(harness: TimelineHarness) -> None:
    async def is_cached() -> bool:
        return source_freshness(await harness.read()) == CACHED

    await eventually(is_cached, within=3 * GENEROUS_TIMEOUT)


@each_row
@pytest.mark.parametrize("age", [None, 0, TTL + 60], ids=["no snapshot", "current", "stale"])
async def test_timeline_is_complete_when_redis_fails(harness, redis, store, row, age):
    """Failed operations are counted, and the service recovers by itself. A snapshot that Redis returns is used.

    A stale one is refreshed, although the new one can't be stored.
    """
    if age is not None:
        await harness.read()
    if age:
        await age_snapshots(store, harness.case, age)
    inject_fault(harness, redis, row)
    is_cached = age == 0 and row.readable
    for _ in range(2 if age is None else 1):
        detail = await harness.read()
        assert sorted(source_entries(detail)) == ALL_ENTRIES
        assert source_freshness(detail) == (CACHED if is_cached else FRESH)
        assert harness.metric_changes(EVENTS) == ({"hit": 1} if is_cached else row.events)
        assert harness.metric_changes(FAILURES) == ({} if is_cached else row.failures)
        assert harness.metric_changes(COLLECTIONS) == {"cache" if is_cached else "remote": 1}
    await repair_and_wait(harness, redis)


@each_row
async def test_timeline_is_partial_when_redis_and_a_source_fail(harness, services, redis, store, row):
    """The failed source is stale if Redis can return its snapshot, and otherwise unavailable; both recover."""
    await harness.read()
    await age_snapshots(store, harness.case, TTL + 60)
    inject_fault(harness, redis, row)
    services["payment"].fail_with(503)
    detail = await harness.read()
    status = "stale" if row.readable else "unavailable"
    assert source_freshness(detail) == FRESH | {"payment": (status, "status 503")}
    assert sorted(source_entries(detail)) == [name for name in ALL_ENTRIES if row.readable or name != "PAY-1"]
    assert harness.metric_changes(EVENTS) == row.events
    assert harness.metric_changes(FAILURES) == row.failures | {"http": 1}
    services["payment"].heal()
    assert source_freshness(await harness.read()) == FRESH
    await repair_and_wait(harness, redis)


@each_row
async def test_case_history_is_served_when_redis_and_all_sources_fail(harness, services, redis, row):
    """The case's own history is returned in time, and each source is reported as unavailable."""
    inject_fault(harness, redis, row)
    for service in services.values():
        await service.close()
    detail = await harness.read()
    assert [entry["type"] for entry in detail["timeline"]] == ["order", "case-event"]  # context and opening
    assert set(source_freshness(detail).values()) == {("unavailable", "connection failed")}
    assert harness.metric_changes(EVENTS)["miss"] == 1
    assert harness.metric_changes(FAILURES)["cache"] == 1  # the lease if Redis is readable; there is nothing to write
    for service in services.values():
        await service.open()
    await repair_and_wait(harness, redis)


@pytest.mark.parametrize("row", ROWS[:2], ids=["refusing", "frozen"])
async def test_reads_skip_redis_after_a_failure_until_it_answers_a_ping(harness, services, redis, row):
    """One read waits for one operation; later reads send no command until Redis answers the service's ping."""
    inject_fault(harness, redis, row)
    await harness.read()
    assert _redis_operations(harness) == 1
    for _ in range(10):
        assert source_freshness(await harness.read()) == FRESH
        assert _redis_operations(harness) == 0
    await repair_and_wait(harness, redis)


def test_default_redis_timeout_is_at_most_50_ms():
    """The read that detects a Redis failure waits at most 50 ms."""
    assert REDIS_TIMEOUT <= 0.05


def _redis_operations(harness):
    counts = harness.metric_changes(OPERATIONS, db_system_name="redis")
    return sum(counts.get(name, 0) for name in REDIS_OPERATIONS)  # the read makes no operations for events


async def test_slow_redis_delays_one_read_only(make_shared_client, services, redis):
    """A Redis that answers after its timeout delays one read, and no read after it."""
    async with slow_proxy(redis.url) as (proxy, url):
        harness = await TimelineHarness.start(make_shared_client, services, CONTEXT, SUPPORT_REDIS_URL=url)
        assert source_freshness(await harness.read()) == FRESH
        assert source_freshness(await harness.read()) == CACHED
        harness.set_redis_timeout(SHORT_TIMEOUT)
        proxy.delay = 3 * SHORT_TIMEOUT  # in each direction; a busy event loop takes a little late for in time
        assert source_freshness(await harness.read()) == FRESH
        assert harness.metric_changes(EVENTS) == {"miss": 1, "error": 2}
        assert harness.metric_changes(FAILURES) == {"cache": 2}
        enough = proxy.chunks + 8  # chunks of reconnection attempts, whose answers are late too
        async with asyncio.timeout(3 * GENEROUS_TIMEOUT):
            while proxy.chunks < enough:
                assert source_freshness(await harness.read()) == FRESH
                assert _redis_operations(harness) == 0
        proxy.delay = 0.0
        await repair_and_wait(harness, redis)


@pytest.mark.parametrize("name", VALUES)
async def test_invalid_cached_value_is_a_miss_and_is_replaced(harness, services, store, name):
    """Any invalid value under a case's key is a miss, is counted if it is not decodable, and is replaced.

    It is not served for a source that fails.
    """
    store_value, failures = VALUES[name]
    await store_value(store, cache_key(harness.case))
    services["order"].fail_with(503)
    detail = await harness.read()
    assert source_freshness(detail) == FRESH | {"order": ("unavailable", "status 503")}
    assert sorted(source_entries(detail)) == all_but("ORD-1", "e0")
    removed = {"invalidate": 1} if failures else {}
    assert harness.metric_changes(EVENTS) == {"miss": 1, "write": 1} | removed
    assert harness.metric_changes(FAILURES) == failures | {"http": 2}
    services["order"].heal()
    assert sorted(source_entries(await harness.read())) == ALL_ENTRIES
    assert source_freshness(await harness.read()) == CACHED


async def test_lease_key_without_a_valid_lease_is_not_waited_for(harness, store, instruments):
    """A lease key that never expires, expires late, or holds no lease delays no read."""
    wanted = references.references_by_service([CONTEXT])
    cache = SnapshotCache(service_of(harness.client).cache, instruments)
    lease = await cache.acquire_lease(SnapshotSubject(harness.case["id"], wanted, 0), 1)
    for put in (store.set(lease.key, b"for ever"), store.set(lease.key, b"x", ex=900), store.rpush(lease.key, b"x")):
        await store.delete(cache_key(harness.case), lease.key)
        await put
        assert source_freshness(await harness.read()) == FRESH
        assert harness.metric_changes(EVENTS) == {"miss": 1, "write": 1}
        assert source_freshness(await harness.read()) == CACHED


async def test_oversized_cached_value_is_removed(harness, store):
    """A value that takes longer to arrive than a read waits is removed, and the case is cached again.

    Redis deletes the snapshots once they can't be served even as stale.
    """
    await store.setrange(cache_key(harness.case), 32 * MEBIBYTE, b"\0")
    harness.set_redis_timeout(0.001)  # 32 MiB never arrive in a millisecond
    assert source_freshness(await harness.read()) == FRESH
    harness.set_redis_timeout(GENEROUS_TIMEOUT)
    await wait_until_cached(harness)
    assert await store.strlen(cache_key(harness.case)) < MEBIBYTE
    assert 0 < await store.pttl(cache_key(harness.case)) <= 1000 * (TTL + STALE_TTL)


async def test_replicas_share_the_cache(make_shared_client, services, redis):
    """A timeline that one replica collected is served from the cache by another one with its database."""
    harness = await TimelineHarness.start(make_shared_client, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)
    url = service_of(harness.client).settings.database.url
    same = {"SUPPORT_DATABASE_URL": url, "SUPPORT_REDIS_URL": redis.url}
    other = await start_service(make_shared_client, services, **same)
    assert source_freshness(await harness.read()) == FRESH
    assert source_freshness(await read_detail(other, harness.case)) == CACHED


async def test_refresh_works_without_redis(harness, services, redis):
    """A refresh calls every source although it can neither read the old snapshots nor store the new ones."""
    await harness.read()
    redis.kill()
    assert source_freshness(await refresh(harness.client, harness.case)) == FRESH
    assert harness.metric_changes(EVENTS) == {"miss": 1, "write": 1, "error": 2}  # the read and the failed refresh
    await repair_and_wait(harness, redis)


async def test_snapshots_of_a_former_context_are_never_shown(harness, services, redis):
    """Snapshots of former references are not shown, even if Redis refuses to delete them and a source fails."""
    await harness.read()
    add_order(services, 2)
    redis_faults.make_read_only(redis)
    context = [{"type": "order", "orderId": "ORD-2"}]
    await expect_json(harness.client.patch(f"/support/cases/{harness.case['id']}", json={"context": context}))
    services["payment"].fail_with(503)
    detail = await harness.read()
    assert source_freshness(detail) == FRESH | {"payment": ("unavailable", "status 503")}
    assert sorted(source_entries(detail)) == all_but("PAY-2", number=2)
