"""Events of other services reach the open cases that wait for them, exactly once in effect."""

import json

import pytest
import sqlalchemy as sa

from support_service.cases.sql.case_rows import MIN_MESSAGE_BYTES
from support_service.events.consumer import ConsumerTimings
from support_service.platform.database.tables import tickets
from tests.conftest import both_databases
from tests.support.calls import eventually, expect_json, expect_problem, open_case, read_case, read_detail
from tests.support.each import each_row
from tests.support.events.fixtures import send_inbound, shipment_event
from tests.support.events.inbound import SENTENCE, about, consumed, messages, wait_for_messages
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import patient_events, patient_timings

SHIPMENT = "fulfillment.shipment.updated.v1"


@pytest.fixture
def environment(environment, patient_cache, monkeypatch):
    """A service that tries again soon, and whose cache has time on a busy machine too."""
    monkeypatch.setattr("support_service.service.CLAIM_AFTER", 0.05)
    return environment


BINARY = {"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/f"}
BINARY |= {"ce-type": SHIPMENT}


async def post(client, body, **headers):
    headers = {"Content-Type": "application/cloudevents+json"} | headers
    data = body if isinstance(body, bytes) else json.dumps(body)
    return await client.post("/support/events", data=data, headers=headers)


@both_databases
async def test_event_adds_a_message_to_the_open_cases_that_refer_to_it(client, stream, metrics):
    """A bot's message has the event's fields. Other cases get none."""
    waiting = [
        await open_case(client, **about("order", "order-456")),
        await open_case(client, **about("shipment", "SHP-9"), initialMessage={"authorType": "agent", "message": "Hi"}),
        await open_case(client, context=[{"type": "order", "id": "order-456"}, {"type": "shipment", "id": "SHP-9"}]),
        await open_case(client, context={"type": "payment", "orderId": "order-456"}),
    ]
    others = [await open_case(client, **about("order", "order-4567")), await open_case(client)]
    closed = await open_case(client, **about("order", "order-456"))
    async with client.post(f"/support/cases/{closed['id']}/close"):
        pass
    await send_inbound(stream, shipment_event())
    assert await consumed(metrics, 1) == {"applied": 1}
    for case in waiting:
        message = (await read_case(client, case))["messages"][-1]
        assert (message["authorType"], message["message"]) == ("bot", SENTENCE)
        assert message["metadata"] == {"eventId": "e-1", "eventType": SHIPMENT} | shipment_event()["data"]
    for case in (*others, closed):
        assert await messages(client, case) == []
    assert metrics.value("support_conversation_added_total", author_type="bot") == 4
    assert metrics.value("support_events_delivery_lag_seconds_count") == 1


async def test_event_reaches_a_full_case(make_client, stream, database, constants):
    """Its message counts for the conversation, and is added to a case that accepts no other message."""
    constants("cases.service", MAX_CONVERSATION_BYTES=1)
    client = await make_client()
    case = await open_case(client, **about("order", "order-456"))
    said = {"authorType": "bot", "message": "Hello"}
    await expect_problem(await client.post(f"/support/cases/{case['id']}/messages", json=said), 409, "case_full")
    for event in ("e-1", "e-2"):
        await send_inbound(stream, shipment_event(event))
    assert await consumed(Scrape(service_of(client).metrics), 2) == {"applied": 2}
    told = (await read_case(client, case))["messages"]
    assert [message["message"] for message in told] == [SENTENCE] * 2
    (counted,) = await database.fetch_now(sa.select(tickets.c.conversation_bytes))
    assert counted == MIN_MESSAGE_BYTES * len(told)


@both_databases
async def test_repeated_event_has_no_effect(client, stream, metrics):
    """By HTTP or by the stream. Another event of the same order has an effect."""
    case = await open_case(client, **about("order", "order-456"))
    first = shipment_event()
    for event in (first, first, shipment_event("e-2", status="delivered"), first, shipment_event("e-2")):
        await send_inbound(stream, event)
    assert (await post(client, shipment_event())).status == 202
    assert await consumed(metrics, 6) == {"applied": 2, "duplicate": 4}
    told = [text.rpartition(" to ")[2] for text in await messages(client, case)]
    assert told == ["In transit for order order-456", "Delivered for order order-456"]


@both_databases
async def test_replicas_consume_each_event_once(client, make_client, stream):
    """Two replicas that get the same events add one message for each event and case."""
    await make_client()
    case = await open_case(client, **about("order", "order-456"))
    for number in range(100):
        await send_inbound(stream, shipment_event(f"e-{number % 40}", trackingNumber=str(number % 40)))
    nothing = {"pending": 0, "min": None, "max": None, "consumers": []}

    async def all_done():
        pending = await stream.xpending("support.inbound", "support-service")
        return pending == nothing and len(await messages(client, case)) >= 40

    await eventually(all_done)
    assert len(await messages(client, case)) == 40
    assert len(set(await messages(client, case))) == 40


