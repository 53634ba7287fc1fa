"""Webhook deliveries for on-call, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.errors import NotFound
from support_service.events.delivery_replay import DeliveryService
from support_service.platform.database.tables import audit_log, webhook_deliveries
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases

pytestmark = both_databases
NOON = datetime(2026, 5, 12, 12, tzinfo=UTC)


@pytest.fixture
def store(database):
    """Store deliveries that are (state, minutes after noon); return their ids."""

    async def store(*rows):
        async with database.transaction() as tx:
            for state, minutes in rows:
                due = NOON + timedelta(minutes=minutes)
                row = {"endpoint": "desk", "type": "t", "event": "{}", "state": state, "tries": 9, "reason": "why"}
                await tx.execute(webhook_deliveries.insert(), row | {"since": due, "due": due})
        rows = await database.fetch_all(sa.select(webhook_deliveries.c.seq).order_by(webhook_deliveries.c.seq))
        return [row.seq for row in rows]

    return store


async def test_pages_have_each_delivery_of_a_state_once(database, store):
    """Latest first; of deliveries that ended at the same time the newest first."""
    ids = await store(*(("failed", minutes) for minutes in (2, 0, 1, 1, 1)), ("pending", 9))
    service, pages, before, more = DeliveryService(database), [], None, True
    while more:
        page, more = await service.page("failed", before, 2)
        pages.append([row.id for row in page])
        before = page[-1].due, page[-1].id
    assert pages == [[ids[0], ids[4]], [ids[3], ids[2]], [ids[1]]]
    assert [row.id for row in (await service.page("pending", None, 2))[0]] == ids[5:]


async def test_delivery_is_replayed_or_dropped(database, store):
    """A replay makes only this one pending again, from now on; each change is in the audit log."""
    replayed, dropped, kept = await store(*(("failed", minutes) for minutes in range(3)))
    service = DeliveryService(database)
    await service.replay(SYSTEM_ORIGIN, str(replayed))
    await service.drop(SYSTEM_ORIGIN, str(dropped))
    for unknown in (str(dropped), str(2**63 - 1), "9" * 19, "0", "\0"):
        with pytest.raises(NotFound):
            await service.replay(SYSTEM_ORIGIN, unknown)
    rows = await database.fetch_all(sa.select(webhook_deliveries).order_by(webhook_deliveries.c.seq))
    assert [(row.seq, row.state, row.tries, row.reason) for row in rows] == [
        (replayed, "pending", 0, None),
        (kept, "failed", 9, "why"),
    ]
    assert rows[0].due == rows[0].since > NOON
    actions = [row.action for row in await database.fetch_all(sa.select(audit_log.c.action))]
    assert sorted(actions) == ["webhook.dropped", "webhook.replayed"]
