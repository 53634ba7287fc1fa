"""The outbox and its relay, with a broker in the process."""

import asyncio
from datetime import UTC, datetime

import aiohttp
import pytest
import sqlalchemy as sa

from support_service.core.clock import Backoff
from support_service.core.errors import Unavailable
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.relay import OutboxRelay, RelayTimings, delete_published
from support_service.events.webhook_sender import WebhookSender, fan_out
from support_service.platform.background import WorkSignal, run_in_background
from support_service.platform.database.tables import leases, outbox, webhook_deliveries
from support_service.platform.settings.values import WebhookSetting
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.scrape import Scrape

HOOK = WebhookSetting(name="hook", url="http://127.0.0.1:1/", secret="whsec_" + "c2Vj" * 8)
STREAM = "support.events"
OLDEST = "support_events_outbox_oldest_seconds"


async def publishable(database, *numbers):
    """Put an event with each number into the outbox."""
    at = "2026-01-01T00:00:00+00:00"
    rows = [{"seq": number, "type": "t", "at": at, "event": '{"id": "e"}', "fanned_out": False} for number in numbers]
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), rows)


async def left(database):
    """The numbers of the events in the outbox."""
    return [seq for (seq,) in await database.fetch_all(sa.select(outbox.c.seq).order_by(outbox.c.seq))]


@pytest.fixture
def create_relay(database, instruments):
    """Return a relay to a broker with one endpoint, which takes two events at once and never rests."""
    timings = RelayTimings(publish_batch=2, batch_interval=0.0, poll_interval=0.0, backoff=Backoff(0.0, 0.0))

    def create(broker):
        return OutboxRelay(
            database, broker, instruments, stream=STREAM, max_stream_length=9, endpoints=[HOOK], timings=timings
        )

    return create


@pytest.fixture
def relay(create_relay):
    """Such a relay to a broker in this process."""
    return create_relay(InMemoryBroker())


async def test_only_published_events_are_deleted(database):
    """Events of other transactions may have numbers between theirs."""
    await publishable(database, 1, 2, 3)
    async with database.transaction() as tx:
        await delete_published(tx, [1, 3])
    assert await left(database) == [2]


async def test_webhook_deliveries_are_created_before_publishing(database, relay):
    """In batches, until all events of the batch have theirs."""
    await publishable(database, 1, 2, 3, 4)
    await relay.close()  # without a lease it publishes nothing
    assert await left(database) == [1, 2, 3, 4]
    assert [await relay.publish_batch() for _ in range(3)] == [2, 2, 0]
    assert await left(database) == []
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 4


async def test_events_of_a_batch_get_their_deliveries_even_if_others_have_them(database, relay):
    """The background loop may have handled a part of the batch."""
    await publishable(database, 1, 2)
    async with database.transaction() as tx:
        await fan_out(tx, [1], [("hook", [1])], datetime.now(UTC))
    assert await relay.publish_batch() == 2
    assert await left(database) == []
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 2


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
