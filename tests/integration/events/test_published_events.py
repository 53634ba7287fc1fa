"""Every change of a case is an event: kept with the change, published in order, once Redis is there."""

import asyncio
import json

import pytest
import sqlalchemy as sa
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from support_service.cases.model.published import PAYLOAD_BY_EVENT_TYPE
from support_service.events.event_erasure import rewrite_stored_events
from support_service.events.relay import read_oldest_events
from support_service.platform.database.lease_rows import take_lease
from support_service.platform.database.tables import leases, outbox
from support_service.timings import EventTimings
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, add_message, eventually, expect_json, open_case, read_case, upload
from tests.support.events.fixtures import outbox_is_empty, read_published, shipment_event, wait_for_events
from tests.support.service import service_of
from tests.support.timings import SHORT_LEASE, patient_timings


async def change(client, case):
    """Change a case in each way that there is; gives the file that came and went."""
    path = f"/support/cases/{case['id']}"
    await add_message(client, case, "On it.", metadata={"a": [1]})
    file = await upload(client, case, filename="màn hình.txt")
    await expect_json(client.delete(f"{path}/attachments/{file['id']}"), 204)
    await expect_json(client.patch(path, json={"subject": "B", "tags": ["x"], "status": "pending"}))
    await expect_json(client.patch(path, json={"subject": "B"}))
    await expect_json(client.post(f"{path}/status", json={"status": "resolved"}))
    await expect_json(client.post(f"{path}/close", json={"message": "Bye"}))
    await expect_json(client.post(f"{path}/close", json={}))
    return file


async def test_events_carry_the_trace_of_their_cause(client, stream):
    """The trace of a request or of an inbound event. None is made up."""
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    body = {"subject": "A", "channel": "email", "context": [{"type": "order", "orderId": "ORD-1"}]}
    await expect_json(client.post("/support/cases", json=body, headers=headers), 201)
    await open_case(client)
    opened, other = await wait_for_events(stream, 2)
    assert {name: opened[name] for name in headers} == headers
    assert other.keys().isdisjoint(headers)

    own, invalid = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"}, {"traceparent": "nonsense"}
    table = ((own, {}, own), (own, headers, own), ({}, headers, headers), (invalid, {}, {}))
    for number, (sent, given, expected) in enumerate(table):
        event = shipment_event(f"e-{number}", "ORD-1", status=f"step_{number}") | sent
        await expect_json(client.post("/support/events", json=event, headers=given), 202)
        applied = (await wait_for_events(stream, 3 + number))[-1]
        assert applied.get("traceparent") == expected.get("traceparent"), sent


async def test_each_change_is_published_once(client, stream):
    """In order, as a CloudEvent 1.0 whose data follows the contract. Synthetic cases publish none."""
    await change(client, await open_case(client, channel="synthetic"))
    case = await open_case(
        client, context={"type": "order", "id": 7}, initialMessage={"authorType": "agent", "message": "Hi"}
    )
    file = await change(client, case)
    events = await wait_for_events(stream, 10)
    assert [(event["type"].split(".")[2], event["data"].get("changeType")) for event in events] == [
        ("opened", None),
        ("updated", "conversation.added"),
        ("updated", "attachment.added"),
        ("updated", "attachment.removed"),
        ("updated", "case.changed"),
        ("updated", "status.changed"),
        ("updated", "status.changed"),
        ("updated", "conversation.added"),
        ("updated", "status.changed"),
        ("closed", None),
    ]
    assert len({event["id"] for event in events}) == 10
    for event in events:
        read = JSONFormat().read(CloudEvent, json.dumps(event).encode())
        assert (read.get_subject(), read.get_source()) == (case["id"], "/support-service")
        assert read.get_datacontenttype() == "application/json"
        assert read.get_time().tzinfo
        model = PAYLOAD_BY_EVENT_TYPE[event["type"]]
        again = model.model_validate(event["data"])
        assert set(event["data"]) == set(again.model_dump(by_alias=True, exclude_unset=True))
    detail = await read_case(client, case)
    assert events[0]["data"]["initialMessage"] == case["messages"][0]
    assert events[1]["data"]["conversation"] == detail["messages"][1]
    assert events[2]["data"]["attachment"] == events[3]["data"]["attachment"] == file
    assert events[4]["data"]["changedFields"] == ["subject", "tags"]
    statuses = [(event["data"].get("previousStatus"), event["data"].get("currentStatus")) for event in events[5:]]
    closing = ("resolved", "closed")
    assert statuses == [("open", "pending"), ("pending", "resolved"), (None, None), closing, closing]
    assert events[0]["data"]["ticket"]["status"] == "open"
    ticket = events[-1]["data"]["ticket"]
    more = {"sla", "messages", "moreMessages", "timeline", "attachments", "links", "timelineSources", "moreCaseEvents"}
    published = {"version", "publicVersion"}
    assert set(ticket) - published == set(detail) - more
    assert {event["data"]["actor"] for event in events} == {"anyone"}
    assert (ticket["subject"], ticket["status"], ticket["tags"]) == ("B", "closed", ["x"])
    assert ticket["context"] == [{"type": "order", "id": 7}]


