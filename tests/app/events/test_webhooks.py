"""Webhooks: signed, retried, given up after a day, replayed."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from support_service.events.relay import RelayTimings
from support_service.events.webhook_sender import MAX_CONCURRENT_DELIVERIES, WebhookTimings
from support_service.platform.audit.entry_rows import read_head_and_oldest_unsealed
from support_service.platform.database.tables import webhook_deliveries
from tests.support.calls import add_message, eventually, expect_json, open_case
from tests.support.events.webhooks import SECRET, Endpoint, store_deliveries
from tests.support.scrape import Scrape
from tests.support.servers import free_port
from tests.support.service import service_of
from tests.support.timings import patient_events, patient_timings

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


def hooks_of(urls, **options):
    """Return the setting for endpoints, by their names."""
    return json.dumps([{"name": name, "url": str(url), "secret": SECRET} | options for name, url in urls.items()])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_endpoint():
    endpoint = Endpoint()
    await endpoint.server.start_server()
    yield endpoint
    await endpoint.server.close()


@pytest.fixture(scope="module")
def two_hooks(running_endpoint):
    """One endpoint twice: as one of all events, and as one of openings alone."""
    hooks = json.loads(hooks_of(dict.fromkeys(("all", "openings"), running_endpoint.server.make_url("/hook"))))
    hooks[1]["types"] = ["support.case.opened.v1"]
    return {"SUPPORT_WEBHOOKS": json.dumps(hooks)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(make_shared_client, two_hooks):
    return await make_shared_client(**two_hooks)


@pytest_asyncio.fixture(loop_scope="module")
async def client(two):
    """A client of a service without Redis that tells two endpoints, and has nothing to tell yet."""
    async with service_of(two).database.transaction() as tx:
        await tx.execute(webhook_deliveries.delete())
    return two


@pytest_asyncio.fixture(loop_scope="module")
async def endpoint(client, running_endpoint):
    """The endpoint, which accepts everything."""
    running_endpoint.sent.clear()
    running_endpoint.status, running_endpoint.headers, running_endpoint.interim_answers = 204, {}, 0
    return running_endpoint


@pytest.fixture
def metrics(metric_changes):
    """By how much the test changes the metrics of that service."""
    return metric_changes


@asynccontextmanager
async def serving(handler):
    """Another endpoint. Yield its URL."""
    app = web.Application()
    app.router.add_post("/hook", handler)
    async with TestServer(app) as server:
        yield server.make_url("/hook")


async def change(client, **values):
    """Change every delivery."""
    async with service_of(client).database.transaction() as tx:
        await tx.execute(webhook_deliveries.update().values(values))


async def states(client):
    rows = await service_of(client).database.fetch_all(sa.select(webhook_deliveries.c.state))
    return sorted(row[0] for row in rows)


async def wait_for_states(client, expected):
    """Wait until the deliveries are in exactly these states."""

    async def reached():
        return await states(client) == expected

    await eventually(reached)


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
    requests = metrics.samples("http_client_request_duration_seconds_count")
    assert sum(value for _, given, value in requests if labels.items() <= given.items()) == 3


async def test_change_is_delivered_and_sealed_without_waiting_for_a_poll(
    make_shared_client, endpoint, two_hooks, constants
):
    """A change wakes the jobs of its process: the relay, the sender of webhooks, and the sealer of the audit log."""
    relay = RelayTimings(poll_interval=3600.0, shared_poll_interval=3600.0, lease_duration=3600.0)
    events = patient_events(relay=relay, webhooks=WebhookTimings(poll_interval=3600.0))
    constants("platform.audit.log", SEAL_INTERVAL=0.0, POLL_INTERVAL=3600.0)
    client = await make_shared_client(**two_hooks, timings=patient_timings(events=events))
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


async def test_a_redirect_and_interim_answers_without_end_are_failed_tries(client, endpoint):
    """The event and its signature go to the configured URL alone. Nothing occupies the event loop or the delivery."""
    for status, interim, reason in (
        (300, 0, "The endpoint responded 300."),
        (307, 0, "The endpoint responded 307."),
        (204, 1000, "too many interim answers"),
    ):
        endpoint.status, endpoint.interim_answers = status, interim
        endpoint.headers = {"Location": "/elsewhere"}
        await open_case(client)
        assert [reason in each for each in await retried(client, 2)] == [True] * 2
        await change(client, state="failed", tries=2)


async def test_requests_without_an_answer_are_measured(make_shared_client):
    """A refused connection has the error type `connection`, and no status."""
    client = await make_shared_client(SUPPORT_WEBHOOKS=hooks_of({"down": f"http://127.0.0.1:{free_port()}/hook"}))
    metrics = Scrape(service_of(client).metrics)
    await open_case(client)
    name = "http_client_request_duration_seconds_count"
    await eventually(lambda: sum(value for _, _, value in metrics.samples(name)) >= 1)
    (labels,) = metrics.label_sets(name)
    assert labels["error_type"] == "connection"
    assert "http_response_status_code" not in labels


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


async def test_deliveries_of_a_removed_endpoint_fail_an_hour_later(make_shared_client):
    """During a rollout a replica that was not restarted yet leads, and a new endpoint loses nothing to it."""
    without = await make_shared_client()
    await store_deliveries(without, ("pending", datetime.now(UTC)))
    assert await service_of(without).webhooks.deliver(None) == 0
    assert await states(without) == ["pending"]
    await change(without, due=datetime.now(UTC), since=datetime.now(UTC) - timedelta(hours=1))
    await wait_for_states(without, ["failed"])


async def test_delay_of_a_slow_endpoint_is_measured_and_others_do_not_wait_for_it(make_shared_client, endpoint):
    """It is the time since a delivery was due. A failed delivery that waits for its next attempt is not late.

    Each of the slow ones has more due deliveries than run concurrently.
    """
    release = asyncio.Event()

    async def hang(_request):
        await release.wait()
        return web.Response()

    async def all_delivered():
        return (await states(client)).count("delivered") >= MORE_THAN_AT_ONCE

    async with serving(hang) as url:
        urls = {f"hangs-{number}": url for number in range(7)} | {"well": endpoint.server.make_url("/hook")}
        urls["refusing"] = f"http://127.0.0.1:{free_port()}/hook"
        client = await make_shared_client(SUPPORT_WEBHOOKS=hooks_of(urls))
        sender, metrics = service_of(client).webhooks, Scrape(service_of(client).metrics)
        await open_case(client)
        await retried(client, 1)
        for _ in range(MORE_THAN_AT_ONCE - 1):
            await open_case(client)
        assert len({event["id"] for event in await endpoint.got(MORE_THAN_AT_ONCE)}) == MORE_THAN_AT_ONCE
        await eventually(all_delivered)
        async with service_of(client).database.transaction() as tx:
            late = webhook_deliveries.update().where(webhook_deliveries.c.endpoint == "hangs-1")
            await tx.execute(late.values(due=datetime.now(UTC) - timedelta(hours=1)))
        await sender.refresh()
        assert 3600 <= metrics.value(OVERDUE, endpoint="hangs-1") < 7200
        assert metrics.value(OVERDUE, endpoint="well") == 0
        release.set()
        await wait_for_states(client, ["delivered"] * 8 * MORE_THAN_AT_ONCE + ["pending"] * MORE_THAN_AT_ONCE)
        await sender.refresh()
        assert [metrics.value(OVERDUE, endpoint=name) for name in ("hangs-1", "refusing")] == [0, 0]


async def test_replay_counts_although_an_attempt_fails_afterwards(make_shared_client):
    """The attempt began before the replay. It was the last one of its day."""
    attempts, release = [], asyncio.Event()

    async def fail_once(_request):
        attempts.append(1)
        if len(attempts) > 1:
            return web.Response()
        await release.wait()
        return web.Response(status=503)

    async with serving(fail_once) as url:
        client = await make_shared_client(SUPPORT_WEBHOOKS=hooks_of({"desk": url}))
        began = datetime.now(UTC) - timedelta(hours=22)
        (delivery,) = await store_deliveries(client, ("pending", began), event='{"id": "event-1"}')
        await eventually(lambda: attempts)
        await expect_json(client.post(f"/support/webhook-deliveries/{delivery}/replay"), 204)
        release.set()
        await wait_for_states(client, ["delivered"])
    assert len(attempts) == 2
