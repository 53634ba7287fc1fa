"""A read goes on whatever Redis does, and the metrics say what it did."""

import pytest

from support_service.core.references import SourceReferences
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.snapshots import Snapshot, cache_key
from tests.support.calls import eventually, open_case, read_detail, refresh
from tests.support.scrape import Scrape

EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def environment(environment, redis):
    """A service with Redis, which on a busy machine takes its time."""
    return environment | {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_REDIS_TIMEOUT": "60"}


@pytest.fixture
def upstream_services(orders, environment):
    """One upstream service is enough here."""
    orders.add("ORD-1")
    environment["SUPPORT_ORDER_URL"] = orders.url


@pytest.fixture
async def case(client):
    """A case about its order."""
    return await open_case(client, context={"type": "order", "orderId": "ORD-1"})


async def order_status(client, case):
    """What the order's part of the timeline is worth, having checked that the order is in it."""
    detail = await read_detail(client, case)
    assert "order-service" in {entry.get("source") for entry in detail["timeline"]}
    return detail["timelineSources"]["order"]["status"]


async def test_replicas_share_the_cache(client, make_client, upstream_services, case, orders):
    """What one process has collected, another serves from the cache."""
    other = await make_client()
    assert await order_status(client, case) == "fresh"
    assert await order_status(other, case) == "cached"
    assert orders.count("/orders/ORD-1") == 1


async def test_the_cached_value_ends_with_its_time(client, case, store):
    """Redis forgets a timeline once it may not even stand in for a failure, after 300 s and 3600 s more."""
    await order_status(client, case)
    assert 0 < await store.pttl(cache_key(case["id"])) <= 3_900_000


async def test_a_dead_redis_costs_nothing_but_the_cache(client, case, metrics, redis):
    """With Redis killed a read is a miss and goes on; each failed operation counts an error and a cache failure."""
    redis.kill()
    assert await order_status(client, case) == "fresh"
    assert metrics.moved(EVENTS) == {"miss": 1, "error": 2}  # the read and the write
    assert metrics.moved(FAILURES) == {"cache": 2}
    assert (await refresh(client, case))["timelineSources"]["order"]["status"] == "fresh"
    assert metrics.moved(EVENTS) == {"miss": 1, "error": 4}  # the look for what may stand in, and the write


async def test_a_redis_that_is_back_is_used_again(client, case, metrics, redis):
    """Once Redis is there again, timelines are cached again."""
    redis.kill()
    await order_status(client, case)
    redis.start()

    async def is_cached():
        return await order_status(client, case) == "cached"

    await eventually(is_cached)
    assert metrics.value(EVENTS, event="hit") == 1


async def test_a_frozen_redis_does_not_hold_a_read(client, make_client, case, redis):
    """A Redis that takes connections and never answers is given up; the timeline is complete."""
    hasty = await make_client(SUPPORT_REDIS_TIMEOUT="0.2")
    await order_status(client, case)
    redis.freeze()
    try:
        assert await order_status(hasty, case) == "fresh"
    finally:
        redis.thaw()
    assert Scrape(hasty.app).value(EVENTS, event="error") == 2  # the read, and the write that was not tried any more


async def test_a_change_of_context_survives_a_dead_redis(client, case, metrics, redis):
    """The change is made and answered though the cache can't be invalidated; the failure is counted."""
    redis.kill()
    async with client.patch(f"/support/cases/{case['id']}", json={"context": []}) as response:
        assert response.status == 200
    assert metrics.moved(FAILURES) == {"cache": 1}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"{}",
        b'{"version": 2}',
        b'{"version": 2, "sources": null}',
        b'{"version": 2, "sources": []}',
        b'{"version": 2, "sources": {"order": []}}',
        b'{"version": 2, "sources": {"order": {}}}',
        b'{"version": 2, "sources": {"order": {"at": null, "ids": ["ORD-1"], "ofOrders": [], "entries": []}}}',
        snapshots.encode({"order": Snapshot(9e9, SourceReferences(("ORD-1",)), 0, ["x"])}),
    ],
)
async def test_a_corrupt_value_is_a_miss_and_is_removed(client, case, metrics, store, value):
    """A cached value that can't be decoded counts cache_decode and a miss, and gives way to a good one."""
    await store.set(cache_key(case["id"]), value)
    assert await order_status(client, case) == "fresh"
    assert metrics.moved(FAILURES) == {"cache_decode": 1}
    assert metrics.value(EVENTS, event="miss") == 1
    assert metrics.value(EVENTS, event="invalidate") == 1
    assert await order_status(client, case) == "cached"


async def test_a_corrupt_value_is_removed_though_nothing_replaces_it(client, case, store, orders):
    """Where the service is dead too, the corrupt value is gone all the same."""
    await store.set(cache_key(case["id"]), b"not JSON")
    orders.fail_with(503)
    await read_detail(client, case)
    assert await store.get(cache_key(case["id"])) is None


async def test_a_value_of_another_release_is_a_miss_only(client, case, metrics, store):
    """A value of another version is no failure: during a rolling update each release asks anew."""
    await store.set(cache_key(case["id"]), b'{"version": 0}')
    assert await order_status(client, case) == "fresh"
    assert metrics.moved(FAILURES) == {}
    assert metrics.value(EVENTS, event="miss") == 1


async def test_a_key_of_another_type_is_a_miss(client, case, metrics, store):
    """A key that holds no string at all is a miss, and gives way to a good value."""
    await store.rpush(cache_key(case["id"]), b"x")
    assert await order_status(client, case) == "fresh"
    assert metrics.value(EVENTS, event="miss") == 1
    assert await order_status(client, case) == "cached"
