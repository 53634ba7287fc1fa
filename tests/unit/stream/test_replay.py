"""A replay of many changes: other tasks run between its steps, and each step asks the database once."""

import asyncio

import pytest

from support_service.core.clock import Backoff
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable
from support_service.events.broker.base import BrokerError
from support_service.events.broker.log import LogPlace, Position
from support_service.events.broker.memory import InMemoryLog
from support_service.platform.background import run_in_background
from support_service.stream.feed import CONTINUED_COMMENT, INTERRUPTED_COMMENT, FeedTimings
from support_service.stream.frames import comment_frame
from support_service.stream.service import DATABASE_AWAY_COMMENT, StreamTimings
from tests.support.calls import eventually
from tests.support.published_changes import Follower, following, make_stream, owners, published_change, running

CHANGES, PAGE = 50, 10
CONTINUED, INTERRUPTED = comment_frame(CONTINUED_COMMENT), comment_frame(INTERRUPTED_COMMENT)


def filled_log(number=CHANGES, **options):
    log = InMemoryLog(**options)
    log.append([published_change(each) for each in range(number)])
    return log


def place(stream, number):
    """Return the id of a change in the log of a stream."""
    return str(Position(stream.feed.position.epoch, LogPlace(number)))


@pytest.mark.parametrize("subject", ["customer-1", "customer-2"], ids=["sees all", "sees none"])
@pytest.mark.parametrize("are_kept", [True, False], ids=["from memory", "from the log"])
async def test_other_tasks_run_between_the_steps_of_a_replay(instruments, subject, are_kept):
    """Also if neither the log nor the client makes it wait."""
    log = filled_log(0 if are_kept else CHANGES)
    turn, steps = 0, []

    async def take_turns():
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def owners_at_a_turn(case_ids):
        steps.append(turn)
        return await owners(case_ids)

    timings = StreamTimings(heartbeat=0.01, feed=FeedTimings(page_size=PAGE))
    stream = make_stream(log, instruments, timings, read_owners=owners_at_a_turn)
    customer = Principal("customer", "customer", subject)
    async with running(stream):
        if are_kept:
            log.append([published_change(number) for number in range(CHANGES)])
        await eventually(lambda: stream.feed.passed_on and stream.feed.passed_on.place == LogPlace(CHANGES))
        steps.clear()
        async with run_in_background(take_turns()), following(stream, place(stream, 0), customer, "public") as client:
            await eventually(lambda: b": alive" in client.text)  # it has no more to replay
    assert len(steps) == len({*steps}) == CHANGES // PAGE
    assert client.text.count(b"event: support.case") == (CHANGES if subject == "customer-1" else 0)


@pytest.mark.parametrize("step", [1, 3])
async def test_each_step_of_a_replay_reads_the_owners_of_its_cases_at_once(instruments, step):
    """While the database is away at a step, the stream says so. Later it goes on behind what it has sent."""
    asked = []

    async def owners_after_an_outage(case_ids):
        asked.append(set(case_ids))
        if len(asked) == step:
            raise Unavailable("database_unavailable", "The database does not answer.")
        return await owners(case_ids)

    timings = StreamTimings(replay_retry=0.01, feed=FeedTimings(page_size=PAGE))
    stream = make_stream(filled_log(), instruments, timings, read_owners=owners_after_an_outage)
    async with running(stream), following(stream, place(stream, 0)) as client:
        await eventually(lambda: f'"event-{CHANGES - 1}"'.encode() in client.text)
    assert client.text.count(b"event: support.case") == CHANGES
    assert asked == [{"case-1"}] * (1 + CHANGES // PAGE)
    assert DATABASE_AWAY_COMMENT.encode() in client.frames[step]
    assert client.frames[step + 1].startswith(CONTINUED)
    assert client.text.count(CONTINUED) == 1


class AwayLog(InMemoryLog):
    """A log that can't be reached until it is told so."""

    is_away = True

    async def state(self):
        if self.is_away:
            raise BrokerError("away")
        return await super().state()


async def test_client_that_comes_before_the_log_was_reached_is_told_that_it_was(instruments):
    """Also if the log was reached before the stream was added to the others."""
    log = AwayLog()
    stream = make_stream(log, instruments, StreamTimings(replay_retry=0.01, feed=FeedTimings(backoff=Backoff(0, 0))))

    class Client(Follower):
        async def write(self, frame):
            await super().write(frame)
            log.is_away = self.frames.count(INTERRUPTED) < 2
            await eventually(lambda: log.is_away or stream.feed.position)  # the feed goes on before the stream does

    async with running(stream), following(stream, "another-1-0", client=Client()) as client:
        await eventually(lambda: b"event: resync" in client.text)
    assert client.text.rindex(INTERRUPTED) < client.text.index(CONTINUED) < client.text.index(b"event: resync")


async def lose_some(log):
    log.append([published_change(CHANGES + number) for number in range(2 * PAGE)])


async def lose_all(log):
    await log.close()


@pytest.mark.parametrize("lose", [lose_some, lose_all])
async def test_changes_that_the_log_loses_during_a_replay_make_the_client_read_again(instruments, lose):
    log, client = filled_log(max_entries=CHANGES), Follower()

    async def owners_while_changes_are_lost(case_ids):
        if b"event: support.case" not in client.text:
            await lose(log)
        return await owners(case_ids)

    timings = StreamTimings(feed=FeedTimings(page_size=PAGE))
    stream = make_stream(log, instruments, timings, read_owners=owners_while_changes_are_lost)
    async with running(stream), following(stream, place(stream, 0), client=client):
        await eventually(lambda: b'"reason":"trimmed"' in client.text)
    assert client.text.count(b"event: support.case") == PAGE


async def test_heartbeats_do_not_take_a_client_back(instruments):
    """It comes from a replica that has read changes which this one has not."""
    log = InMemoryLog()
    stream = make_stream(log, instruments, StreamTimings(heartbeat=0.01))
    async with running(stream):
        pass
    behind = stream.feed.passed_on
    log.append([published_change(0)])
    async with following(stream, place(stream, 1)) as client:
        await eventually(lambda: client.text.count(b": alive") > 1)
    assert str(behind).encode() not in client.text
