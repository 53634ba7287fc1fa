"""The outbox and its relay, with a broker in the process."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.core.clock import Backoff, utc_now
from support_service.core.errors import Unavailable
from support_service.events import republishing
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.relay import OutboxRelay, RelayTimings, delete_published
from support_service.events.webhook_sender import WebhookSender, fan_out
from support_service.platform.background import WorkSignal, run_in_background
from support_service.platform.database.tables import leases, outbox, published_events, webhook_deliveries
from support_service.platform.settings.value_types import WebhookSetting
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.scrape import Scrape

HOOK = WebhookSetting(name="hook", url="http://127.0.0.1:1/", secret="whsec_" + "c2Vj" * 8)
STREAM = "support.events"
OLDEST = "support_events_outbox_oldest_seconds"


async def publishable(database, *numbers):
    row = {"type": "t", "at": "2026-01-01T00:00:00+00:00", "fanned_out": False}
    rows = [row | {"seq": number, "event": f'{{"id": "{number}"}}'} for number in numbers]
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), rows)


async def left(database):
    return [seq for (seq,) in await database.fetch_all(sa.select(outbox.c.seq).order_by(outbox.c.seq))]


@pytest.fixture
def create_relay(database, instruments):
    """Return a relay to a broker with one endpoint, which takes two events at once and never rests."""
    timings = RelayTimings(publish_batch=2, batch_interval=0.0, poll_interval=0.0, backoff=Backoff(0.0, 0.0))

    def create(broker, **options):
        given = {"stream": STREAM, "max_stream_length": 9, "endpoints": [HOOK], "timings": timings} | options
        return OutboxRelay(database, broker, instruments, **given)

    return create


@pytest.fixture
def relay(create_relay):
    return create_relay(InMemoryBroker())


async def test_webhook_deliveries_are_created_before_publishing(database, relay):
    """In batches, until all events of the batch have theirs. The background loop may have handled a part of it.

    Only published events are deleted: events of other transactions may have numbers between theirs. Without a broker
    that can lose them, they are not kept, and what an earlier configuration has kept is deleted.
    """
    await publishable(database, 1, 2, 3, 4)
    async with database.transaction() as tx:
        await fan_out(tx, [1], [("hook", [1])], datetime.now(UTC))
        await republishing.keep_published(tx, [9], 1, utc_now())
    await relay.close()  # without a lease it publishes nothing
    assert await left(database) == [1, 2, 3, 4]
    assert [await relay.publish_batch() for _ in range(3)] == [2, 2, 0]
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 4
    await publishable(database, 5, 6, 7)
    async with database.transaction() as tx:
        await delete_published(tx, [5, 7])
    assert await left(database) == [6]
    await relay.refresh_backlog()
    assert await kept(database) == []


async def test_background_loop_creates_deliveries_batch_by_batch(database, create_relay, monkeypatch):
    """Also while the broker hangs. It waits while the database is unavailable."""
    publishing, transaction, failed = asyncio.Event(), database.transaction, []

    class HangingBroker(InMemoryBroker):
        async def publish(self, *_, **__):
            publishing.set()
            await asyncio.Event().wait()

    def fail_at_first():
        if len(failed) < 2:
            failed.append(1)
            raise Unavailable("database_unavailable", "It is out of reach.")
        return transaction()

    async def all_made():
        return len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 6

    await publishable(database, 1, 2)
    monkeypatch.setattr(database, "transaction", fail_at_first)
    async with run_in_background(create_relay(HangingBroker()).run()):
        await publishing.wait()
        await publishable(database, 3, 4, 5, 6)
        await eventually(all_made)
    assert await left(database) == [1, 2, 3, 4, 5, 6]


@both_databases
async def test_events_of_other_replicas_are_published_without_a_signal(database, instruments):
    """The leader looks for them, more often on a database that replicas share."""
    short, never = 0.001, 3600.0
    timings = RelayTimings(
        batch_interval=0.0,
        poll_interval=never if database.is_shared else short,
        shared_poll_interval=short if database.is_shared else never,
    )
    relay = OutboxRelay(database, InMemoryBroker(), instruments, stream=STREAM, max_stream_length=9, timings=timings)
    async with run_in_background(relay.run()):
        await eventually(relay.is_leader)
        await publishable(database, 1)

        async def published():
            return await left(database) == []

        await eventually(published)


async def test_lease_is_written_again_only_when_it_is_due(database, instruments):
    """The relay looks for events ten times a second, and each write takes the database's lock."""
    timings = RelayTimings(lease_duration=3600.0)
    relay = OutboxRelay(database, InMemoryBroker(), instruments, stream=STREAM, max_stream_length=9, timings=timings)
    await relay.publish_batch()
    before = await database.fetch_all(sa.select(leases))
    await relay.publish_batch()
    assert await database.fetch_all(sa.select(leases)) == before
    assert relay.is_leader()


async def test_age_of_the_oldest_event_is_unknown_before_the_first_query(database):
    """It is not reported as 0."""
    metrics = Metrics(("prometheus",), build_resource())
    scrape = Scrape(metrics)
    relay = OutboxRelay(database, InMemoryBroker(), Instruments(metrics.meter), stream=STREAM, max_stream_length=9)
    assert scrape.label_sets(OLDEST) == []
    await relay.refresh_backlog()
    assert scrape.value(OLDEST) == 0.0
    metrics.close()


