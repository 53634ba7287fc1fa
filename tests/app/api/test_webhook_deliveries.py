"""Webhook deliveries by the API: listed by state, replayed and dropped."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from support_service.platform.database.tables import audit_log
from tests.support.calls import expect_json, expect_problem
from tests.support.events.webhooks import store_deliveries
from tests.support.service import own_client, service_of

client = own_client

DELIVERIES = "/support/webhook-deliveries"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)  # kept for 30 days
FAR = datetime(2126, 5, 12, 12, tzinfo=UTC)  # due in a hundred years: no sender touches it


async def test_deliveries_are_listed_replayed_and_dropped(client):
    """Failed ones by default, latest first. A replayed one is pending from now on. Both changes are recorded."""

    async def page(**query):
        found = await expect_json(client.get(DELIVERIES, params=query))
        return found["items"], found["nextCursor"]

    due = (NOON + timedelta(hours=1), NOON, NOON)
    ids = await store_deliveries(client, *(("failed", each) for each in due), ("pending", FAR))
    first, cursor = await page(limit="2")
    rest, end = await page(limit="2", cursor=cursor)
    assert ([each["id"] for each in first + rest], end) == ([ids[0], ids[2], ids[1]], None)
    (pending,), _ = await page(state="pending")
    shown = {"id": ids[3], "endpoint": "desk", "type": "t", "state": "pending", "tries": 9, "reason": "why"}
    assert pending == shown | dict.fromkeys(("since", "due"), "2126-05-12T12:00:00Z")
    assert await page(state="delivered") == ([], None)
    await expect_json(client.delete(f"{DELIVERIES}/{ids[3]}"), 204)
    await expect_problem(client.delete(f"{DELIVERIES}/{ids[3]}"), 404, "delivery_not_found")
    for _ in range(2):
        path = f"{DELIVERIES}/{ids[0]}/replay"
        await expect_json(client.post(path, headers={"Idempotency-Key": "k"}), 204)
    assert [each["id"] for each in (await page())[0]] == [ids[2], ids[1]]
    rows = await service_of(client).database.fetch_all(sa.select(audit_log.c.action, audit_log.c.changes))
    changes = '{"deliveryId":[%d,%s],"endpoint":["desk",%s],"state":["%s",%s]}'
    assert [(row.action, row.changes) for row in rows] == [
        ("webhook.dropped", changes % (ids[3], "null", "null", "pending", "null")),
        ("webhook.replayed", changes % (ids[0], ids[0], '"desk"', "failed", '"pending"')),
    ]


async def test_unknown_deliveries_and_wrong_queries_are_refused(shared_client):
    for delivery in ("0", "-1", "abc", "1_0", "9" * 19, "9" * 20, "1.0"):
        await expect_problem(shared_client.post(f"{DELIVERIES}/{delivery}/replay"), 404, "delivery_not_found")
        await expect_problem(shared_client.delete(f"{DELIVERIES}/{delivery}"), 404, "delivery_not_found")
    for query in ({"state": "lost"}, {"limit": "201"}, {"cursor": "x"}, {"cursor": "_" * 22}):
        await expect_problem(shared_client.get(DELIVERIES, params=query), 422, "invalid_request")
