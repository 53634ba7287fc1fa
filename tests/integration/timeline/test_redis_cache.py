"""Replicas share the cached timelines of a case; a change succeeds without the cache."""

import pytest

from tests.support.calls import open_case, read_detail

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


async def test_context_can_be_changed_when_redis_is_down(client, case, metrics, redis):
    """The change succeeds although the cache can't be invalidated; the failure is counted."""
    redis.kill()
    async with client.patch(f"/support/cases/{case['id']}", json={"context": []}) as response:
        assert response.status == 200
    assert metrics.nonzero(FAILURES) == {"cache": 1}
