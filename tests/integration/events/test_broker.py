"""One contract for every broker."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from support_service.core.clock import EPOCH, utc_now
from support_service.core.units import MAX_DURATION, MAX_INTEGER
from support_service.events.broker.base import BrokerError
from support_service.events.broker.log import parse_place
from support_service.events.broker.redis import CONSUMER_GROUP, RedisBroker, _to_dead_letter, _to_deliveries
from tests.support.events.fixtures import patient_broker
from tests.support.timings import PATIENT_REDIS

STREAM = "s"
NODE = 100  # entries that Redis removes together


async def put(broker, *events, max_length=1000):
    await broker.publish(STREAM, events, max_length=max_length)


async def take(broker, count=100, wait=0.01):
    return await broker.receive(STREAM, "a", count=count, wait=wait)


def events(deliveries):
    return [delivery.event for delivery in deliveries]


async def test_events_are_delivered_once_in_order_and_unchanged(broker):
    """Each to one consumer of the group. The depth counts them until they are acknowledged."""
    assert (await broker.backlog(STREAM)).waiting == 0
    await put(broker, b"", bytes(range(256)), "đ")
    given = await take(broker, 2)
    assert events(given) == [b"", bytes(range(256))]
    assert (await broker.backlog(STREAM)).waiting == 3
    assert events(await broker.receive(STREAM, "b", count=9, wait=0.01)) == ["đ".encode()]
    assert await take(broker) == []
    await broker.acknowledge(STREAM, [each.id for each in given])
    assert (await broker.backlog(STREAM)).waiting == 1


async def test_waiting_reader_gets_an_event_at_once(broker):
    waiting = asyncio.create_task(broker.receive(STREAM, "a", count=1, wait=30))
    await asyncio.sleep(0)
    while not waiting.done():
        await put(broker, "x")
        await asyncio.wait([waiting], timeout=0.05)
    assert events(await waiting) == [b"x"]


async def test_unacknowledged_event_is_delivered_again(broker):
    """To another consumer after the idle time. Deliveries are counted, and an extension of a claim is none."""
    await put(broker, "1", "2")
    first, second = await take(broker)
    assert (first.tries, second.tries) == (1, 1)
    await broker.acknowledge(STREAM, [first.id])
    for each in (first, second):
        await broker.renew_claim(STREAM, "a", each)
    assert await broker.claim(STREAM, "b", count=9, min_idle=60, isolate_after=5) == []
    for tries in (2, 3):
        (again,) = await broker.claim(STREAM, "b", count=9, min_idle=0, isolate_after=5)
        assert (again.event, again.tries) == (b"2", tries)
    await broker.acknowledge(STREAM, [second.id])
    assert await broker.claim(STREAM, "b", count=9, min_idle=0, isolate_after=5) == []


async def test_often_delivered_event_is_read_alone(broker):
    """After the others."""
    await put(broker, "1")
    await take(broker)
    for _ in range(2):
        await broker.claim(STREAM, "a", count=9, min_idle=0, isolate_after=5)
    await put(broker, "2")
    await take(broker)
    assert events(await broker.claim(STREAM, "a", count=9, min_idle=0, isolate_after=3)) == [b"2"]
    assert events(await broker.claim(STREAM, "a", count=9, min_idle=0, isolate_after=2)) == [b"1"]


async def test_dead_letter_is_listed_and_replayed(broker):
    """With its reason. It is not delivered before its replay."""
    await put(broker, "1", "2")
    one, two = await take(broker)
    for _ in range(2):  # it was given up already
        await broker.move_to_dead_letters(STREAM, "a", one, "no good", "2026-01-01T00:00:00+00:00")
    await broker.acknowledge(STREAM, [two.id])
    assert await broker.claim(STREAM, "a", count=9, min_idle=0, isolate_after=5) == []
    (letter,) = await broker.dead_letters(STREAM, 10)
    assert (letter.event, letter.reason, letter.tries) == (b"1", "no good", 1)
    assert letter.at == "2026-01-01T00:00:00+00:00"
    assert (await broker.backlog(STREAM)).dead == 1
    assert await broker.replay(STREAM, [letter.id, "99999-0"]) == 1
    assert await broker.replay(STREAM, []) == 0
    assert events(await take(broker)) == [b"1"]
    assert await broker.dead_letters(STREAM, 10) == []


async def test_stream_is_trimmed_to_its_length(broker):
    """The oldest events are removed."""
    for start in range(0, 2000, 100):
        await put(broker, *map(str, range(start, start + 100)), max_length=500)
    kept = events(await take(broker, 3000))
    assert 500 <= len(kept) < 1000
    assert kept[-1] == b"1999"


async def test_publishing_with_an_older_fence_is_refused(broker):
    """Nothing is published."""
    await broker.publish(STREAM, ["1"], max_length=9, fence=7)
    await broker.publish(STREAM, ["2"], max_length=9, fence=8)
    with pytest.raises(BrokerError) as refusal:
        await broker.publish(STREAM, ["3"], max_length=9, fence=7)
    assert refusal.value.fence == 8
    await broker.publish(STREAM, ["4"], max_length=9, fence=8)
    assert events(await take(broker)) == [b"1", b"2", b"4"]


async def test_publishing_is_refused_if_the_stream_has_lost_a_publication(broker):
    """Nothing is published. The refusal names the last publication that the stream has."""
    numbers = [await broker.publish(STREAM, [event], max_length=9) for event in ("1", "2")]
    assert numbers == [1, 2]
    assert await broker.publications(STREAM) == 2
    assert await broker.publish(STREAM, ["3"], max_length=9, confirmed=2) == 3
    with pytest.raises(BrokerError) as refusal:
        await broker.publish(STREAM, ["4"], max_length=9, confirmed=5)
    assert refusal.value.kept == 3
    assert await broker.publications("another") == 0
    assert events(await take(broker)) == [b"1", b"2", b"3"]


async def test_calls_raise_unavailable_while_redis_is_down(redis):
    """Each is measured, and removing nothing is none. Afterwards it works again, although Redis has lost its data."""
    measured = []
    broker = RedisBroker(redis.url, lambda name, _, error: measured.append((name, error)), PATIENT_REDIS)
    await put(broker, "1")
    (delivery,) = await take(broker)
    await broker.renew_claim(STREAM, "a", delivery)
    assert measured[-1] == ("XCLAIM", "")
    redis.kill()
    assert await broker.remove(STREAM, []) == 0  # Redis would refuse it
    calls = (
        lambda: put(broker, "2"),
        lambda: take(broker),
        lambda: broker.claim(STREAM, "a", count=1, min_idle=0, isolate_after=5),
        lambda: broker.acknowledge(STREAM, ["1-1"]),
        lambda: broker.dead_letters(STREAM, 1),
        lambda: broker.replay(STREAM, ["1-1"]),
        lambda: broker.backlog(STREAM),
    )
    for call in calls:
        with pytest.raises(BrokerError):
            await call()
    redis.start()
    await put(broker, "3")
    assert events(await take(broker)) == [b"3"]
    await broker.close()


async def test_full_stream_refuses_events(broker):
    """A stream that must lose nothing accepts events again once its group has read some."""
    await broker.publish(STREAM, ["1", "2"], max_length=3, trim=False)
    with pytest.raises(BrokerError) as refusal:
        await broker.publish(STREAM, ["3", "4"], max_length=3, trim=False)
    assert refusal.value.full
    first, _ = await take(broker)
    await broker.acknowledge(STREAM, [first.id])
    await broker.trim(STREAM, 0)
    await broker.publish(STREAM, ["3", "4"], max_length=3, trim=False)
    assert events(await take(broker)) == [b"3", b"4"]
    assert events(await broker.claim(STREAM, "a", count=9, min_idle=0, isolate_after=5)) == [b"2", b"3", b"4"]


async def test_applied_events_are_kept_and_can_be_read_again(redis):
    """About as many as wanted, the newest ones. Events that wait are never removed, and are not counted."""
    broker = patient_broker(redis.url)
    await put(broker, *map(str, range(1000)), max_length=5000)
    applied = await take(broker, 800)
    await broker.acknowledge(STREAM, [each.id for each in applied])
    assert await broker.first_unfinished(STREAM) > parse_place(applied[-1].id)
    await broker.trim(STREAM, 300)
    kept = await broker.entries(STREAM, 2000)
    assert 300 <= len(kept) - 200 < 300 + NODE
    (late,) = await take(broker, 1)
    assert await broker.first_unfinished(STREAM) == parse_place(late.id)
    in_future = utc_now() + timedelta(days=1)
    for since, number in ((in_future, 199), (EPOCH, len(kept))):
        assert await broker.rewind(STREAM, since, dry_run=True) == number
        assert await broker.rewind(STREAM, since) == number
    assert events(await take(broker, 2000)) == events(kept)
    await broker.close()


async def test_events_stay_until_our_group_has_read_them(redis):
    """Also before its first consumer, and if another group was created first."""
    broker = patient_broker(redis.url)
    await put(broker, "1", "2")
    await broker.trim(STREAM, 0)
    assert (await broker.backlog(STREAM)).waiting == 2
    async with Redis.from_url(redis.url) as server:
        await server.xgroup_create(STREAM, "another", id="0")
        [(_, entries)] = await server.xreadgroup("another", "a", {STREAM: ">"})
        await server.xack(STREAM, "another", *(key for key, _ in entries))
    await broker.trim(STREAM, 0)
    assert events(await take(broker)) == [b"1", b"2"]
    await broker.close()


def test_entries_that_others_have_written_or_trimmed_hide_no_others():
    """Dead letters of another program, and entries that Redis returns without fields, or as nil."""
    for tries, shown in ((b"5", 5), (b"9" * 5000, 0), (b"-1", 0), ("²".encode(), 0), (b"\xff", 0), (b"", 0)):
        assert _to_dead_letter(b"1-0", {b"tries": tries}).tries == shown
    entries = [(None, None), (b"1-0", None), (b"2-0", {b"event": b"x"})]
    assert [(each.id, each.event, each.tries) for each in _to_deliveries(entries, {"2-0": 3})] == [("2-0", b"x", 3)]


async def test_unused_consumers_are_deleted_after_a_day(redis):
    """One with pending events stays until others have them."""
    broker = patient_broker(redis.url)
    forgetful = RedisBroker(redis.url, timings=replace(PATIENT_REDIS, consumer_expiry=0))

    async def trimmed(broker):
        await broker.trim(STREAM, 0)
        async with Redis.from_url(redis.url) as server:
            return {each["name"] for each in await server.xinfo_consumers(STREAM, CONSUMER_GROUP)}

    await put(broker, "1", "2")
    (first,) = await take(broker, 1)
    await broker.acknowledge(STREAM, [first.id])
    await broker.receive(STREAM, "b", count=1, wait=0.01)
    assert await trimmed(broker) == {b"a", b"b"}
    assert await trimmed(forgetful) == {b"b"}
    (second,) = await broker.claim(STREAM, "c", count=1, min_idle=0, isolate_after=5)
    assert await trimmed(forgetful) == {b"c"}
    assert second.event == b"2"
    await broker.close()
    await forgetful.close()


async def test_largest_settings_are_accepted_by_redis(broker):
    """Length of the stream and waiting time."""
    await put(broker, "1", max_length=MAX_INTEGER)
    assert events(await take(broker)) == [b"1"]
    assert await broker.claim(STREAM, "b", count=9, min_idle=MAX_DURATION.total_seconds(), isolate_after=5) == []


async def test_failed_command_is_not_repeated():
    """Its caller decides, who knows whether a repeat is harmless."""
    commands = []

    async def serve(reader, writer):
        while data := await reader.read(65_536):
            if b"XINFO" in data:
                commands.append(data)
                break
            writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n" if b"HELLO" in data else b"+OK\r\n" * data.count(b"CLIENT"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        broker = patient_broker("redis://{}:{}".format(*server.sockets[0].getsockname()))
        with pytest.raises(BrokerError):
            await broker.trim(STREAM, 0)
        await broker.close()
    assert len(commands) == 1
