"""What is asked of the services, how, and what becomes of the answers."""

import asyncio

import pytest

from tests.support.calls import add_message, eventually, open_case, read_detail, read_timeline, upload

pytestmark = pytest.mark.usefixtures("upstream_services")
ORDER = {"type": "order", "orderId": "ORD-1"}


async def test_everything_is_merged_and_sorted(client, orders, payments, shipments):
    """The case's own history and what three services know make one list, each entry with its type, sorted by time."""
    orders.add("ORD-1", "order.created", "order.paid")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")
    note = {"type": "note", "timestamp": "2026-01-01T00:30:00Z", "text": "seen"}
    case = await open_case(client, context=[ORDER, note])
    await add_message(client, case, "Hello", sentiment="neutral", metadata={"a": 1}, attachmentUri="https://x/y")
    attachment = await upload(client, case, filename="a.txt")
    timeline = await read_timeline(client, case)
    assert [entry["timestamp"] for entry in timeline] == sorted(entry["timestamp"] for entry in timeline)
    assert [entry["type"] for entry in timeline] == [
        "order-event",
        "note",
        "order-event",
        "order",
        "payment",
        "shipment",
        "order",  # the context entry has no time of its own: it counts as said when the case was opened
        "conversation",
        "attachment",
    ]
    by_type = {entry["type"]: entry for entry in reversed(timeline)}
    assert by_type["order"] == {
        "type": "order",
        "timestamp": "2026-01-02T00:00:00.000000Z",
        "source": "order-service",
        "orderId": "ORD-1",
        "status": "paid",
        "total": "12.50",
    }
    assert by_type["order-event"]["eventType"] == "order.created"
    assert by_type["order-event"]["payload"] == {"step": 0}
    assert by_type["payment"] == {
        "type": "payment",
        "timestamp": "2026-01-03T00:00:00.000000Z",
        "source": "payment-service",
        "paymentId": "PAY-1",
        "orderId": "ORD-1",
        "status": "captured",
        "amount": "12.50",
    }
    assert by_type["shipment"] == {
        "type": "shipment",
        "timestamp": "2026-01-03T00:00:00.000000Z",
        "source": "fulfillment-service",
        "shipmentId": "SHP-1",
        "orderId": "ORD-1",
        "status": "in_transit",
        "trackingNumber": "VN1",
    }
    said = by_type["conversation"]
    assert (said["authorType"], said["message"], said["sentiment"], said["metadata"], said["attachmentUri"]) == (
        ("agent", "Hello", "neutral", {"a": 1}, "https://x/y")
    )
    assert said["visibility"] == by_type["attachment"]["visibility"] == "public"
    assert (by_type["attachment"]["filename"], by_type["attachment"]["uri"]) == ("a.txt", attachment["uri"])
    assert by_type["note"] == note


async def test_all_calls_go_out_at_once(client, orders, payments, shipments):
    """An order, its events, its payments and its shipments are asked for together: four calls are in flight at once."""
    orders.add("ORD-1", "order.created")
    together = asyncio.Barrier(4)
    for service in (orders, payments, shipments):
        service.meet(together)
    detail = await read_detail(client, await open_case(client, context=ORDER))
    assert {source["status"] for source in detail["timelineSources"].values()} == {"fresh"}


async def test_calls_to_one_source_are_bounded(make_client, orders):
    """No more calls than configured are in flight to one service, and one case takes no more than half of them."""
    client = await make_client(SUPPORT_TIMELINE_CONNECTIONS="4")
    release = orders.hang()
    context = [{"type": "order", "orderId": f"ORD-{number}"} for number in range(4)]
    reading = []
    for taken in (2, 4, 4):
        reading.append(asyncio.create_task(read_detail(client, await open_case(client, context=context))))
        await eventually(lambda taken=taken: orders.waiting == taken)
    assert len(orders.calls) == 4
    release.set()
    await asyncio.gather(*reading)
    assert len(orders.calls) == 24


