"""Webhook deliveries by the API: listed by state, replayed and dropped."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from support_service.platform.database.tables import audit_log, webhook_deliveries
from tests.support.calls import expect_json, expect_problem
from tests.support.each import each_row
from tests.support.events.webhooks import store_deliveries
from tests.support.service import own_client, service_of

client = own_client

DELIVERIES = "/support/webhook-deliveries"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)  # kept for 30 days
FAR = datetime(2126, 5, 12, 12, tzinfo=UTC)  # due in a hundred years: no sender touches it


async def page(client, **query):
    """Return a page of deliveries."""
    return await expect_json(client.get(DELIVERIES, params=query))


async def states(client):
    """Return the state of each delivery."""
    rows = await service_of(client).database.fetch_all(sa.select(webhook_deliveries).order_by(webhook_deliveries.c.seq))
    return [(row.seq, row.state, row.tries, row.reason) for row in rows]


async def audited(client):
    """Return the audit log."""
    rows = await service_of(client).database.fetch_all(sa.select(audit_log.c.action, audit_log.c.changes))
    return [(row.action, row.changes) for row in rows]


async def test_deliveries_are_listed_by_state_in_pages(client):
    """Failed ones by default, latest first; each is on one page, also among deliveries that ended at the same time."""
    late, later = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    ids = await store_deliveries(
        client, *(("failed", due) for due in (later, NOON, late, late, late)), ("pending", FAR)
    )
    seen, cursor = [], {}
    while not seen or cursor["cursor"]:
        found = await page(client, limit="2", **cursor)
        seen += [each["id"] for each in found["items"]]
        cursor = {"cursor": found["nextCursor"]}
    assert seen == [ids[each] for each in (0, 4, 3, 2, 1)]
    (pending,) = (await page(client, state="pending"))["items"]
    assert pending == {
        "id": ids[5],
        "endpoint": "desk",
        "type": "t",
        "state": "pending",
        "tries": 9,
        "since": "2126-05-12T12:00:00Z",
        "due": "2126-05-12T12:00:00Z",
        "reason": "why",
    }
    assert (await page(client, state="delivered"))["items"] == []


async def test_delivery_is_replayed(client):
    """It is pending again, from now on, and is recorded."""
    first, second = await store_deliveries(client, ("failed", NOON), ("failed", NOON))
    for _ in range(2):
        path = f"{DELIVERIES}/{first}/replay"
        await expect_json(client.post(path, headers={"Idempotency-Key": "k"}), 204)
    assert (second, "failed", 9, "why") in await states(client)
    assert (first, "failed", 9, "why") not in await states(client)
    changes = f'{{"deliveryId":[{first},{first}],"endpoint":["desk","desk"],"state":["failed","pending"]}}'
    assert await audited(client) == [("webhook.replayed", changes)]


async def test_delivery_is_dropped(client):
    first, second = await store_deliveries(client, ("pending", FAR), ("failed", NOON))
    await expect_json(client.delete(f"{DELIVERIES}/{first}"), 204)
    assert await states(client) == [(second, "failed", 9, "why")]
    await expect_problem(client.delete(f"{DELIVERIES}/{first}"), 404, "delivery_not_found")
    changes = f'{{"deliveryId":[{first},null],"endpoint":["desk",null],"state":["pending",null]}}'
    assert await audited(client) == [("webhook.dropped", changes)]


@each_row("delivery", ["0", "-1", "abc", "1_0", "9" * 19, "9" * 20, "1.0"])
async def test_unknown_delivery_is_not_found(shared_client, delivery):
    await expect_problem(shared_client.post(f"{DELIVERIES}/{delivery}/replay"), 404, "delivery_not_found")
    await expect_problem(shared_client.delete(f"{DELIVERIES}/{delivery}"), 404, "delivery_not_found")


@each_row("query", [{"state": "lost"}, {"limit": "201"}, {"cursor": "x"}, {"cursor": "_" * 22}])
async def test_wrong_query_is_refused(shared_client, query):
    await expect_problem(shared_client.get(DELIVERIES, params=query), 422, "invalid_request")
