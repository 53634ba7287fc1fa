"""The timeline through the cache, and the metrics that tell of it: one app, real upstreams, real cache."""

import pytest

from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.component import TIMELINE, TimelineTimings
from tests.support.calls import add_message, open_case, read_detail, read_timeline, refresh
from tests.support.scrape import Scrape
from tests.support.timings import patient_timings

CONTEXT = [{"type": "order", "orderId": "ORD-1"}]
EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"
COLLECTED = "support_timeline_collect_seconds_count"
READS = "support_timeline_read_seconds_count"
CALLS = "support_timeline_source_seconds_count"

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def known(orders, payments, shipments):
    """All three services know one order."""
    orders.add("ORD-1", "order.created", "order.paid")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")


@pytest.fixture
async def case(client, known):
    """A case about that order."""
    return await open_case(client, context=CONTEXT)


def statuses(detail):
    """What each service's part of a detail is worth."""
    return {service: source["status"] for service, source in detail["timelineSources"].items()}


async def test_a_first_read_is_a_miss_that_asks_and_writes(client, case, metrics):
    """A timeline that nobody has read is one miss, one write and one remote collection."""
    detail = await read_detail(client, case)
    assert set(statuses(detail).values()) == {"fresh"}
    assert metrics.moved(EVENTS) == {"miss": 1, "write": 1}
    assert metrics.moved(COLLECTED) == {"remote": 1}
    assert metrics.moved(READS) == {"complete": 1}
    assert metrics.moved(FAILURES) == {}


async def test_a_second_read_is_a_hit_and_asks_nobody(client, case, metrics, orders, payments, shipments):
    """A cached timeline is one hit and one cache collection, says its age, and asks no service."""
    first = await read_detail(client, case)
    calls = len(orders.calls + payments.calls + shipments.calls)
    second = await read_detail(client, case)
    assert second["timeline"] == first["timeline"]
    assert set(statuses(second).values()) == {"cached"}
    assert all(source["ageSeconds"] >= 0 for source in second["timelineSources"].values())
    assert len(orders.calls + payments.calls + shipments.calls) == calls == 4
    assert metrics.moved(EVENTS) == {"miss": 1, "write": 1, "hit": 1}
    assert metrics.moved(COLLECTED) == {"remote": 1, "cache": 1}


async def test_a_message_does_not_throw_away_the_cached_timeline(client, case, metrics, orders):
    """A message is in the next timeline, and that timeline still comes from the cache."""
    await read_timeline(client, case)
    await add_message(client, case, "Any news?")
    timeline = await read_timeline(client, case)
    assert [entry["message"] for entry in timeline if entry["type"] == "conversation"] == ["Any news?"]
    assert metrics.value(EVENTS, event="hit") == 1
    assert orders.count("/orders/ORD-1") == 1


async def test_a_refresh_asks_again(client, case, metrics, orders):
    """A refresh is an invalidation and a write, no hit and no miss, and shows what changed meanwhile."""
    await read_timeline(client, case)
    orders.add("ORD-1", status="delivered")
    detail = await refresh(client, case)
    assert [entry["status"] for entry in detail["timeline"] if entry.get("source") == "order-service"] == ["delivered"]
    assert set(statuses(detail).values()) == {"fresh"}
    assert metrics.moved(EVENTS) == {"miss": 1, "write": 2, "invalidate": 1}
    assert metrics.moved(COLLECTED) == {"remote": 2}


async def test_a_change_of_context_invalidates(client, case, metrics, orders):
    """A case that refers to another order gets that order's timeline, never the cached one."""
    await read_timeline(client, case)
    orders.add("ORD-2", status="new")
    context = [{"type": "order", "orderId": "ORD-2"}]
    async with client.patch(f"/support/cases/{case['id']}", json={"context": context}) as response:
        assert response.status == 200
    timeline = await read_timeline(client, case)
    assert [entry["orderId"] for entry in timeline if entry.get("source") == "order-service"] == ["ORD-2"]
    assert metrics.value(EVENTS, event="invalidate") == 1
    assert metrics.value(EVENTS, event="miss") == 2


async def test_a_change_of_anything_else_keeps_the_cache(client, case, metrics):
    """A new subject or status says nothing about the services: the cached timeline stays."""
    await read_timeline(client, case)
    async with client.patch(f"/support/cases/{case['id']}", json={"subject": "B", "status": "pending"}) as response:
        assert response.status == 200
    assert set(statuses(await read_detail(client, case)).values()) == {"cached"}
    assert metrics.value(EVENTS, event="invalidate") == 0


