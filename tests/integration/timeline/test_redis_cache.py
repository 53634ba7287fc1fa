"""Reads succeed during any fault of Redis, and metrics count what happened."""

import pytest

from support_service.core.domain.references import SourceReferences
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.snapshots import Snapshot, cache_key
from tests.support.calls import eventually, open_case, read_detail, refresh
from tests.support.scrape import Scrape

EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def environment(environment, redis):
    """A service with Redis and a generous Redis timeout."""
    return environment | {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_REDIS_TIMEOUT": "60"}


@pytest.fixture
def upstream_services(orders, environment):
    """Configure the order service only."""
    orders.add("ORD-1")
    environment["SUPPORT_ORDER_URL"] = orders.url


@pytest.fixture
async def case(client):
    """A case about the order."""
    return await open_case(client, context={"type": "order", "orderId": "ORD-1"})


async def order_status(client, case):
    """Return the status of the order source; fail unless the order is in the timeline."""
    detail = await read_detail(client, case)
    assert "order-service" in {entry.get("source") for entry in detail["timeline"]}
    return detail["timelineSources"]["order"]["status"]


async def test_replicas_share_the_cache(client, make_client, upstream_services, case, orders):
    """A timeline that one replica collected is served from the cache by another."""
    other = await make_client()
    assert await order_status(client, case) == "fresh"
    assert await order_status(other, case) == "cached"
    assert orders.count("/orders/ORD-1") == 1


async def test_cached_value_expires_after_ttl_and_stale_ttl(client, case, store):
    """Redis deletes the snapshots once they can't be served even as stale: after 300 s and 3600 s more."""
    await order_status(client, case)
    assert 0 < await store.pttl(cache_key(case["id"])) <= 3_900_000


async def test_reads_succeed_when_redis_is_down(client, case, metrics, redis):
    """A read is a miss and succeeds; each failed operation counts one error and one cache failure."""
    redis.kill()
    assert await order_status(client, case) == "fresh"
    assert metrics.nonzero(EVENTS) == {"miss": 1, "error": 2}  # the read and the write
    assert metrics.nonzero(FAILURES) == {"cache": 2}
    assert (await refresh(client, case))["timelineSources"]["order"]["status"] == "fresh"
    assert metrics.nonzero(EVENTS) == {"miss": 1, "error": 4}  # the read of stale snapshots, and the write


async def test_redis_is_used_again_after_a_restart(client, case, metrics, redis):
    redis.kill()
    await order_status(client, case)
    redis.start()

    async def is_cached():
        return await order_status(client, case) == "cached"

    await eventually(is_cached)
    assert metrics.value(EVENTS, event="hit") == 1


async def test_frozen_redis_does_not_block_a_read(client, make_client, case, redis):
    """A Redis that accepts connections and never answers times out; the timeline is complete."""
    impatient = await make_client(SUPPORT_REDIS_TIMEOUT="0.2")
    await order_status(client, case)
    redis.freeze()
    try:
        assert await order_status(impatient, case) == "fresh"
    finally:
        redis.thaw()
    assert Scrape(impatient.app).value(EVENTS, event="error") == 2  # the read, and the write that was skipped


async def test_context_can_be_changed_when_redis_is_down(client, case, metrics, redis):
    """The change succeeds although the cache can't be invalidated; the failure is counted."""
    redis.kill()
    async with client.patch(f"/support/cases/{case['id']}", json={"context": []}) as response:
        assert response.status == 200
    assert metrics.nonzero(FAILURES) == {"cache": 1}


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
async def test_corrupt_cached_value_is_a_miss_and_is_replaced(client, case, metrics, store, value):
    """A value that can't be decoded counts cache_decode and a miss, and is replaced."""
    await store.set(cache_key(case["id"]), value)
    assert await order_status(client, case) == "fresh"
    assert metrics.nonzero(FAILURES) == {"cache_decode": 1}
    assert metrics.value(EVENTS, event="miss") == 1
    assert metrics.value(EVENTS, event="invalidate") == 1
    assert await order_status(client, case) == "cached"


async def test_corrupt_cached_value_is_removed_even_if_the_source_fails(client, case, store, orders):
    await store.set(cache_key(case["id"]), b"not JSON")
    orders.fail_with(503)
    await read_detail(client, case)
    assert await store.get(cache_key(case["id"])) is None


async def test_cached_value_of_another_release_is_a_miss_without_failure(client, case, metrics, store):
    """During a rolling update a value of another version is a miss, and no failure."""
    await store.set(cache_key(case["id"]), b'{"version": 0}')
    assert await order_status(client, case) == "fresh"
    assert metrics.nonzero(FAILURES) == {}
    assert metrics.value(EVENTS, event="miss") == 1


async def test_cache_key_of_another_redis_type_is_a_miss(client, case, metrics, store):
    """A key that holds no string is a miss, and is replaced."""
    await store.rpush(cache_key(case["id"]), b"x")
    assert await order_status(client, case) == "fresh"
    assert metrics.value(EVENTS, event="miss") == 1
    assert await order_status(client, case) == "cached"
