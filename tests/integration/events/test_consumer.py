"""What the consumer does with an event that fails, and while a part that it needs is out of order."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from support_service.core.clock import Backoff
from support_service.core.errors import Unavailable
from support_service.events import envelope
from support_service.events.broker.base import BrokerError
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.broker.redis import CONSUMER_GROUP
from support_service.events.consumer import MAX_TRIES, ConsumerTimings, EventConsumer
from support_service.platform.background import run_in_background
from support_service.platform.database.failures import DATABASE_BUSY, DATABASE_READ_ONLY
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case
from tests.support.events.fixtures import patient_broker, send_inbound, shipment_event
from tests.support.events.inbound import (
    CONSUMED,
    SENTENCE,
    about,
    consumed,
    database_answers,
    messages,
    wait_for_messages,
)
from tests.support.scrape import Scrape

STREAM = "support.inbound"


@pytest.fixture
def environment(environment, monkeypatch):
    monkeypatch.setattr("support_service.service.CLAIM_AFTER", 0.05)
    return environment


@pytest.fixture
async def broker(redis):
    """The broker on it."""
    broker = patient_broker(redis.url)
    yield broker
    await broker.close()


@asynccontextmanager
async def consuming(broker, instruments, apply, ping, **timings):
    hearing = EventConsumer(
        broker, apply, instruments, stream=STREAM, claim_after=0.05, ping=ping, timings=ConsumerTimings(**timings)
    )
    async with run_in_background(hearing.run()), asyncio.timeout(GENEROUS_TIMEOUT):
        yield hearing


@pytest.mark.parametrize(
    ("error", "reason", "options"),
    [
        (LookupError("no such thing"), "LookupError: no such thing", {}),
        (Unavailable(DATABASE_BUSY, "no"), "Unavailable: no", {"lock_wait": 0}),  # each of the longest duration
    ],
    ids=["error", "lock"],
)
async def test_failing_event_is_a_dead_letter_after_five_attempts(stream, broker, error, reason, options):
    """It is retried, and other events overtake it. Attempts are counted; the last one counts as a dead letter."""
    tries, done = [], asyncio.Event()

    async def apply(event):
        if event.id == "bad":
            tries.append(event.id)
            raise error
        done.set()
        return "applied"

    recorded = Metrics(("prometheus",), build_resource())
    metrics, kind = Scrape(recorded), "fulfillment.shipment.updated.v1"
    await send_inbound(stream, shipment_event("bad"))
    await send_inbound(stream, shipment_event("good"))
    async with consuming(broker, Instruments(recorded.meter), apply, database_answers, **options):
        await done.wait()
        letters = await eventually(lambda: broker.dead_letters(STREAM, 9))
        await eventually(lambda: metrics.value(CONSUMED, type=kind, outcome="dead") == 1)
    assert len(tries) == MAX_TRIES == 5
    assert (letters[0].reason, letters[0].tries) == (reason, 5)
    assert options or metrics.value(CONSUMED, type=kind, outcome="failed") == MAX_TRIES - 1
    recorded.close()


async def test_end_leaves_no_waiting_event_behind(stream, broker, instruments):
    """As long as there is time: the last batch is handled too."""
    started, go_on = asyncio.Event(), asyncio.Event()
    applied = []

    async def apply(event):
        started.set()
        await go_on.wait()
        applied.append(event.id)
        return "applied"

    for name in ("1", "2"):
        await send_inbound(stream, shipment_event(name))
    async with consuming(broker, instruments, apply, database_answers) as consumer:
        await started.wait()
        end = asyncio.create_task(consumer.handle_waiting(asyncio.get_running_loop().time() + GENEROUS_TIMEOUT))
        await broker.backlog(STREAM)
        assert not (await asyncio.wait([end], timeout=0.05))[0]
        go_on.set()
        await end
    assert applied == ["1", "2"]


async def test_rejected_event_counts_an_attempt_only_while_the_database_is_up(stream, broker, instruments):
    """While the database is down, no attempt is counted."""
    down, tries = 3, []

    async def apply(event):
        tries.append(event.id)
        raise Unavailable("database_unavailable", "no")

    async def ping():
        if tries and len(tries) <= down:
            raise Unavailable("database_unavailable", "no")

    await send_inbound(stream, shipment_event("bad"))
    async with consuming(broker, instruments, apply, ping):
        letters = await eventually(lambda: broker.dead_letters(STREAM, 9))
    assert (letters[0].tries, len(tries)) == (5, down + 5)


@pytest.mark.parametrize("code", [DATABASE_BUSY, DATABASE_READ_ONLY])
async def test_locked_or_read_only_database_counts_no_attempt(stream, broker, instruments, code):
    """The event waits until it can be applied, and no other replica takes it over."""
    tries, hour, applied = [], 3_600_000, asyncio.Event()

    async def apply(_event):
        (pending,) = await stream.xpending_range(STREAM, CONSUMER_GROUP, "-", "+", 1)
        assert code != DATABASE_BUSY or pending["times_delivered"] == 1
        tries.append(1)
        if len(tries) <= 2 * MAX_TRIES:
            assert code != DATABASE_BUSY or pending["time_since_delivered"] < hour
            me, of = pending["consumer"], [pending["message_id"]]
            if code == DATABASE_BUSY:
                await stream.xclaim(STREAM, CONSUMER_GROUP, me, 0, of, idle=hour, justid=True)
            raise Unavailable(code, "no")
        applied.set()
        return "applied"

    await send_inbound(stream, shipment_event())
    async with consuming(broker, instruments, apply, database_answers, backoff=Backoff(0.001, 0.001)):
        await applied.wait()
        assert await broker.dead_letters(STREAM, 9) == []


async def test_event_that_another_consumer_has_claimed_is_not_given_up(stream, broker):
    """The other one may apply it."""
    await send_inbound(stream, shipment_event())
    (delivery,) = await broker.receive(STREAM, "first", count=1, wait=0.1)
    await broker.claim(STREAM, "second", count=1, min_idle=0, isolate_after=5)
    await broker.move_to_dead_letters(STREAM, "first", delivery, "no good", "2026-01-01T00:00:00+00:00")
    assert await broker.dead_letters(STREAM, 9) == []
    (pending,) = await stream.xpending_range(STREAM, CONSUMER_GROUP, "-", "+", 9)
    assert pending["consumer"] == b"second"


async def test_waiting_events_are_not_taken_over_while_the_database_is_down(stream, broker, instruments):
    """Each takeover would count as an attempt."""
    pings, applied = [], asyncio.Event()

    async def apply(_event):
        applied.set()
        return "applied"

    async def ping():
        pings.append(1)
        if len(pings) <= 2 * MAX_TRIES:
            assert (await stream.xpending_range(STREAM, CONSUMER_GROUP, "-", "+", 1))[0]["times_delivered"] == 1
            raise Unavailable("database_unavailable", "no")

    await send_inbound(stream, shipment_event())
    await broker.receive(STREAM, "another", count=1, wait=0.1)
    async with consuming(broker, instruments, apply, ping):
        await applied.wait()
    assert len(pings) > 2 * MAX_TRIES


async def test_dead_letter_that_redis_refuses_is_stored_later(client, stream, metrics):
    """The other events take effect once and are acknowledged."""
    case = await open_case(client, **about("order", "order-456"))
    await stream.set(f"{STREAM}.dead", "not a stream")
    async with stream.pipeline(transaction=True) as together:
        for event in (b"{", shipment_event()):
            await send_inbound(together, event)
        await together.execute()

    async def tried_three_times():
        return (await stream.xpending_range(STREAM, CONSUMER_GROUP, "-", "+", 9))[0]["times_delivered"] >= 3

    await wait_for_messages(client, case, [SENTENCE])
    await eventually(tried_three_times)
    await stream.delete(f"{STREAM}.dead")
    assert await consumed(metrics, 2) == {"applied": 1, "dead": 1}
    assert await messages(client, case) == [SENTENCE]


class OnceBroken(InMemoryBroker):
    """A broker whose first read fails in a way that nobody foresaw."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    async def receive(self, *arguments, **named):
        self.reads += 1
        if self.reads == 1:
            raise LookupError("unforeseen")
        return await super().receive(*arguments, **named)


async def test_unexpected_error_does_not_stop_the_consumer(instruments, caplog):
    """It is logged with its traceback, and the event is read again."""
    broker, done = OnceBroken(), asyncio.Event()

    async def apply(_):
        done.set()
        return "applied"

    await broker.publish(STREAM, [json.dumps(shipment_event())], max_length=9)
    async with consuming(broker, instruments, apply, database_answers):
        await done.wait()
    assert [record.message for record in caplog.records] == ["Consuming events failed and is retried"]


class Down(InMemoryBroker):
    """A broker that can't be reached."""

    async def publish(self, *_, **__):
        raise BrokerError("down")


async def test_unknown_event_type_is_ignored_while_the_broker_is_down(instruments):
    """Events of known types take effect at once."""
    applied = []

    async def apply(event):
        applied.append(event.id)
        return "applied"

    consumer = EventConsumer(Down(), apply, instruments, stream=STREAM, claim_after=1, ping=database_answers)
    for event in (shipment_event("known"), shipment_event("unknown") | {"type": "of.another.v1"}):
        await consumer.accept_event(envelope.parse_event(json.dumps(event).encode()))
    assert applied == ["known"]
