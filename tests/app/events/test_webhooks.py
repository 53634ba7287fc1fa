"""Webhooks: signed, retried, given up after a day, replayed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from support_service.events import erasure, webhook_sender
from support_service.events.delivery_replay import replay_deliveries
from support_service.events.relay import RelayTimings, delete_published
from support_service.events.webhook_sender import MAX_CONCURRENT_DELIVERIES, PURGE_BATCH, WebhookTimings
from support_service.platform.audit.entry_rows import read_head_and_oldest_unsealed
from support_service.platform.audit.log import SealerTimings
from support_service.platform.database.tables import outbox, webhook_deliveries
from tests.conftest import both_databases
from tests.support.calls import add_message, eventually, open_case
from tests.support.events.webhooks import SECRET, store_deliveries
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import SHORT_LEASE, patient_events, patient_timings

DELIVERIES = "support_webhook_deliveries_total"
OVERDUE = "support_webhook_overdue_age_seconds"
MORE_THAN_AT_ONCE = 2 * MAX_CONCURRENT_DELIVERIES + 1


def outcomes(metrics, outcome):
    """Return the number of deliveries with an outcome, of all endpoints."""
    return sum(value for _, labels, value in metrics.samples(DELIVERIES) if labels["outcome"] == outcome)


async def retried(client, count):
    """Wait until so many deliveries have failed at their first try; return the reasons."""

    async def reasons():
        tried = sa.select(webhook_deliveries.c.reason).where(webhook_deliveries.c.tries == 1)
        return [row.reason for row in await service_of(client).database.fetch_all(tried)]

    async def complete():
        found = await reasons()
        return found if len(found) == count else None

    return await eventually(complete)


@pytest.fixture
def environment(environment, endpoint):
    """A service without Redis that tells two endpoints, one of them of openings alone."""
    url = str(endpoint.server.make_url("/hook"))
    hooks = [
        {"name": "all", "url": url, "secret": SECRET},
        {"name": "openings", "url": url, "secret": SECRET, "types": ["support.case.opened.v1"]},
    ]
    return environment | {"SUPPORT_WEBHOOKS": json.dumps(hooks)}


async def change(client, **values):
    """Change every delivery."""
    async with service_of(client).database.transaction() as tx:
        await tx.execute(webhook_deliveries.update().values(values))


async def states(client):
    """The states of all deliveries."""
    rows = await service_of(client).database.fetch_all(sa.select(webhook_deliveries.c.state))
    return sorted(row[0] for row in rows)


async def wait_for_states(client, expected):
    """Wait until the deliveries are in exactly these states."""

    async def reached():
        return await states(client) == expected

    await eventually(reached)


@both_databases
async def test_each_endpoint_gets_its_event_types_signed(client, endpoint, metrics):
    """The library of Standard Webhooks accepts the signature."""
    case = await open_case(client)
    await add_message(client, case)
    events = await endpoint.got(3)
    assert sorted(event["type"].split(".")[2] for event in events) == ["opened", "opened", "updated"]
    for headers, body in endpoint.sent:
        assert Webhook(SECRET).verify(body, headers)["subject"] == case["id"]
        assert headers["webhook-id"] == json.loads(body)["id"]
        assert headers["Content-Type"] == "application/cloudevents+json"
    await wait_for_states(client, ["delivered"] * 3)
    assert outcomes(metrics, "delivered") == 3
    assert metrics.value(DELIVERIES, endpoint="openings", outcome="delivered") == 1
    assert metrics.value(DELIVERIES, endpoint="other", outcome="failed") == 0
    address = {"server_address": endpoint.server.host, "server_port": str(endpoint.server.port)}
    labels = {"http_request_method": "POST", "http_response_status_code": "204", **address}
    assert metrics.value("http_client_request_duration_seconds_count", **labels) == 3


@both_databases
async def test_change_is_delivered_and_sealed_without_waiting_for_a_poll(make_client, endpoint):
    """A change wakes the jobs of its process: the relay, the sender of webhooks, and the sealer of the audit log."""
    client = await make_client(
        timings=patient_timings(
            audit=SealerTimings(seal_interval=0.0, poll_interval=3600.0),
            events=patient_events(
                relay=RelayTimings(poll_interval=3600.0, shared_poll_interval=3600.0, lease_duration=3600.0),
                webhooks=WebhookTimings(poll_interval=3600.0),
            ),
        )
    )
    case = await open_case(client)
    assert {event["subject"] for event in await endpoint.got(2)} == {case["id"]}
    await wait_for_states(client, ["delivered"] * 2)
    await add_message(client, case)
    await endpoint.got(3)
    database = service_of(client).database

    async def everything_sealed():
        head, oldest_unsealed = await read_head_and_oldest_unsealed(database)
        return (head.position, oldest_unsealed) == (2, None)

    await eventually(everything_sealed)


@both_databases
async def test_failed_delivery_is_retried(client, endpoint, metrics, caplog):
    """A retry has the same id. After a day the delivery is given up. Each attempt is logged."""
    endpoint.status = 503
    await open_case(client)
    await endpoint.got(2)
    await eventually(lambda: outcomes(metrics, "retried") >= 2)
    assert await states(client) == ["pending"] * 2
    retries = {(each.name.rpartition(".")[2], each.getMessage()) for each in caplog.records if "retried" in each.msg}
    assert ("all", "A webhook delivery to all failed and is retried: The endpoint responded 503.") in retries
    await change(client, due=datetime.now(UTC), since=datetime.now(UTC) - timedelta(days=1))
    events = await endpoint.got(4)
    assert len({event["id"] for event in events}) == 1
    await wait_for_states(client, ["failed"] * 2)
    assert outcomes(metrics, "failed") == 2


@pytest.mark.parametrize("status", [300, 307])
async def test_a_redirect_is_a_failed_try(client, endpoint, metrics, status):
    """The event and its signature go to the configured URL alone."""
    endpoint.status, endpoint.headers = status, {"Location": "/elsewhere"}
    await open_case(client)
    assert await retried(client, 2) == [f"The endpoint responded {status}."] * 2
    assert outcomes(metrics, "retried") == 2


async def test_requests_without_an_answer_are_measured(client, endpoint, metrics):
    """A refused connection has the error type `connection`, and no status."""
    await endpoint.server.close()
    await open_case(client)
    name = "http_client_request_duration_seconds_count"
    await eventually(lambda: sum(value for _, _, value in metrics.samples(name)) >= 2)
    (labels,) = metrics.label_sets(name)
    assert labels["error_type"] == "connection"
    assert "http_response_status_code" not in labels


async def test_interim_answers_of_an_endpoint_are_limited(client, endpoint, metrics):
    """An endpoint that never comes to its answer occupies neither the event loop nor the delivery."""
    endpoint.interim_answers = 1000
    await open_case(client)
    await endpoint.got(2)
    assert all("too many interim answers" in reason for reason in await retried(client, 2))


async def test_endpoint_that_answers_410_gets_no_retry(client, endpoint, metrics):
    """The delivery has failed, with the reason."""
    endpoint.status = 410
    await open_case(client)
    await endpoint.got(2)
    await wait_for_states(client, ["failed"] * 2)
    assert outcomes(metrics, "failed") == 2
    ((reason, tries), _) = await service_of(client).database.fetch_all(
        sa.select(webhook_deliveries.c.reason, webhook_deliveries.c.tries)
    )
    assert ("410" in reason, tries) == (True, 1)


@pytest.mark.parametrize("timings", [SHORT_LEASE])
async def test_deliveries_of_a_removed_endpoint_fail(client, make_client, endpoint):
    """This holds even if no other endpoint is configured."""
    endpoint.status = 503
    await open_case(client)
    await endpoint.got(2)
    await client.close()
    without = await make_client(SUPPORT_WEBHOOKS=None)
    await change(without, state="pending", due=datetime.now(UTC), since=datetime.now(UTC) - timedelta(hours=1))
    await wait_for_states(without, ["failed"] * 2)


async def test_new_endpoint_loses_nothing_to_a_replica_without_it(client, make_client, endpoint):
    """During a rollout, a replica that was not restarted yet leads."""
    endpoint.status = 503
    await open_case(client)
    await endpoint.got(2)
    without = await make_client(SUPPORT_WEBHOOKS=None)
    await change(without, due=datetime.now(UTC))
    assert await service_of(without).webhooks.deliver(None) == 0
    assert await states(without) == ["pending"] * 2


@both_databases
async def test_delay_of_a_slow_endpoint_is_measured(make_client, endpoint):
    """It is the time since a delivery was due. A failed delivery that waits for its next attempt is not late."""
    release = asyncio.Event()

    async def hang(_request):
        await release.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hang)
    async with TestServer(app) as slow:
        hooks = {"slow": str(slow.make_url("/hook")), "refusing": str(endpoint.server.make_url("/hook"))}
        endpoint.status = 503
        client = await make_client(
            SUPPORT_WEBHOOKS=json.dumps([{"name": name, "url": url, "secret": SECRET} for name, url in hooks.items()])
        )
        sender, metrics = service_of(client).webhooks, Scrape(service_of(client).metrics)
        await open_case(client)
        await retried(client, 1)
        async with service_of(client).database.transaction() as tx:
            late = webhook_deliveries.update().where(webhook_deliveries.c.endpoint == "slow")
            await tx.execute(late.values(due=datetime.now(UTC) - timedelta(hours=1)))
        await sender.refresh()
        assert 3600 <= metrics.value(OVERDUE, endpoint="slow") < 7200
        assert metrics.value(OVERDUE, endpoint="refusing") == 0
        release.set()
        await wait_for_states(client, ["delivered", "pending"])
        await sender.refresh()
        assert metrics.value(OVERDUE, endpoint="slow") == 0


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
    await wait_for_states(client, ["failed"])


async def test_hanging_endpoints_do_not_delay_others(make_client, endpoint):
    """Each of the hanging ones has more due deliveries than run concurrently."""
    release = asyncio.Event()

    async def hang(_request):
        await release.wait()
        return web.Response()

    async def all_delivered():
        return (await states(client)).count("delivered") >= MORE_THAN_AT_ONCE

    app = web.Application()
    app.router.add_post("/hook", hang)
    async with TestServer(app) as hanging:
        names = [f"hangs-{number}" for number in range(7)]
        hooks = [{"name": name, "url": str(hanging.make_url("/hook")), "secret": SECRET} for name in names]
        hooks.append({"name": "well", "url": str(endpoint.server.make_url("/hook")), "secret": SECRET})
        client = await make_client(SUPPORT_WEBHOOKS=json.dumps(hooks))
        for _ in range(MORE_THAN_AT_ONCE):
            await open_case(client)
        assert len({event["id"] for event in await endpoint.got(MORE_THAN_AT_ONCE)}) == MORE_THAN_AT_ONCE
        await eventually(all_delivered)
        release.set()


async def test_replay_counts_although_an_attempt_fails_afterwards(make_client):
    """The attempt began before the replay. It was the last one of its day."""
    attempts, release = [], asyncio.Event()

    async def fail_once(_request):
        attempts.append(1)
        if len(attempts) > 1:
            return web.Response()
        await release.wait()
        return web.Response(status=503)

    app = web.Application()
    app.router.add_post("/hook", fail_once)
    async with TestServer(app) as hanging:
        hook = {"name": "desk", "url": str(hanging.make_url("/hook")), "secret": SECRET}
        client = await make_client(SUPPORT_WEBHOOKS=json.dumps([hook]))
        began = datetime.now(UTC) - timedelta(hours=22)
        (delivery,) = await store_deliveries(client, ("pending", began), event='{"id": "event-1"}')
        await eventually(lambda: attempts)
        async with client.post(f"/support/webhook-deliveries/{delivery}/replay") as response:
            assert response.status == 204
        release.set()
        await wait_for_states(client, ["delivered"])
    assert len(attempts) == 2


async def test_webhooks_are_delivered_while_redis_is_down(make_client, endpoint, redis):
    """This holds for any number of events in the outbox."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    redis.kill()
    async with service_of(client).database.transaction() as tx:
        told = json.dumps({"id": "old"})
        row = {"type": "support.case.updated.v1", "at": "2026-01-01T00:00:00Z", "event": told, "fanned_out": True}
        await tx.execute(outbox.insert(), [row] * (RelayTimings().publish_batch + 50))
    await open_case(client)
    assert [event["type"] for event in await endpoint.got(2)] == ["support.case.opened.v1"] * 2
    redis.start()


