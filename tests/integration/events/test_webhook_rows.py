"""Rows of webhook deliveries: what erasures, replays and replicas do at once, and how long they are kept."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.events import event_erasure, webhook_sender
from support_service.events.delivery_replay import replay_deliveries
from support_service.events.relay import RelayTimings, delete_published
from support_service.events.webhook_sender import PURGE_BATCH
from support_service.platform.database.tables import outbox, webhook_deliveries
from tests.conftest import both_databases
from tests.support.calls import eventually, open_case
from tests.support.events.webhooks import SECRET
from tests.support.service import service_of
from tests.support.timings import patient_events, patient_timings


@both_databases
async def test_old_deliveries_are_deleted(make_client):
    """Delivered ones after a day, failed ones after 30 days, in any number."""
    client = await make_client(timings=patient_timings(events=patient_events(backlog_refresh_interval=0.1)))
    database, now = service_of(client).database, datetime.now(UTC)
    row = {"endpoint": "all", "type": "t", "event": "{}", "tries": 1, "since": now}
    async with database.transaction() as tx:
        for state, days, number in (("delivered", 2, 2 * PURGE_BATCH + 1), ("failed", 31, 1), ("failed", 2, 1)):
            old = row | {"state": state, "due": now - timedelta(days=days)}
            await tx.execute(webhook_deliveries.insert(), [old] * number)

    async def states():
        return [row.state for row in await database.fetch_all(sa.select(webhook_deliveries.c.state))]

    async def one_is_left():
        return await states() == ["failed"]

    await eventually(one_is_left)


async def test_webhooks_are_delivered_while_redis_is_down(make_client, endpoint, redis):
    """This holds for any number of events in the outbox."""
    hook = {"name": "all", "url": str(endpoint.server.make_url("/hook")), "secret": SECRET}
    client = await make_client(SUPPORT_REDIS_URL=redis.url, SUPPORT_WEBHOOKS=json.dumps([hook]))
    redis.kill()
    async with service_of(client).database.transaction() as tx:
        told = json.dumps({"id": "old"})
        row = {"type": "support.case.updated.v1", "at": "2026-01-01T00:00:00Z", "event": told, "fanned_out": True}
        await tx.execute(outbox.insert(), [row] * (RelayTimings().publish_batch + 50))
    await open_case(client)
    assert [event["type"] for event in await endpoint.got(1)] == ["support.case.opened.v1"]
    redis.start()


async def fan_out(database, fresh):
    """Make deliveries of events as the relay does."""
    seqs = [seq for seq, _ in fresh]
    async with database.transaction() as tx:
        await webhook_sender.fan_out(tx, seqs, [("all", seqs)], datetime.now(UTC))


async def keep(database, event):
    """Put an event into the outbox; gives what the relay sees of it."""
    row = {"type": "t", "at": "2026-01-01T00:00:00Z", "event": event, "case_id": "case-1"}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), row)
    return await webhook_sender.read_events_to_fan_out(database, 10)


async def waiting(database):
    """Until a transaction waits for another's lock."""
    await eventually(lambda: database.fetch_now(sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_deliveries_created_during_an_erasure_have_no_erased_data(database):
    """They contain what the erasure has left of the event."""
    fresh = await keep(database, '{"subject":"case-1","said":"zaphod"}')
    async with database.transaction() as tx:
        await event_erasure.rewrite_stored_events(tx, ["case-1"], lambda event: event.replace("zaphod", "erased"))
        making = asyncio.create_task(fan_out(database, fresh))
        await waiting(database)
    await making
    events = await database.fetch_all(sa.select(webhook_deliveries.c.event))
    assert events == [('{"subject":"case-1","said":"erased"}',)]


@both_databases
async def test_erasure_covers_events_and_deliveries_of_its_case(database):
    """Events of other cases, and of the whole database, stay as they are."""
    told = [
        ("case-1", '{"subject":"case-1","said":"zaphod"}'),
        (None, '{"subject":"database","said":"zaphod"}'),
        ("case-2", '{"subject":"case-2","said":"zaphod"}'),
    ]
    row = {"type": "t", "at": "2026-01-01T00:00:00Z"}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), [row | {"case_id": case, "event": event} for case, event in told])
    await fan_out(database, await webhook_sender.read_events_to_fan_out(database, 10))
    async with database.transaction() as tx:
        counted = await event_erasure.rewrite_stored_events(
            tx, ["case-1"], lambda event: event.replace("zaphod", "erased")
        )
    assert counted == {"outboxEvents": 1, "keptEvents": 0, "webhookDeliveries": 1}
    for table in (outbox, webhook_deliveries):
        found = await database.fetch_all(sa.select(table.c.case_id, table.c.event).order_by(table.c.seq))
        assert [tuple(each) for each in found] == [
            (case, event.replace("zaphod", "erased") if "case-1" in event else event) for case, event in told
        ]


MEETING = {
    "an erasure of what is to be published": (
        outbox,
        lambda tx: event_erasure.rewrite_stored_events(tx, ["case-1"], str),
    ),
    "an erasure of what is to be delivered": (
        webhook_deliveries,
        lambda tx: event_erasure.rewrite_stored_events(tx, ["case-1"], str),
    ),
    "a publication": (outbox, lambda tx: delete_published(tx, [1, 2, 3])),
    "the making of deliveries": (outbox, lambda tx: webhook_sender.fan_out(tx, [1, 2, 3], [], datetime.now(UTC))),
    "a replay": (webhook_deliveries, lambda tx: replay_deliveries(tx, datetime.now(UTC), None)),
}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("who", MEETING)
async def test_rows_are_always_locked_in_the_same_order(database, who):
    """So two transactions can't deadlock."""
    table, work = MEETING[who]
    event, now = {"type": "t", "event": "{}", "case_id": "case-1"}, datetime.now(UTC)
    delivery = {"endpoint": "all", "state": "failed", "tries": 1, "since": now, "due": now}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), [event | {"at": "2026-01-01T00:00:00Z"}] * 3)
        await tx.execute(webhook_deliveries.insert(), [event | delivery] * 3)
        for kept in (outbox, webhook_deliveries):
            await tx.execute(kept.update().where(kept.c.seq == 1).values(type="u"))  # it lies behind the others now

    async def meet():
        async with database.transaction() as tx:
            await work(tx)

    async with database.transaction() as tx:
        await tx.fetch_all(sa.select(table.c.seq).where(table.c.seq == 1).with_for_update())
        meeting = asyncio.create_task(meet())
        await waiting(database)
        assert len(await tx.fetch_all(sa.select(table.c.seq).with_for_update(nowait=True))) == 3
    await meeting


@both_databases
async def test_only_one_replica_creates_the_deliveries_of_an_event(database, backend):
    """Two replicas both act as the relay. On SQLite the second one runs after the first."""
    fresh = await keep(database, "{}")
    seqs = [seq for seq, _ in fresh]
    async with database.transaction() as tx:
        await webhook_sender.fan_out(tx, seqs, [("all", seqs)], datetime.now(UTC))
        making = asyncio.create_task(fan_out(database, fresh))
        if backend == "postgresql":
            await waiting(database)
    await making
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 1
