"""Which calls a timeline read makes to the upstream services, and how their answers are merged."""

import asyncio

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, url_variable
from support_service.timeline.source_health import WINDOW_CALLS
from tests.support.calls import add_message, eventually, open_case, read_case, read_detail, read_timeline, upload
from tests.support.each import each_row
from tests.support.scrape import Changes, Scrape
from tests.support.service import service_of
from tests.support.timeline.harness import CALLS, COLLECTIONS, EVENTS, FAILURES

ORDER = {"type": "order", "orderId": "ORD-1"}
ENCODED = {
    "a/b?c d": "a%2Fb%3Fc%20d",
    "..": "%2E%2E",
    ".": "%2E",
    "x/../y": "x%2F..%2Fy",
    "50%": "50%25",
    "a&limit=1": "a%26limit%3D1",
    "a#b": "a%23b",
    "đơn": "%C4%91%C6%A1n",
    "http://evil/": "http%3A%2F%2Fevil%2F",
    "a\r\nHost: evil": "a%0D%0AHost%3A%20evil",
}


def source_statuses(detail):
    return {source["status"] for source in detail["timelineSources"].values()}


async def test_timeline_merges_case_history_and_all_sources_by_time(client, orders, payments, shipments):
    """The case's own history and the entries of all three sources form one list, sorted by time."""
    orders.add("ORD-1", "order.created", "order.paid")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")
    note = {"type": "note", "timestamp": "2026-01-01T00:30:00Z", "text": "seen"}
    case = await open_case(client, context=[ORDER, note])
    sent = {"message": "Hello", "sentiment": "neutral", "metadata": {"a": 1}, "attachmentUri": "https://x/y"}
    await add_message(client, case, sent["message"], **{k: v for k, v in sent.items() if k != "message"})
    attachment = await upload(client, case, filename="a.txt")
    timeline = await read_timeline(client, case)
    assert [entry["timestamp"] for entry in timeline] == sorted(entry["timestamp"] for entry in timeline)
    of_sources = ["order-event", "note", "order-event", "order", "payment", "shipment"]
    # The context entry has no timestamp: it gets the time at which the case was opened.
    own = ["order", "case-event", "conversation", "case-event", "attachment"]
    assert [entry["type"] for entry in timeline] == of_sources + own
    by_type = {entry["type"]: entry for entry in reversed(timeline)}
    shipment = {"shipmentId": "SHP-1", "orderId": "ORD-1", "status": "in_transit", "trackingNumber": "VN1"}
    for name, origin, day, expected in (
        ("order", "order", 2, {"orderId": "ORD-1", "status": "paid", "total": "12.50"}),
        ("order-event", "order", 1, {"eventType": "order.created", "payload": {"step": 0}}),
        ("payment", "payment", 3, {"paymentId": "PAY-1", "orderId": "ORD-1", "status": "captured", "amount": "12.50"}),
        ("shipment", "fulfillment", 3, shipment),
    ):
        given = {"type": name, "origin": origin, "source": f"{origin}-service"}
        assert by_type[name] == given | {"timestamp": f"2026-01-0{day}T00:00:00.000000Z"} | expected
    message = by_type["conversation"]
    assert {name: message[name] for name in sent} == sent
    assert message["authorType"] == "agent"
    assert message["visibility"] == by_type["attachment"]["visibility"] == "public"
    assert (by_type["attachment"]["filename"], by_type["attachment"]["uri"]) == ("a.txt", attachment["uri"])
    assert by_type["note"] == note | {"origin": "context"}


async def test_calls_to_all_sources_run_concurrently(client, orders, payments, shipments):
    """The order, its events, its payments and its shipments are requested concurrently: four calls are in flight."""
    orders.add("ORD-1", "order.created")
    barrier = asyncio.Barrier(4)
    for service in (orders, payments, shipments):
        service.answer_at_barrier(barrier)
    detail = await read_detail(client, await open_case(client, context=ORDER))
    assert source_statuses(detail) == {"fresh"}


async def test_concurrent_calls_to_one_source_are_limited(make_client, orders, monkeypatch):
    """A source never gets more concurrent calls than configured, and one case uses at most half of them."""
    monkeypatch.setattr("support_service.service.SOURCE_CONNECTIONS", 4)
    client = await make_client()
    release = orders.hang()
    context = [{"type": "order", "orderId": f"ORD-{number}"} for number in range(4)]
    reading = []
    for in_flight in (2, 4, 4):
        reading.append(asyncio.create_task(read_detail(client, await open_case(client, context=context))))
        await eventually(lambda in_flight=in_flight: orders.waiting == in_flight)
    assert len(orders.calls) == 4
    release.set()
    await asyncio.gather(*reading)
    assert len(orders.calls) == 24


async def test_payments_and_shipments_are_requested_by_id_or_looked_up_by_order(client, payments, shipments):
    """A lookup by order requests at most 50 of each. There is none if the context has their ids."""
    await read_detail(client, await open_case(client, context=ORDER))
    context = [ORDER, {"type": "payment", "paymentId": "PAY-1"}, {"type": "shipment", "id": "SHP-1"}]
    await read_detail(client, await open_case(client, context=context))
    assert payments.calls == ["/payments?orderId=ORD-1&limit=50", "/payments/PAY-1"]
    assert shipments.calls == ["/fulfillment/shipments?orderId=ORD-1&limit=50", "/fulfillment/shipments/SHP-1"]