async def test_unexpected_error_is_raised_after_the_other_deliveries(database, instruments):
    """The result of the others is stored."""
    asked = []

    class FailingSession:
        def post(self, *_, **__):
            asked.append(1)
            raise LookupError("unforeseen") if len(asked) == 1 else aiohttp.ClientConnectionError("refused")

    webhooks = WebhookSender(database, FailingSession(), instruments, [HOOK], lambda: True, created=WorkSignal())
    await publishable(database, 1, 2)
    async with database.transaction() as tx:
        await fan_out(tx, [1, 2], [("hook", [1, 2])], datetime.now(UTC))
    with pytest.raises(LookupError, match="unforeseen"):
        await webhooks.deliver("hook")
    tries = await database.fetch_all(sa.select(webhook_deliveries.c.tries))
    assert sorted(number for (number,) in tries) == [0, 1]


HOUR = timedelta(hours=1)


async def kept(database):
    """The numbers of the published events that are kept, with the numbers of their publications."""
    events = published_events.c
    found = await database.fetch_all(sa.select(events.seq, events.publication).order_by(events.seq))
    return [tuple(row) for row in found]


class ForgetfulBroker(InMemoryBroker):
    """A broker whose replica takes over, with the publications that it has."""

    def __init__(self):
        super().__init__()
        self.published = []  # the events of each publication

    async def publish(self, stream, events, **options):
        number = await super().publish(stream, events, **options)
        self.published.append([event.split('"')[3] for event in events])
        return number

    def fail_over(self, kept):
        self.published = self.published[:kept]
        self._streams[STREAM].publications = kept


async def publish_all(relay):
    while await relay.publish_batch():
        pass


@both_databases
async def test_published_events_are_kept_for_a_while(database, create_relay):
    """With the number of their publication. Events without a number after them are kept likewise."""
    relay = create_relay(InMemoryBroker(), keep_published=HOUR)
    await publishable(database, 1, 2, 4)
    await publish_all(relay)
    assert (await left(database), await kept(database)) == ([], [(1, 1), (2, 1), (4, 2)])
    await relay.refresh_backlog()
    assert len(await kept(database)) == 3
    old = published_events.update().where(published_events.c.seq < 4).values(published_at=utc_now() - HOUR)
    async with database.transaction() as tx:
        await tx.execute(old)
    await relay.refresh_backlog()
    assert await kept(database) == [(4, 2)]


async def test_events_that_the_broker_has_lost_are_published_again(database, create_relay):
    """Before newer events, in their order and with the same ids. Their webhook deliveries are not made again.

    The running relay compares the number of publications, so that it finds a loss without new events.
    """
    broker = ForgetfulBroker()
    relay = create_relay(broker, keep_published=HOUR)
    await publishable(database, 1, 2, 3, 4, 5)
    await publish_all(relay)
    assert broker.published == [["1", "2"], ["3", "4"], ["5"]]
    broker.fail_over(kept=1)
    await publishable(database, 6)
    assert await relay.publish_batch() == 0
    await publish_all(relay)
    assert broker.published == [["1", "2"], ["3", "4"], ["5"], ["6"]]
    assert await kept(database) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 4)]
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 6
    await relay.close()
    timings = RelayTimings(batch_interval=0.0, poll_interval=0.001, shared_poll_interval=0.001, check_interval=0.0)
    async with run_in_background(create_relay(broker, keep_published=HOUR, timings=timings).run()):
        broker.fail_over(kept=3)
        await eventually(lambda: [*itertools.chain(*broker.published)] == [*"123456"])


async def test_relay_that_takes_over_finds_what_was_lost(database, create_relay):
    """Also if the former relay has ended while it marked the events."""
    broker = ForgetfulBroker()
    await publishable(database, 1, 2, 3, 4)
    former = create_relay(broker, keep_published=HOUR)
    await publish_all(former)
    broker.fail_over(kept=0)
    async with database.transaction() as tx:  # the first transaction of several
        await tx.execute(republishing.MARK_TO_BE_REPEATED, {"first": 1, "last": 2, "count": 2})
        await tx.execute(leases.update().values(expires_at=0))
    relay = create_relay(broker, keep_published=HOUR)
    assert await relay.publish_batch() == 0
    await publish_all(relay)
    assert broker.published == [["1", "2"], ["3", "4"]]


@both_databases
async def test_operator_publishes_events_of_a_time_again(database, create_relay):
    """Events that were published since then, once, although they count as published now."""
    broker = ForgetfulBroker()
    relay = create_relay(broker, keep_published=HOUR)
    await publishable(database, 1, 2, 3)
    await publish_all(relay)
    old = published_events.update().where(published_events.c.seq < 3).values(published_at=utc_now() - HOUR / 2)
    async with database.transaction() as tx:
        await tx.execute(old)
    chosen = await republishing.published_since(database, utc_now() - HOUR / 4)
    assert (chosen.first, chosen.last, chosen.events) == (2, 2, 1)
    assert await republishing.mark_to_be_repeated(database, chosen.first, chosen.last) == 1
    await publish_all(relay)
    assert broker.published == [["1", "2"], ["3"], ["3"]]
    assert await republishing.mark_to_be_repeated(database, chosen.first, chosen.last) == 0
    assert (await republishing.published_since(database, utc_now() + HOUR)).events == 0