@both_databases
async def test_events_of_one_change_are_in_order(client, stream):
    """A message precedes the status change that it causes, and the closing is last."""
    case = await open_case(client, context={"type": "order", "id": "order-456"})
    path = f"/support/cases/{case['id']}"

    await upload(client, case)
    await add_message(client, case, "On it.", visibility="internal")
    await expect_json(client.post("/support/events", json=shipment_event()), 202)
    await wait_for_events(stream, 4)
    await expect_json(client.patch(path, json={"status": "resolved", "subject": "B", "priority": "low"}))
    await add_message(client, case, "It is still missing.", authorType="customer")
    await expect_json(client.post(f"{path}/status", json={"status": "pending", "assignedAgentId": "agent-1"}))
    await expect_json(client.post(f"{path}/close", json={"message": "Bye", "assignedAgentId": "agent-2"}))
    await expect_json(client.post(f"{path}/status", json={"status": "open"}))
    await expect_json(client.patch(path, json={"status": "closed", "tags": ["late"]}))
    events = await wait_for_events(stream, 18)
    assert [event["data"].get("changeType", event["type"].split(".")[2]) for event in events] == [
        *("opened", "attachment.added", "conversation.added", "conversation.added"),
        *("case.changed", "status.changed"),
        *("conversation.added", "status.changed"),
        *("case.changed", "status.changed"),
        *("conversation.added", "case.changed", "status.changed", "closed"),
        "status.changed",
        *("case.changed", "status.changed", "closed"),
    ]
    times = [event["time"] for event in events]
    assert times == sorted(times)


async def test_changes_succeed_while_redis_is_down(client, stream, redis, metrics):
    """They wait in the outbox, and are published in order when Redis is back."""
    redis.kill()
    cases = [await open_case(client) for _ in range(3)]
    for number in range(5):
        for case in cases:
            await add_message(client, case, str(number))
    redis.start()
    events = await wait_for_events(stream, 18)
    for case in cases:
        mine = [event["data"] for event in events if event["subject"] == case["id"]]
        assert [data["conversation"]["message"] for data in mine[1:]] == list("01234")
    published_total = "support_events_published_total"
    for kind, number in (("opened", 3), ("updated", 15)):
        labels = {"type": f"support.case.{kind}.v1", "outcome": "ok"}  # counted once they have left the outbox
        await eventually(lambda labels=labels, number=number: metrics.value(published_total, **labels) == number)
    await eventually(lambda: metrics.value("support_events_relay_lag_seconds_count") >= 1)


async def test_events_that_redis_has_lost_are_published_again(client, stream, redis, metrics):
    """In order and with the same ids, also if nothing changes afterwards. An erased one is as it was left."""
    database = service_of(client).database
    case = await open_case(client, subject="Zaphod")
    for number in range(5):
        await add_message(client, case, str(number))
    before = await wait_for_events(stream, 6)
    await eventually(lambda: outbox_is_empty(database))
    async with database.transaction() as tx:
        counts = await rewrite_stored_events(tx, [case["id"]], lambda event: event.replace("Zaphod", "[erased]"))
    assert counts["keptEvents"] == 6
    redis.kill()  # it keeps nothing
    await stream.connection_pool.disconnect()
    redis.start()
    kept = [json.loads(json.dumps(event).replace("Zaphod", "[erased]")) for event in before]
    assert await wait_for_events(stream, 6) == kept != before
    await add_message(client, case, "after")
    assert (await wait_for_events(stream, 7))[:6] == kept
    repeated = {"type": "support.case.opened.v1", "outcome": "repeated"}
    await eventually(lambda: metrics.value("support_events_published_total", **repeated) == 1)


@both_databases
async def test_two_replicas_publish_each_event_once_and_in_order(client, make_client, stream):
    """One relays the changes of both, in the order of the conversation, also if they are made at once."""
    other = await make_client()
    case = await open_case(client)
    await asyncio.gather(*(add_message((client, other)[number % 2], case, str(number)) for number in range(40)))
    events = await wait_for_events(stream, 41)
    told = [event["data"]["conversation"]["id"] for event in events[1:]]
    assert told == [message["id"] for message in (await read_case(client, case))["messages"]]


