"""Timeline reads through the cache, with their metrics: one app, fake upstream services over TCP, and a real cache."""

import pytest
import pytest_asyncio

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.settings.resources import TimelineSettings
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timings import TimelineTimings
from tests.support.calls import add_message, expect_json, open_case, read_detail, read_timeline, refresh
from tests.support.each import each_row
from tests.support.scrape import Changes, Scrape
from tests.support.service import service_of
from tests.support.timeline.harness import CALLS, COLLECTIONS, CONTEXT, EVENTS, FAILURES, NUMBER_OF_CALLS, add_order
from tests.support.timings import patient_timings

FAULTS = [  # what the service does, the stage and the outcome that count, and how often it is called
    (lambda service: service.fail_with(500), "http", "error", 1),
    (lambda service: service.fail_with(302, Location="/elsewhere"), "http", "error", 1),
    (lambda service: service.drop(), "http", "error", 2),  # one retry, since no response had started
    (lambda service: service.close_in_body(), "http", "error", 1),
    *(
        (lambda service, sent=sent: service.answer_with_bytes(sent), "aggregate", "invalid", 1)
        for sent in ("<html>no JSON</html>", b"\xff\xfe", "[" * 10_000)
    ),
    *(
        (lambda service, sent=sent: service.answer_with_document(sent), "aggregate", "invalid", 1)
        for sent in (
            *([1, 2], {"items": {"id": 1}}, {"items": ["text"]}, {"items": [{"status": "no id"}]}, None),
            {"items": [{"id": "SHP-9", "orderId": "ORD-9", "trackingNumber": "VN9"}]},
        )
    ),
]
READS = "support_timeline_read_seconds_count"


@pytest.fixture
def order_in_all_sources(sources):
    """Add one order, with a payment and a shipment, to the upstream services."""
    add_order(sources)


@pytest_asyncio.fixture(loop_scope="module")
async def case(client, order_in_all_sources):
    return await open_case(client, context=CONTEXT)


def statuses(detail):
    """Return the status of each source in a case."""
    return {service: source["status"] for service, source in detail["timelineSources"].items()}


async def test_first_read_stores_the_timeline_and_the_second_is_served_from_the_cache(client, case, metrics, sources):
    """The first counts a miss, a write and a remote collection. The second counts a hit, and calls no source."""
    first = await read_detail(client, case)
    assert set(statuses(first).values()) == {"fresh"}
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 1}
    assert metrics.nonzero(COLLECTIONS) == {"remote": 1}
    assert (metrics.nonzero(READS), metrics.nonzero(FAILURES)) == ({"complete": 1}, {})
    second = await read_detail(client, case)
    assert second["timeline"] == first["timeline"]
    assert set(statuses(second).values()) == {"cached"}
    assert all(source["ageSeconds"] >= 0 for source in second["timelineSources"].values())
    assert sum(len(service.calls) for service in sources.values()) == NUMBER_OF_CALLS
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 1, "hit": 1}
    assert metrics.nonzero(COLLECTIONS) == {"remote": 1, "cache": 1}


async def test_changes_of_other_fields_and_messages_keep_the_cached_timeline(client, case, metrics, orders):
    """A new message appears in the next timeline, whose snapshots still come from the cache."""
    await read_timeline(client, case)
    await add_message(client, case, "Any news?")
    await expect_json(client.patch(f"/support/cases/{case['id']}", json={"subject": "B", "status": "pending"}))
    detail = await read_detail(client, case)
    assert [entry["message"] for entry in detail["timeline"] if entry["type"] == "conversation"] == ["Any news?"]
    assert set(statuses(detail).values()) == {"cached"}
    assert [metrics.value(EVENTS, event=event) for event in ("hit", "invalidate")] == [1, 0]
    assert orders.count("/orders/ORD-1") == 1


async def test_refresh_replaces_the_cached_timeline(client, case, metrics, orders):
    """A refresh counts one invalidation and one write, no hit and no miss, and returns changed data."""
    await read_timeline(client, case)
    orders.add("ORD-1", status="delivered")
    detail = await refresh(client, case)
    assert [entry["status"] for entry in detail["timeline"] if entry.get("source") == "order-service"] == ["delivered"]
    assert set(statuses(detail).values()) == {"fresh"}
    assert metrics.nonzero(EVENTS) == {"miss": 1, "write": 2, "invalidate": 1}
    assert metrics.nonzero(COLLECTIONS) == {"remote": 2}


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
    await expect_json(client.patch(f"/support/cases/{case['id']}", json={"context": context}))
    timeline = await read_timeline(client, case)
    assert [entry["orderId"] for entry in timeline if entry.get("source") == "order-service"] == ["ORD-2"]
    assert metrics.value(EVENTS, event="invalidate") == 1
    assert metrics.value(EVENTS, event="miss") == 2