async def test_one_dead_source_costs_its_own_entries_only(client, case, metrics, payments):
    """A service that fails is unavailable with a reason, counts one http failure, and the others are complete."""
    payments.fail_with(503)
    detail = await read_detail(client, case)
    assert {entry["type"] for entry in detail["timeline"]} == {"order", "order-event", "shipment"}
    assert statuses(detail) == {"order": "fresh", "payment": "unavailable", "fulfillment": "fresh"}
    assert metrics.moved(READS) == {"partial": 1}
    assert detail["timelineSources"]["payment"]["reason"] == "status 503"
    assert metrics.moved(FAILURES) == {"http": 1}
    assert metrics.value("support_timeline_source_seconds_count", service="payment", outcome="error") == 1


async def test_a_failure_is_never_cached_as_nothing(client, case, metrics, orders, payments):
    """The read after a failure asks the service that failed, and no other."""
    payments.fail_with(500)
    await read_detail(client, case)
    payments.heal()
    detail = await read_detail(client, case)
    assert [entry["paymentId"] for entry in detail["timeline"] if entry["type"] == "payment"] == ["PAY-1"]
    assert statuses(detail) == {"order": "cached", "payment": "fresh", "fulfillment": "cached"}
    assert orders.count("/orders/ORD-1") == 1
    assert metrics.value(EVENTS, event="miss") == 2
    assert statuses(await read_detail(client, case))["payment"] == "cached"


@pytest.mark.parametrize(
    ("disturb", "stage", "outcome", "calls"),
    [
        (lambda service: service.fail_with(500), "http", "error", 1),
        (lambda service: service.fail_with(302, Location="/elsewhere"), "http", "error", 1),
        (lambda service: service.drop(), "http", "error", 2),  # asked again, as no answer had begun
        (lambda service: service.break_off(), "http", "error", 1),
        (lambda service: service.say("<html>no JSON</html>"), "aggregate", "invalid", 1),
        (lambda service: service.say(b"\xff\xfe"), "aggregate", "invalid", 1),
        (lambda service: service.say("[" * 10_000), "aggregate", "invalid", 1),
        (lambda service: service.answer_with([1, 2]), "aggregate", "invalid", 1),
        (lambda service: service.answer_with({"items": {"id": 1}}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with({"items": ["text"]}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with({"items": [{"status": "no id"}]}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with(None), "aggregate", "invalid", 1),
    ],
)
async def test_failures_are_counted_by_their_stage(client, case, metrics, shipments, disturb, stage, outcome, calls):
    """No usable answer counts as http, an answer off the contract as aggregate; neither costs the others."""
    disturb(shipments)
    detail = await read_detail(client, case)
    assert statuses(detail) == {"order": "fresh", "payment": "fresh", "fulfillment": "unavailable"}
    assert "shipment" not in {entry["type"] for entry in detail["timeline"]}
    assert metrics.moved(FAILURES) == {stage: 1}
    assert metrics.value(CALLS, service="fulfillment", outcome=outcome) == len(shipments.calls) == calls


async def test_a_source_that_hangs_is_given_up(make_client, known, shipments):
    """A service that does not answer in time is unavailable, and counts as a timeout."""
    client = await make_client(SUPPORT_TIMELINE_SOURCE_TIMEOUT="0.2")
    for name in ("order", "payment"):  # which are late only where the machine stands still
        client.app[TIMELINE].sources[name].timeout = 60.0
    case = await open_case(client, context=CONTEXT)
    release = shipments.hang()
    detail = await read_detail(client, case)
    release.set()
    assert detail["timelineSources"]["fulfillment"]["status"] == "unavailable"
    assert detail["timelineSources"]["fulfillment"]["reason"] == "timeout"
    metrics = Scrape(client.app)
    assert metrics.moved(FAILURES) == {"http": 1}
    assert metrics.value("support_timeline_source_seconds_count", service="fulfillment", outcome="timeout") == 1


@pytest.mark.parametrize(("not_found_ttl", "afterwards"), [(3600.0, "cached"), (0.0, "unavailable")])
async def test_nothing_there_some_time_ago_is_no_answer(make_client, known, orders, not_found_ttl, afterwards):
    """That a service knew nothing is believed for a short time; where it fails after that it is unavailable."""
    of_aggregator = AggregatorTimings(not_found_ttl=not_found_ttl)
    client = await make_client(timings=patient_timings(timeline=TimelineTimings(aggregator=of_aggregator)))
    case = await open_case(client, context=CONTEXT)
    orders.fail_with(404)
    await refresh(client, case)
    orders.fail_with(503)
    assert statuses(await read_detail(client, case))["order"] == afterwards
