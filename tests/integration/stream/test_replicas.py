"""The stream with Redis: a change on one replica reaches the clients of every other, also after Redis was away."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from support_service.core.clock import Backoff
from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.broker.log import LogPlace, Position
from support_service.events.relay import RelayTimings
from support_service.stream.feed import CONTINUED_COMMENT, INTERRUPTED_COMMENT, FeedTimings
from support_service.stream.presence import PresenceTimings
from support_service.stream.service import StreamTimings
from tests.support.calls import add_message, eventually, expect_json, open_case, read_case
from tests.support.service import service_of
from tests.support.stream import follow
from tests.support.timings import patient_events, patient_timings

STREAM = "support.events"
SHORT_TIMEOUT = RedisBrokerTimings(timeout=0.5)


@pytest.fixture
def timings():
    """Timings that notice soon that Redis is away, and keep little, so that replays read Redis."""
    feed = FeedTimings(wait=0.2, check_interval=0.1, backoff=Backoff(0.05, 0.1), kept_changes=2)
    return patient_timings(
        stream=replace(StreamTimings(replay_retry=0.05), feed=feed, presence=PresenceTimings(present_interval=0.1)),
        events=patient_events(broker=SHORT_TIMEOUT, log=SHORT_TIMEOUT, relay=RelayTimings(backoff=Backoff(0.05, 0.1))),
    )


@pytest.fixture
def environment(environment, redis):
    return environment | {"SUPPORT_REDIS_URL": redis.url}


@pytest.fixture
async def replicas(make_client):
    """Two replicas with one database and one Redis, which both follow: a stream opened before would read again."""
    clients = await make_client(), await make_client()
    for client in clients:
        feed = service_of(client).stream.feed
        await eventually(lambda: feed.position)  # noqa: B023 - called within the loop
    return clients


@pytest.fixture
async def connection(redis):
    async with Redis.from_url(redis.url) as connection:
        yield connection


def texts(stream):
    """Return the text of each message that a stream got, or the change type."""
    return [event.data.get("message", {}).get("message", event.data["changeType"]) for event in stream.changes]


async def test_person_with_a_stream_of_one_replica_is_present_in_the_directory_of_the_other(replicas):
    """Replicas tell each other who has an open stream."""
    first, second = replicas
    await expect_json(first.put("/support/agents/anyone", json={"displayName": "Anyone"}), 201)

    async def is_present():
        return (await expect_json(second.get("/support/agents/anyone")))["present"]

    assert not await is_present()
    async with follow(first):
        await eventually(is_present)


async def test_name_that_one_replica_has_changed_is_shown_by_the_other(replicas):
    """The other replica reads the directory again every two seconds."""
    first, second = replicas
    case = await open_case(first, assignedAgentId="agent-1")
    await expect_json(first.put("/support/agents/agent-1", json={"displayName": "Lan"}), 201)
    assert (await read_case(first, case))["names"] == {"agent-1": "Lan"}

    async def names():
        return (await read_case(second, case)).get("names")

    assert await eventually(names) == {"agent-1": "Lan"}


async def test_a_change_reaches_the_clients_of_every_replica(replicas):
    """A client that comes back to the other replica gets exactly what it has missed, also from Redis."""
    first, second = replicas
    async with follow(first) as one, follow(second) as two:
        case = await open_case(first)
        await add_message(second, case, "1")
        await eventually(lambda: len(one.changes) == len(two.changes) == 2)
        assert one.changes == two.changes
        known = one.changes[0].id
    for number in range(2, 8):
        await add_message(first, case, str(number))
    for client in replicas:
        async with follow(client, after=known) as stream:
            await eventually(lambda: len(stream.changes) == 7)
            assert texts(stream) == list("1234567")
            assert not stream.resyncs


async def test_streams_stay_open_while_redis_is_away(replicas, redis):
    """A comment says so, and another that it is back; then every change comes once, in order."""
    first, second = replicas
    case = await open_case(first)
    async with follow(first) as one, follow(second) as two:
        await add_message(first, case, "1")
        await eventually(lambda: "1" in texts(one) and "1" in texts(two))
        known = two.last_id
        redis.freeze()
        try:
            await add_message(second, case, "2")
            await add_message(first, case, "3")
            await eventually(lambda: INTERRUPTED_COMMENT in one.comments and INTERRUPTED_COMMENT in two.comments)
            async with follow(second, after=known) as late:
                await eventually(lambda: INTERRUPTED_COMMENT in late.comments)
                redis.thaw()
                await eventually(lambda: texts(late)[-2:] == ["2", "3"])
        finally:
            redis.thaw()
        for stream in (one, two):
            await eventually(lambda: texts(stream)[-3:] == ["1", "2", "3"])  # noqa: B023 - called within the loop
            assert CONTINUED_COMMENT in stream.comments
            assert not stream.ended
            assert not stream.resyncs
            assert len({event.id for event in stream.changes}) == len(stream.changes)


async def test_a_redis_that_lost_its_data_asks_to_read_again_once(replicas, redis):
    """Positions of before are foreign from then on, on every replica."""
    first, second = replicas
    async with follow(first) as stream:
        case = await open_case(first)
        await eventually(lambda: stream.changes)
        known = stream.last_id
        redis.kill()
        redis.start()
        await eventually(lambda: stream.resyncs)
        await add_message(first, case, "after")
        await eventually(lambda: "after" in texts(stream))
        assert stream.resyncs == ["foreign"]
        again = stream.last_id
    feed = service_of(second).stream.feed
    await eventually(lambda: str(feed.position) == again)
    async with follow(second, after=known) as old, follow(second, after=again) as new:
        await eventually(lambda: old.resyncs)
        await add_message(first, case, "last")
        await eventually(lambda: texts(old) == texts(new) == ["last"])
        assert old.resyncs == ["foreign"]
        assert not new.resyncs


async def test_a_position_that_was_trimmed_asks_to_read_again(replicas, connection):
    """The position of an entry that is still there does not. One of the future is foreign.

    Such as one of a Redis that has lost its latest entries.
    """
    first, _ = replicas
    feed = service_of(first).stream.feed
    position = await eventually(lambda: feed.position)
    async with follow(first, after=str(Position(position.epoch, LogPlace(10**15, 0)))) as stream:
        await eventually(lambda: stream.resyncs)
        assert stream.resyncs == ["foreign"]
    case = await open_case(first)
    async with follow(first) as stream:
        for number in range(6):
            await add_message(first, case, str(number))
        await eventually(lambda: texts(stream)[-1:] == ["5"])
        early, late = stream.changes[-6].id, stream.changes[-4].id
    await connection.xtrim(STREAM, maxlen=4, approximate=False)
    async with follow(first, after=early) as stream:
        await eventually(lambda: stream.resyncs)
        assert stream.resyncs == ["trimmed"]
        assert not stream.changes
    async with follow(first, after=late) as stream:
        await eventually(lambda: len(stream.changes) == 3)
        assert texts(stream) == list("345")
        assert not stream.resyncs


async def test_events_that_are_published_again_are_sent_once(replicas, connection):
    """A relay that was killed after it published leaves its batch to the next one; a replay leaves repeats out, too."""
    first, second = replicas
    async with follow(first) as stream:
        await eventually(lambda: stream.last_id)
        start = stream.last_id
        case = await open_case(first)
        for number in range(3):
            await add_message(first, case, str(number))
        await eventually(lambda: len(stream.changes) == 4)
        middle = stream.changes[1].id
        for _, fields in await connection.xrange(STREAM):
            await connection.xadd(STREAM, fields)
        await add_message(first, case, "new")
        await eventually(lambda: texts(stream)[-1] == "new")
        assert texts(stream) == ["case.opened", "0", "1", "2", "new"]
    for after, expected in ((start, texts(stream)), (middle, ["1", "2", "new"])):
        async with follow(second, after=after) as again:
            await eventually(lambda: "new" in texts(again))
            assert texts(again) == expected


async def test_presence_is_shared_by_the_replicas(replicas, make_client, connection, redis):
    """A replica that starts later reads what the others said in the last seconds. Redis forgets it within seconds.

    It works for the clients of the same replica while Redis is away.
    """
    first, second = replicas
    case = await open_case(first)
    async with follow(second) as stream:
        presence = f"/support/cases/{case['id']}/presence"
        await expect_json(first.put(presence, json={"state": "typing"}), 204)
        await eventually(lambda: stream.presence)
        assert stream.presence == [{"caseId": case["id"], "viewers": [{"name": "anyone", "state": "typing"}]}]
        await expect_json(first.delete(presence), 204)
        await eventually(lambda: len(stream.presence) == 2, within=10)  # it is valid for 15 s
        assert stream.presence[1] == {"caseId": case["id"], "viewers": []}
        await expect_json(first.put(presence, json={"state": "typing"}), 204)
        await eventually(lambda: len(stream.presence) == 3)
    third = service_of(await make_client()).stream.presence
    await eventually(lambda: third.viewers(case["id"]))
    assert (await read_case(second, case))["viewers"] == [{"name": "anyone", "state": "typing"}]
    assert 0 < await connection.pttl(f"{STREAM}.notes") <= 15_000
    other = await open_case(first)
    redis.freeze()
    try:
        await expect_json(first.put(f"/support/cases/{other['id']}/presence", json={"state": "viewing"}), 204)
        assert (await read_case(first, other))["viewers"]
    finally:
        redis.thaw()