async def test_payments_and_shipments_without_an_id_are_looked_up_by_order(client, payments, shipments):
    """A case that names an order alone asks for that order's payments and shipments, 50 at most."""
    await read_detail(client, await open_case(client, context=ORDER))
    assert payments.calls == ["/payments?orderId=ORD-1&limit=50"]
    assert shipments.calls == ["/fulfillment/shipments?orderId=ORD-1&limit=50"]


async def test_things_with_an_id_are_asked_for_by_it(client, payments, shipments):
    """A case that names a payment and a shipment asks for these, and not by order."""
    context = [ORDER, {"type": "payment", "paymentId": "PAY-1"}, {"type": "shipment", "id": "SHP-1"}]
    await read_detail(client, await open_case(client, context=context))
    assert payments.calls == ["/payments/PAY-1"]
    assert shipments.calls == ["/fulfillment/shipments/SHP-1"]


@pytest.mark.parametrize(
    ("reference", "encoded"),
    [
        ("a/b?c d", "a%2Fb%3Fc%20d"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("x/../y", "x%2F..%2Fy"),
        ("50%", "50%25"),
        ("a&limit=1", "a%26limit%3D1"),
        ("a#b", "a%23b"),
        ("đơn", "%C4%91%C6%A1n"),
        ("http://evil/", "http%3A%2F%2Fevil%2F"),
        ("a\r\nHost: evil", "a%0D%0AHost%3A%20evil"),
    ],
)
async def test_references_go_out_percent_encoded_as_given(client, orders, payments, reference, encoded):
    """Whatever an order is called, it is one segment of a path and one value of a query, never a path of its own."""
    orders.add(reference)
    detail = await read_detail(client, await open_case(client, context={"type": "order", "orderId": reference}))
    assert sorted(orders.calls) == [f"/orders/{encoded}", f"/orders/{encoded}/events"]
    assert payments.calls == [f"/payments?orderId={encoded}&limit=50"]
    assert [entry["orderId"] for entry in detail["timeline"] if "source" in entry] == [reference]


async def test_nothing_there_is_an_answer(client, metrics):
    """A 404 means that there is nothing: no failure, fresh, and cached like any answer."""
    case = await open_case(client, context=[ORDER, {"type": "payment", "paymentId": "PAY-9"}])
    detail = await read_detail(client, case)
    assert [entry["type"] for entry in detail["timeline"]] == ["order", "payment"]  # the context alone
    assert {source["status"] for source in detail["timelineSources"].values()} == {"fresh"}
    assert metrics.moved("support_timeline_collection_failures_total") == {}
    assert metrics.value("support_timeline_source_seconds_count", service="order", outcome="not_found") == 2
    assert {s["status"] for s in (await read_detail(client, case))["timelineSources"].values()} == {"cached"}


async def test_a_case_without_references_asks_nobody(client, metrics, orders, payments, shipments):
    """Without a reference each service is `none`, nobody is asked, and no collection is counted."""
    detail = await read_detail(client, await open_case(client))
    assert {source["status"] for source in detail["timelineSources"].values()} == {"none"}
    assert orders.calls + payments.calls + shipments.calls == []
    assert metrics.total("support_timeline_collect_seconds_count") == 0
    assert metrics.total("support_timeline_cache_events_total") == 0


async def test_a_source_that_is_not_configured_is_off(make_client, orders):
    """A service without an address is `off`; the others give what they have."""
    orders.add("ORD-1")
    client = await make_client(SUPPORT_PAYMENT_URL=None, SUPPORT_FULFILLMENT_URL=None)
    sources = (await read_detail(client, await open_case(client, context=ORDER)))["timelineSources"]
    assert {name: source["status"] for name, source in sources.items()} == {
        "order": "fresh",
        "payment": "off",
        "fulfillment": "off",
    }


async def test_a_timeline_that_is_not_asked_for_is_empty(client, orders):
    """Without the flag the timeline is empty, each service is `none`, and nobody is asked."""
    case = await open_case(client, context=ORDER)
    async with client.get(f"/support/cases/{case['id']}") as response:
        detail = await response.json()
    assert detail["timeline"] == []
    assert detail["timelineSources"]["order"]["status"] == "none"
    assert orders.calls == []
