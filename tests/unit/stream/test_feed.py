"""The feed of the stream, if a change can't be passed on to every stream."""

import asyncio
from dataclasses import replace

import pytest

from support_service.core.clock import Backoff
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable
from support_service.events.broker.log import LogPlace, LogRead
from support_service.events.broker.memory import InMemoryLog
from support_service.stream.feed import CONTINUED_COMMENT, INTERRUPTED_COMMENT, FeedTimings
from support_service.stream.frames import comment_frame
from support_service.stream.service import StreamTimings
from support_service.stream.subscribers import QueueLimits
from tests.support.calls import eventually
from tests.support.published_changes import BOSS, Follower, following, make_stream, owners, published_change, running

ANALYST = Principal("analyst", "analyst")
AT_ONCE = FeedTimings(wait=0.01, backoff=Backoff(0.01, 0.01))


async def test_a_change_that_fails_makes_every_stream_read_again(instruments):
    """Streams behind the failed stream have not got the change; the next change reaches all of them."""

    def refuse(_case):
        raise TypeError  # as a defect in the masking

    log = InMemoryLog()
    stream = make_stream(log, instruments, StreamTimings(feed=AT_ONCE), mask=refuse)
    async with running(stream):
        failing = stream.open(ANALYST, "masked", lambda: ANALYST, lambda: None)
        stream.subscribers.add(failing)
        async with following(stream) as client:
            await eventually(lambda: len(stream.subscribers) == 2)
            log.append([published_change(1)])
            await eventually(lambda: b"event: resync" in client.text)
            stream.subscribers.discard(failing)
            log.append([published_change(2)])
            await eventually(lambda: b"event-2" in client.text)
            assert (client.text.count(b"event: resync"), client.text.count(b"event-1")) == (1, 0)


async def test_a_stream_that_is_opened_while_a_change_is_passed_on_gets_it_once(instruments):
    log, opening, late = InMemoryLog(), [], Follower()

    def open_another(case):
        if not opening:
            opening.append(asyncio.create_task(late.follow(stream, BOSS, "full", start)))
        return case

    timings = StreamTimings(feed=AT_ONCE, queue=QueueLimits(streams_per_pause=1))
    stream = make_stream(log, instruments, timings, mask=open_another)
    async with running(stream):
        start = str(stream.feed.position)
        async with following(stream, None, ANALYST, "masked"), following(stream) as early:
            await eventually(lambda: len(stream.subscribers) == 2)
            log.append([published_change(1)])
            await eventually(lambda: b"event-1" in late.text)
            log.append([published_change(2)])
            await eventually(lambda: b"event-2" in late.text)
        stream.shut_down()
        await asyncio.gather(*opening)
    assert [late.text.count(each) for each in (b"event-1", b"event-2")] == [1, 1]
    assert early.text.count(b"event-1") == 1


async def test_late_changes_wait_for_the_database(instruments):
    """A change that was held up is passed on once it is known who may see its case; none is lost or repeated.

    The interruption lasts until then, and its end is reported before the changes.
    """
    log, asked = InMemoryLog(), []

    async def recovering_owners(case_ids):
        asked.append(case_ids)
        if len(asked) < 3:
            raise Unavailable("database_unavailable", "away")
        return await owners(case_ids)

    stream = make_stream(log, instruments, StreamTimings(feed=AT_ONCE), read_owners=recovering_owners)
    async with running(stream), following(stream) as client:
        await eventually(lambda: len(stream.subscribers) == 1)
        log.append([published_change(1), published_change(2)])
        await eventually(lambda: b"event-2" in client.text)
    assert [client.text.count(each) for each in (b"event-1", b"event-2", b"event: resync")] == [1, 1, 0]
    assert asked == [{"case-1"}] * 3
    interrupted, continued = map(comment_frame, (INTERRUPTED_COMMENT, CONTINUED_COMMENT))
    assert [client.text.count(each) for each in (interrupted, continued)] == [1, 1]
    assert client.text.index(continued) < client.text.index(b"event-1")


class NotingLog(InMemoryLog):
    def __init__(self):
        super().__init__()
        self.read_again = []

    async def entries(self, after, count):
        self.read_again.append(after.number)
        return await super().entries(after, count)


@pytest.mark.parametrize(
    "bound", [{"kept_changes": 2}, {"kept_bytes": 2 * len(published_change(1))}], ids=["changes", "bytes"]
)
async def test_changes_are_kept_in_memory_up_to_either_bound(instruments, bound):
    """Older ones are replayed from the log."""
    log = NotingLog()
    stream = make_stream(log, instruments, StreamTimings(feed=FeedTimings(wait=0.01, **bound)))
    async with running(stream):
        log.append([published_change(number) for number in (1, 2, 3)])
        await eventually(lambda: stream.feed.passed_on.place == LogPlace(3))
        for known, expected in ((1, [2, 3]), (0, [1, 2, 3])):
            position = stream.feed.position._replace(place=LogPlace(known))
            replayed = [change async for page in stream.feed.replay(str(position), LogPlace(3)) for change in page]
            assert [change.position.place.number for change in replayed] == expected
    assert log.read_again == [0]


@pytest.mark.parametrize("lost", [{"epoch": "0" * 8}, {"last": LogPlace(0)}], ids=["another log", "its last entries"])
async def test_streams_read_again_after_either_loss_of_the_log(instruments, monkeypatch, lost):
    """Another log may be as long, and one that lost its last entries has the same epoch."""
    log, resyncs = InMemoryLog(), []
    stream = make_stream(log, instruments, StreamTimings(feed=FeedTimings(wait=0.01, check_interval=0.0)))
    monkeypatch.setattr(stream.feed, "_count_resync", lambda reason, _: resyncs.append(reason))
    async with running(stream):
        log.append([published_change(1)])
        await eventually(lambda: stream.feed.passed_on.place == LogPlace(1))
        state = replace(await log.state(), **lost)

        async def state_after_the_loss():
            return state

        monkeypatch.setattr(log, "state", state_after_the_loss)
        await eventually(lambda: "foreign" in resyncs)


class FrozenLog(InMemoryLog):
    """A log as on Redis: a read does not say what it leaves out.

    Its reader is frozen once in a call, with one change in its hands, until the next changes are trimmed.
    """

    def __init__(self, call):
        super().__init__(max_entries=3)
        self._frozen_in = call

    def _freeze(self, call):
        if self._frozen_in == call and self._last == LogPlace(1):
            self.append([published_change(number) for number in range(2, 10)])

    async def state(self):
        found = await super().state()
        self._freeze("state")
        return found

    async def follow(self, after, wait):
        read = await super().follow(after, wait)
        if read.entries:
            self._freeze("follow")
        return LogRead(read.entries, read.notes)


@pytest.mark.parametrize("call", ["state", "follow", None])
async def test_streams_read_again_after_a_replica_was_frozen_for_too_long(instruments, monkeypatch, call):
    """The log loses changes that are not read, as if they come faster than they are passed on."""
    log, resyncs = FrozenLog(call), []
    stream = make_stream(log, instruments, StreamTimings(feed=FeedTimings(wait=0.01, check_interval=0.0)))
    monkeypatch.setattr(stream.feed, "_count_resync", lambda reason, _: resyncs.append(reason))
    async with running(stream):
        log.append([published_change(number) for number in range(1 if call else 9)])
        await eventually(lambda: stream.feed.passed_on.place == LogPlace(9))
    assert resyncs == ["restarted", "trimmed"]
    await log.close()  # its changes got too old before they were read
    assert not (await InMemoryLog.follow(log, LogPlace(0), wait=0.0)).is_whole