async def test_read_of_an_original_keeps_what_is_cached_of_its_duplicate(client, case, payments):
    """Services that are asked for the original only stay cached for the duplicate, while another is asked for it."""
    payments.add("PAY-2", "ORD-2")
    duplicate = await open_case(client, context=[CONTEXT, {"type": "payment", "paymentId": "PAY-2"}])
    await read_detail(client, duplicate)
    await expect_json(client.post(f"/support/cases/{duplicate['id']}/merge", json={"into": case["id"]}))
    await refresh(client, case)
    assert set(statuses(await read_detail(client, duplicate)).values()) == {"cached"}


async def test_timeline_is_partial_when_payment_service_is_down(client, case, metrics, orders, payments):
    """A failing source is unavailable with a reason, and others are complete. The next read calls it, and no other."""
    payments.fail_with(503)
    detail = await read_detail(client, case)
    assert {entry["type"] for entry in detail["timeline"]} == {"order", "order-event", "shipment", "case-event"}
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "fresh") | {"payment": "unavailable"}
    assert detail["timelineSources"]["payment"]["reason"] == "status 503"
    assert (metrics.nonzero(READS), metrics.nonzero(FAILURES)) == ({"partial": 1}, {"http": 1})
    assert metrics.value(CALLS, service="payment", outcome="error") == 1
    payments.heal()
    detail = await read_detail(client, case)
    assert [entry["paymentId"] for entry in detail["timeline"] if entry["type"] == "payment"] == ["PAY-1"]
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "cached") | {"payment": "fresh"}
    assert orders.count("/orders/ORD-1") == 1
    assert metrics.value(EVENTS, event="miss") == 2
    assert statuses(await read_detail(client, case))["payment"] == "cached"


@each_row("inject_fault, stage, outcome, calls", FAULTS)
async def test_failures_are_counted_by_stage(
    client, order_in_all_sources, shipments, inject_fault, stage, outcome, calls
):
    """A missing answer counts as http, an invalid one as aggregate; the other sources are unaffected."""
    shipments.calls.clear()
    metrics, case = Changes(service_of(client).metrics), await open_case(client, context=CONTEXT)
    inject_fault(shipments)
    detail = await read_detail(client, case)
    assert statuses(detail) == dict.fromkeys(UPSTREAM_SERVICES, "fresh") | {"fulfillment": "unavailable"}
    assert "shipment" not in {entry["type"] for entry in detail["timeline"]}
    assert metrics.nonzero(FAILURES) == {stage: 1}
    assert metrics.value(CALLS, service="fulfillment", outcome=outcome) == len(shipments.calls) == calls


async def test_hanging_source_costs_one_read_its_timeout_and_later_reads_nothing(make_client, orders):
    """At the default settings, the calls of one read open the circuit; a read then does not wait for the source."""
    defaults = TimelineSettings()
    client = await make_client(SUPPORT_TIMELINE_SOURCE_TIMEOUT=str(defaults.source_timeout))
    case = await open_case(client, context=[{"type": "order", "orderId": f"ORD-{number}"} for number in range(3)])
    orders.hang()  # for far longer than the deadline
    metrics = Scrape(service_of(client).metrics)
    source = (await read_detail(client, case))["timelineSources"]["order"]
    assert (source["status"], source["reason"]) == ("unavailable", "timeout")
    calls = len(orders.calls)
    assert metrics.value(CALLS, service="order", outcome="timeout") == calls
    assert metrics.value("support_timeline_breaker", service="order", state="open") == 1
    detail = await read_detail(client, case)
    assert detail["timelineSources"]["order"]["reason"] == "circuit open"
    assert len(orders.calls) == calls
    assert metrics.value("support_timeline_source_seconds_sum", service="order", outcome="open") == 0


async def test_expired_not_found_answer_does_not_replace_a_failed_source(make_client, order_in_all_sources, orders):
    """A 404 counts for a short time only; if the source fails afterwards, it is unavailable."""
    for not_found_ttl, afterwards in ((3600.0, "cached"), (0.0, "unavailable")):
        aggregator = AggregatorTimings(not_found_ttl=not_found_ttl)
        client = await make_client(timings=patient_timings(timeline=TimelineTimings(aggregator=aggregator)))
        case = await open_case(client, context=CONTEXT)
        orders.fail_with(404)
        await refresh(client, case)
        orders.fail_with(503)
        assert statuses(await read_detail(client, case))["order"] == afterwards
