"""Timeline reads through the cache, with their metrics: one app, fake upstream services over TCP, and a real cache."""

import pytest

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.settings.resources import TimelineSettings
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.opening import TimelineTimings
from tests.support.calls import add_message, open_case, read_detail, read_timeline, refresh
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import patient_timings

CONTEXT = [{"type": "order", "orderId": "ORD-1"}]
OF_ANOTHER_ORDER = {"items": [{"id": "SHP-9", "orderId": "ORD-9", "trackingNumber": "VN9"}]}
EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"
COLLECTED = "support_timeline_collect_seconds_count"
READS = "support_timeline_read_seconds_count"
CALLS = "support_timeline_source_seconds_count"

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def order_in_all_sources(orders, payments, shipments):
    """Add one order, with a payment and a shipment, to the upstream services."""
    orders.add("ORD-1", "order.created", "order.paid")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")


@pytest.fixture
async def case(client, order_in_all_sources):
    """A case about that order."""
    return await open_case(client, context=CONTEXT)


def statuses(detail):
    """Return the status of each source in a case."""
    return {service: source["status"] for service, source in detail["timelineSources"].items()}


async def test_first_read_misses_the_cache_and_stores_the_timeline(client, case, metrics):
    """The first read counts one miss, one write and one remote collection."""
    detail = await read_detail(client, case)
    assert set(statuses(detail).values()) == {"fresh"}
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 1}
    assert metrics.nonzero(COLLECTED) == {"remote": 1}
    assert metrics.nonzero(READS) == {"complete": 1}
    assert metrics.nonzero(FAILURES) == {}


async def test_second_read_is_served_from_the_cache(client, case, metrics, orders, payments, shipments):
    """A cached timeline counts one hit and one cache collection, reports its age, and calls no source."""
    first = await read_detail(client, case)
    calls = len(orders.calls + payments.calls + shipments.calls)
    second = await read_detail(client, case)
    assert second["timeline"] == first["timeline"]
    assert set(statuses(second).values()) == {"cached"}
    assert all(source["ageSeconds"] >= 0 for source in second["timelineSources"].values())
    assert len(orders.calls + payments.calls + shipments.calls) == calls == 4
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 1, "hit": 1}
    assert metrics.nonzero(COLLECTED) == {"remote": 1, "cache": 1}


async def test_new_message_appears_in_the_cached_timeline(client, case, metrics, orders):
    """A new message appears in the next timeline, whose snapshots still come from the cache."""
    await read_timeline(client, case)
    await add_message(client, case, "Any news?")
    timeline = await read_timeline(client, case)
    assert [entry["message"] for entry in timeline if entry["type"] == "conversation"] == ["Any news?"]
    assert metrics.value(EVENTS, event="hit") == 1
    assert orders.count("/orders/ORD-1") == 1


async def test_refresh_replaces_the_cached_timeline(client, case, metrics, orders):
    """A refresh counts one invalidation and one write, no hit and no miss, and returns changed data."""
    await read_timeline(client, case)
    orders.add("ORD-1", status="delivered")
    detail = await refresh(client, case)
    assert [entry["status"] for entry in detail["timeline"] if entry.get("source") == "order-service"] == ["delivered"]
    assert set(statuses(detail).values()) == {"fresh"}
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 2, "invalidate": 1}
    assert metrics.nonzero(COLLECTED) == {"remote": 2}


async def test_failed_refresh_says_why_beside_what_is_cached(client, case, payments):
    """The reader has asked for something newer, and learns that it did not come."""
    await read_detail(client, case)
    payments.fail_with(503)
    detail = await refresh(client, case)
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "fresh") | {"payment": "stale"}
    assert detail["timelineSources"]["payment"]["reason"] == "status 503"
    assert "payment" in {entry["type"] for entry in detail["timeline"]}


async def test_change_of_context_invalidates_the_cached_timeline(client, case, metrics, orders):
    """A case whose context names another order gets the timeline of that order, not the cached one."""
    await read_timeline(client, case)
    orders.add("ORD-2", status="new")
    context = [{"type": "order", "orderId": "ORD-2"}]
    async with client.patch(f"/support/cases/{case['id']}", json={"context": context}) as response:
        assert response.status == 200
    timeline = await read_timeline(client, case)
    assert [entry["orderId"] for entry in timeline if entry.get("source") == "order-service"] == ["ORD-2"]
    assert metrics.value(EVENTS, event="invalidate") == 1
    assert metrics.value(EVENTS, event="miss") == 2


async def test_read_of_an_original_keeps_what_is_cached_of_its_duplicate(client, case, payments):
    """Services that are asked for the original only stay cached for the duplicate, while another is asked for it."""
    payments.add("PAY-2", "ORD-2")
    duplicate = await open_case(client, context=[*CONTEXT, {"type": "payment", "paymentId": "PAY-2"}])
    await read_detail(client, duplicate)
    async with client.post(f"/support/cases/{duplicate['id']}/merge", json={"into": case["id"]}) as response:
        assert response.status == 200
    await refresh(client, case)
    assert set(statuses(await read_detail(client, duplicate)).values()) == {"cached"}


async def test_other_changes_keep_the_cached_timeline(client, case, metrics):
    """A new subject or status does not change the references, so the cached timeline is kept."""
    await read_timeline(client, case)
    async with client.patch(f"/support/cases/{case['id']}", json={"subject": "B", "status": "pending"}) as response:
        assert response.status == 200
    assert set(statuses(await read_detail(client, case)).values()) == {"cached"}
    assert metrics.value(EVENTS, event="invalidate") == 0