async def fan_out(database, fresh):
    """Make deliveries of events as the relay does."""
    seqs = [seq for seq, _ in fresh]
    async with database.transaction() as tx:
        await webhook_sender.fan_out(tx, seqs, [("all", seqs)], datetime.now(UTC))


async def keep(database, event):
    """Put an event into the outbox; gives what the relay sees of it."""
    row = {"type": "t", "at": "2026-01-01T00:00:00Z", "event": event}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), row)
    return await webhook_sender.read_events_to_fan_out(database, 10)


async def waiting(database):
    """Until a transaction waits for another's lock."""
    await eventually(lambda: database.fetch_one(sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_deliveries_created_during_an_erasure_have_no_erased_data(database):
    """They contain what the erasure has left of the event."""
    fresh = await keep(database, '{"subject":"case-1","said":"zaphod"}')
    async with database.transaction() as tx:
        await erasure.rewrite_stored_events(tx, ["case-1"], lambda event: event.replace("zaphod", "erased"))
        making = asyncio.create_task(fan_out(database, fresh))
        await waiting(database)
    await making
    events = await database.fetch_all(sa.select(webhook_deliveries.c.event))
    assert events == [('{"subject":"case-1","said":"erased"}',)]


@both_databases
async def test_erasure_covers_deliveries_of_an_older_release(database):
    """With or without a case id; deliveries of other cases stay as they are."""
    told = [
        ("case-1", '{"subject":"case-1","said":"zaphod"}'),
        (None, '{"subject":"case-1","said":"zaphod"}'),
        (None, '{"subject":"case-2","said":"zaphod"}'),
        ("case-2", '{"subject":"case-2","said":"zaphod"}'),
    ]
    row = {"type": "t", "at": "2026-01-01T00:00:00Z"}
    async with database.transaction() as tx:
        await tx.execute(outbox.insert(), [row | {"case_id": case, "event": event} for case, event in told])
    await fan_out(database, await webhook_sender.read_events_to_fan_out(database, 10))
    async with database.transaction() as tx:
        counted = await erasure.rewrite_stored_events(tx, ["case-1"], lambda event: event.replace("zaphod", "erased"))
    assert counted == {"outboxEvents": 2, "keptEvents": 0, "webhookDeliveries": 2}
    for table in (outbox, webhook_deliveries):
        found = await database.fetch_all(sa.select(table.c.case_id, table.c.event).order_by(table.c.seq))
        assert [tuple(each) for each in found] == [
            (case, event.replace("zaphod", "erased") if "case-1" in event else event) for case, event in told
        ]


MEETING = {
    "an erasure of what is to be published": (outbox, lambda tx: erasure.rewrite_stored_events(tx, ["case-1"], str)),
    "an erasure of what is to be delivered": (
        webhook_deliveries,
        lambda tx: erasure.rewrite_stored_events(tx, ["case-1"], str),
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


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_only_one_replica_creates_the_deliveries_of_an_event(database):
    """Two replicas both act as the relay."""
    fresh = await keep(database, "{}")
    seqs = [seq for seq, _ in fresh]
    async with database.transaction() as tx:
        await webhook_sender.fan_out(tx, seqs, [("all", seqs)], datetime.now(UTC))
        making = asyncio.create_task(fan_out(database, fresh))
        await waiting(database)
    await making
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 1


async def test_only_one_replica_creates_the_deliveries_of_an_event_on_sqlite(database):
    """The second one runs after the first."""
    fresh = await keep(database, "{}")
    await fan_out(database, fresh)
    await fan_out(database, fresh)
    assert len(await database.fetch_all(sa.select(webhook_deliveries.c.seq))) == 1