@each_row("reference, encoded", ENCODED.items())
async def test_references_are_percent_encoded_in_path_and_query(client, orders, payments, reference, encoded):
    """Any order id is sent as one path segment and one query value, and can't change the path."""
    orders.calls.clear()
    payments.calls.clear()
    orders.add(reference)
    detail = await read_detail(client, await open_case(client, context={"type": "order", "orderId": reference}))
    assert sorted(orders.calls) == [f"/orders/{encoded}", f"/orders/{encoded}/events"]
    assert payments.calls == [f"/payments?orderId={encoded}&limit=50"]
    assert [entry["orderId"] for entry in detail["timeline"] if "source" in entry] == [reference]


async def test_order_of_another_customer_is_never_shown(client, orders, metrics):
    """A valid order under another id breaks the contract: it is not shown, and counts as such."""
    other = {"id": "ORD-2", "status": "paid", "grandTotal": "99.00", "updatedAt": "2026-01-02T00:00:00Z"}
    orders.serve_document("/orders/ORD-1", other)
    detail = await read_detail(client, await open_case(client, context=ORDER))
    assert detail["timelineSources"]["order"]["status"] == "unavailable"
    assert detail["timelineSources"]["order"]["reason"] == "answer about another id"
    assert "ORD-2" not in str(detail["timeline"])
    assert metrics.nonzero(FAILURES) == {"aggregate": 1}
    assert metrics.value(CALLS, service="order", outcome="invalid") == 1


async def test_not_found_is_a_fresh_and_cached_answer(client, metrics):
    """A 404 means that the source has no entries: the source is fresh, and the answer is cached."""
    case = await open_case(client, context=[ORDER, {"type": "payment", "paymentId": "PAY-9"}])
    detail = await read_detail(client, case)
    assert [entry["type"] for entry in detail["timeline"]] == ["order", "payment", "case-event"]  # the case alone
    assert source_statuses(detail) == {"fresh"}
    assert metrics.nonzero(FAILURES) == {}
    assert metrics.value(CALLS, service="order", outcome="not_found") == 2
    assert source_statuses(await read_detail(client, case)) == {"cached"}


async def test_rejected_id_is_a_fresh_answer_with_a_reason(make_client, orders, payments):
    """A service that rejects an id knows nothing under it: the timeline is complete, and nothing counts as failed."""
    client = await make_client()
    metrics, reads = Scrape(service_of(client).metrics), 2 * WINDOW_CALLS  # more than enough failures for the circuit
    payments.add("PAY-1", "ORD-1")
    for number in range(reads):
        status = (400, 422)[number % 2]
        orders.fail_with(status)
        case = await open_case(client, context=[ORDER])
        detail = await read_detail(client, case)
        rejected = {"status": "fresh", "ageSeconds": 0.0, "reason": f"id rejected with status {status}"}
        assert detail["timelineSources"]["order"] == rejected
        # The context and the opening, and the payment.
        assert {entry["type"] for entry in detail["timeline"]} == {"order", "case-event", "payment"}
    cached = (await read_detail(client, case))["timelineSources"]["order"]
    assert (cached["status"], cached["reason"]) == ("cached", rejected["reason"])
    assert metrics.nonzero(FAILURES) == {}
    assert metrics.value("support_timeline_breaker", service="order", state="closed") == 1
    assert metrics.value(CALLS, service="order", outcome="not_found") == len(orders.calls)
    assert metrics.nonzero("support_timeline_read_seconds_count") == {"complete": reads + 1}


async def test_refused_call_is_a_failure(client, orders):
    """Other statuses of the range 4xx say that this client may not ask, or not now: the part is missing."""
    for status in (401, 403, 429):
        metrics = Changes(service_of(client).metrics)
        orders.fail_with(status)
        source = (await read_detail(client, await open_case(client, context=[ORDER])))["timelineSources"]["order"]
        assert (source["status"], source["reason"]) == ("unavailable", f"status {status}")
        assert metrics.nonzero(FAILURES) == {"http": 2}


async def test_case_without_references_or_a_read_without_the_timeline_calls_no_source(client, metrics, sources):
    """Each source has the status `none`, and no collection is counted."""
    assert source_statuses(await read_detail(client, await open_case(client))) == {"none"}
    detail = await read_case(client, await open_case(client, context=ORDER))
    assert (detail["timeline"], source_statuses(detail)) == ([], {"none"})
    assert not any(service.calls for service in sources.values())
    assert metrics.total(COLLECTIONS) == metrics.total(EVENTS) == 0


async def test_source_without_an_address_is_off(make_client, orders):
    """A source without a configured URL is `off`; the other sources return their entries."""
    orders.add("ORD-1")
    client = await make_client(**{url_variable(name): None for name in UPSTREAM_SERVICES if name != "order"})
    sources = (await read_detail(client, await open_case(client, context=ORDER)))["timelineSources"]
    statuses = {name: source["status"] for name, source in sources.items()}
    assert statuses == dict.fromkeys(UPSTREAM_SERVICES, "off") | {"order": "fresh"}