async def test_timeline_is_partial_when_payment_service_is_down(client, case, metrics, payments):
    """A failing source is unavailable with a reason and counts one http failure; other sources are complete."""
    payments.fail_with(503)
    detail = await read_detail(client, case)
    assert {entry["type"] for entry in detail["timeline"]} == {"order", "order-event", "shipment", "case-event"}
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "fresh") | {"payment": "unavailable"}
    assert metrics.nonzero(READS) == {"partial": 1}
    assert detail["timelineSources"]["payment"]["reason"] == "status 503"
    assert metrics.nonzero(FAILURES) == {"http": 1}
    assert metrics.value("support_timeline_source_seconds_count", service="payment", outcome="error") == 1


async def test_failed_source_is_called_again_by_the_next_read(client, case, metrics, orders, payments):
    """A failure is not cached: the next read calls the failed source, and no other."""
    payments.fail_with(500)
    await read_detail(client, case)
    payments.heal()
    detail = await read_detail(client, case)
    assert [entry["paymentId"] for entry in detail["timeline"] if entry["type"] == "payment"] == ["PAY-1"]
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "cached") | {"payment": "fresh"}
    assert orders.count("/orders/ORD-1") == 1
    assert metrics.value(EVENTS, event="miss") == 2
    assert statuses(await read_detail(client, case))["payment"] == "cached"


@pytest.mark.parametrize(
    ("inject_fault", "stage", "outcome", "calls"),
    [
        (lambda service: service.fail_with(500), "http", "error", 1),
        (lambda service: service.fail_with(302, Location="/elsewhere"), "http", "error", 1),
        (lambda service: service.drop(), "http", "error", 2),  # one retry, since no response had started
        (lambda service: service.close_in_body(), "http", "error", 1),
        (lambda service: service.answer_with_bytes("<html>no JSON</html>"), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_bytes(b"\xff\xfe"), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_bytes("[" * 10_000), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document([1, 2]), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document({"items": {"id": 1}}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document({"items": ["text"]}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document({"items": [{"status": "no id"}]}), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document(None), "aggregate", "invalid", 1),
        (lambda service: service.answer_with_document(OF_ANOTHER_ORDER), "aggregate", "invalid", 1),
    ],
)
async def test_failures_are_counted_by_stage(client, case, metrics, shipments, inject_fault, stage, outcome, calls):
    """A missing answer counts as http, an invalid one as aggregate; the other sources are unaffected."""
    inject_fault(shipments)
    detail = await read_detail(client, case)
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "fresh") | {"fulfillment": "unavailable"}
    assert "shipment" not in {entry["type"] for entry in detail["timeline"]}
    assert metrics.nonzero(FAILURES) == {stage: 1}
    assert metrics.value(CALLS, service="fulfillment", outcome=outcome) == len(shipments.calls) == calls


async def test_source_that_hangs_is_unavailable_after_its_timeout(make_client, order_in_all_sources, shipments):
    """A source that does not answer in time is unavailable, and counts as a timeout."""
    client = await make_client(SUPPORT_TIMELINE_SOURCE_TIMEOUT="0.2")
    for name in ("order", "payment"):  # generous: these are late only if the machine stalls
        service_of(client).timeline.sources[name].timeout = 60.0
    case = await open_case(client, context=CONTEXT)
    release = shipments.hang()
    detail = await read_detail(client, case)
    release.set()
    assert detail["timelineSources"]["fulfillment"]["status"] == "unavailable"
    assert detail["timelineSources"]["fulfillment"]["reason"] == "timeout"
    metrics = Scrape(service_of(client).metrics)
    assert metrics.nonzero(FAILURES) == {"http": 1}
    assert metrics.value("support_timeline_source_seconds_count", service="fulfillment", outcome="timeout") == 1


async def test_hanging_source_costs_one_read_its_timeout_and_later_reads_nothing(make_client, orders):
    """At the default settings, the calls of one read open the circuit; a read then does not wait for the source."""
    defaults = TimelineSettings()
    client = await make_client(
        SUPPORT_TIMELINE_SOURCE_TIMEOUT=str(defaults.source_timeout), SUPPORT_TIMELINE_DEADLINE=str(defaults.deadline)
    )
    case = await open_case(client, context=[{"type": "order", "orderId": f"ORD-{number}"} for number in range(3)])
    orders.hang()  # for far longer than the deadline
    metrics = Scrape(service_of(client).metrics)
    assert (await read_detail(client, case))["timelineSources"]["order"]["reason"] == "timeout"
    calls = len(orders.calls)
    assert metrics.value("support_timeline_breaker", service="order", state="open") == 1
    detail = await read_detail(client, case)
    assert detail["timelineSources"]["order"]["reason"] == "circuit open"
    assert len(orders.calls) == calls
    assert metrics.value("support_timeline_source_seconds_sum", service="order", outcome="open") == 0


@pytest.mark.parametrize(("not_found_ttl", "afterwards"), [(3600.0, "cached"), (0.0, "unavailable")])
async def test_expired_not_found_answer_does_not_replace_a_failed_source(
    make_client, order_in_all_sources, orders, not_found_ttl, afterwards
):
    """A 404 counts for a short time only; if the source fails afterwards, it is unavailable."""
    aggregator = AggregatorTimings(not_found_ttl=not_found_ttl)
    client = await make_client(timings=patient_timings(timeline=TimelineTimings(aggregator=aggregator)))
    case = await open_case(client, context=CONTEXT)
    orders.fail_with(404)
    await refresh(client, case)
    orders.fail_with(503)
    assert statuses(await read_detail(client, case))["order"] == afterwards