@pytest.mark.parametrize("timings", [SHORT_LEASE])
async def test_stopping_relay_hands_over(client, make_client, stream):
    """It publishes what is pending, and another replica continues at once."""
    case = await open_case(client)
    await wait_for_events(stream, 1)
    other = await make_client()
    await add_message(client, case, "last")
    await client.close()
    await add_message(other, case, "first")

    async def three_events():
        told = {}  # the first of each id counts: where a stop is cut short, an event is published again
        for event in await read_published(stream):
            told.setdefault(event["id"], event["data"])
        return [*told.values()] if len(told) >= 3 else None

    told = await eventually(three_events)
    assert [data["conversation"]["message"] for data in told[1:]] == ["last", "first"]


async def test_relay_continues_after_a_restored_backup(client, stream, metrics):
    """The database then has an older fence than Redis. An invalid fence stops the relay while it exists.

    Numbers of the outbox are never reused, also when it was emptied.
    """
    await open_case(client)
    await wait_for_events(stream, 1)
    await stream.set("support.events:fence", 1 << 50)
    await open_case(client)
    assert len(await wait_for_events(stream, 2)) == 2
    assert int(await stream.get("support.events:fence")) == (1 << 50) + 1
    database = service_of(client).database
    await eventually(lambda: outbox_is_empty(database))
    await stream.set("support.events:fence", "9" * 30)
    await open_case(client)
    failed = {"type": "support.case.opened.v1", "outcome": "error"}
    await eventually(lambda: metrics.value("support_events_published_total", **failed))
    assert (await database.fetch_now(sa.select(sa.func.min(outbox.c.seq)))) == (3,)
    await stream.delete("support.events:fence")
    assert len(await wait_for_events(stream, 3)) == 3


@both_databases
async def test_lease_far_in_the_future_is_ignored(database, make_client, stream):
    """A valid lease is respected until it expires. One that no nearly correct clock could have written is not.

    The relay continues after a replica whose clock was ahead, whose lease would end in years.
    """

    async def taken_until(until):
        async with database.transaction() as tx:
            held = {"holder": "dead", "fence": until - 6, "expires_at": until}
            await tx.execute(leases.update().where(leases.c.name == "relay").values(held))
            return await take_lease(tx, "relay", "me", now=1.0, duration=0.006, max_clock_skew=0.06)

    assert await taken_until(999) == 1000
    assert await taken_until(1000) is None
    assert await taken_until(1066) is None
    assert await taken_until(1067) == 1062
    assert await taken_until(10**15) == 10**15 - 5
    async with database.transaction() as tx:
        await tx.execute(leases.update().values(holder="dead", fence=1 << 50, expires_at=1 << 50))
    await open_case(await make_client())
    assert len(await wait_for_events(stream, 1)) == 1


@both_databases
async def test_outbox_batch_is_limited_in_bytes(database):
    """It has at least one event."""
    event = json.dumps({"text": "đ" * 1000}, ensure_ascii=False)
    row = {"type": "t", "at": "2026-01-01T00:00:00Z", "event": event, "fanned_out": True}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), [row] * 10)
    for most, number in ((1, 1), (2012, 1), (2013, 2), (6000, 3), (1 << 20, 10)):
        batch = await read_oldest_events(database, 200, most)
        assert len(batch) == number, most
        assert [row[0] for row in batch] == sorted(row[0] for row in batch)
    assert len(await read_oldest_events(database, 4, 1 << 20)) == 4


@pytest.mark.long
@pytest.mark.parametrize("timings", [patient_timings(events=EventTimings())])  # Redis has as long as in production
async def test_large_events_are_published_in_order(client, stream, redis):
    """Redis could not accept many events of a megabyte in one command in time. The test above is its short form."""
    redis.kill()
    event = {"text": "x" * (1 << 20)}
    database = service_of(client).database
    async with database.transaction() as tx:
        for number in range(30):
            row = {"type": "t", "at": "2026-01-01T00:00:00Z", "event": json.dumps(event | {"id": number})}
            await tx.execute(outbox.insert(), row)
    redis.start()
    await eventually(lambda: outbox_is_empty(database), 6 * GENEROUS_TIMEOUT)
    # What was late to be taken on a busy machine was taken all the same, and came again.
    assert list(dict.fromkeys(event["id"] for event in await read_published(stream))) == list(range(30))