async def test_event_invalidates_the_cached_timeline(client, stream, metrics, environment, make_client, shipments):
    """The timeline is collected again, and its epoch is higher after the message."""
    shipments.add("SHP-9", "order-456")
    other = await make_client(SUPPORT_FULFILLMENT_URL=shipments.url)
    case = await open_case(other, **about("shipment", "SHP-9"))
    assert (await read_detail(other, case))["timelineSources"]["fulfillment"]["status"] == "fresh"
    assert (await read_detail(other, case))["timelineSources"]["fulfillment"]["status"] == "cached"
    await send_inbound(stream, shipment_event())

    async def collected_again():
        return (await read_detail(other, case))["timelineSources"]["fulfillment"]["status"] == "fresh"

    await eventually(lambda: messages(other, case))
    await eventually(collected_again)


POISON = [b"", b"{", b"\xff\xfe", b"x" * (5 << 20), b"[" * 10_000, b'{"a": "\\u0000"}']
POISON += [json.dumps(shipment_event() | wrong) for wrong in ({"data": {"status": 7}}, {"id": None}, {"data": [1, 2]})]


async def test_unreadable_events_are_dead_letters(client, stream, metrics):
    """An unknown type is ignored, and the next event is consumed."""
    case = await open_case(client, **about("order", "order-456"))
    for poison in POISON:
        await send_inbound(stream, poison)
    await stream.xadd("support.inbound", {"something": "else"})
    await send_inbound(stream, shipment_event("e-7") | {"type": "unknown.v1"})
    await send_inbound(stream, shipment_event())
    assert await consumed(metrics, len(POISON) + 3) == {"dead": len(POISON) + 1, "ignored": 1, "applied": 1}
    assert await messages(client, case) == [SENTENCE]
    letters = await stream.xrange("support.inbound.dead")
    assert len(letters) == len(POISON) + 1
    assert all(fields[b"reason"] for _, fields in letters)
    assert max(len(fields[b"event"]) for _, fields in letters) <= 256 * 1024
    assert (await stream.xpending("support.inbound", "support-service"))["pending"] == 0


async def test_structured_binary_and_plain_events_are_accepted_by_http(client, metrics):
    """Each gets 202 and takes effect."""
    case = await open_case(client, **about("order", "order-456"))
    data = shipment_event()["data"]
    plain = {"eventType": SHIPMENT, "eventId": "e-2"} | data
    sent = ((shipment_event("e-0"), {}), (data, BINARY), (plain, {"Content-Type": "application/json"}))
    for number, (body, headers) in enumerate(sent):
        answer = await expect_json(await post(client, body, **headers), 202)
        assert answer == {"id": f"e-{number}", "type": SHIPMENT, "ignored": False}
    assert await consumed(metrics, 3) == {"applied": 3}
    assert await messages(client, case) == [SENTENCE] * 3


@each_row(
    "body, headers, status, code",
    [
        (b"{", {}, 400, "malformed_json"),
        ([1], {}, 422, "invalid_event"),
        (shipment_event() | {"data": {}}, {}, 422, "invalid_event"),
        (shipment_event() | {"id": ""}, {}, 422, "invalid_event"),
        ([shipment_event()], {"Content-Type": "application/cloudevents-batch+json"}, 415, "unsupported_type"),
        (shipment_event(), {"Content-Type": "text/plain"}, 415, "unsupported_type"),
        ({"a": "x" * 300_000}, {}, 413, "body_too_large"),
        ({}, {"ce-id": "7"}, 422, "invalid_event"),
        (shipment_event()["data"], BINARY | {"ce-id": "a%00b"}, 422, "invalid_event"),
        (shipment_event()["data"], BINARY | {"ce-id": "a%FFb"}, 422, "invalid_event"),
        (shipment_event()["data"], BINARY | {"ce-source": "/%00"}, 422, "invalid_event"),
    ],
)
async def test_invalid_event_by_http_is_refused(shared_client, body, headers, status, code):
    """The response names the reason."""
    await expect_problem(await post(shared_client, body, **headers), status, code)


async def test_event_by_http_takes_effect_while_redis_is_down(client, redis, metrics):
    """Its repeat after the outage has no effect."""
    case = await open_case(client, **about("order", "order-456"))
    redis.kill()
    assert (await post(client, shipment_event())).status == 202
    assert await messages(client, case) == [SENTENCE]
    redis.start()

    async def accepted():
        return (await post(client, shipment_event())).status == 202

    await eventually(accepted)
    assert (await consumed(metrics, 2))["duplicate"] >= 1
    assert await messages(client, case) == [SENTENCE]


async def test_events_that_are_not_consumed_wait_for_other_replicas(client, make_client, stream, no_consumer):
    """An event to a full stream is refused by HTTP; no event is lost.

    Without Redis an event by HTTP takes effect within the process.
    """
    await client.close()
    two = patient_timings(events=patient_events(consumer=ConsumerTimings(max_waiting_events=2)))
    deaf = await make_client(timings=two)
    case = await open_case(deaf, **about("order", "order-456"))
    for number in range(2):
        assert (await post(deaf, shipment_event(f"e-{number}"))).status == 202
    answer = await post(deaf, shipment_event("e-2"))
    assert answer.headers["Retry-After"]
    await expect_problem(answer, 503, "events_busy")
    assert await stream.xlen("support.inbound") == 2
    no_consumer.undo()
    hears = await make_client()
    await wait_for_messages(hears, case, [SENTENCE] * 2)
    alone = await make_client(SUPPORT_REDIS_URL=None)
    assert (await post(alone, shipment_event("e-3"))).status == 202
    await wait_for_messages(alone, case, [SENTENCE] * 3)
