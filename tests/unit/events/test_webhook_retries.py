"""When a delivery that failed is made again."""

from datetime import timedelta

import aiohttp
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.events.webhook_sender import WebhookSender
from support_service.platform.background import WorkSignal
from support_service.platform.database.tables import webhook_deliveries
from support_service.platform.settings.value_types import WebhookSetting
from tests.support.events.webhooks import SECRET

HOURS = 3600
SECONDS = {0: 5, 1: 15, 2: 45, 6: 3645, 7: 3 * HOURS + 135, 8: 4 * HOURS, 400: 4 * HOURS}  # by failed tries before it


async def test_delays_grow_to_four_hours_for_a_day(database, instruments):
    """The first one is 5 s, each further one three times the last, up to a fifth less. After a day there is none."""
    row = {"endpoint": "desk", "type": "t", "event": '{"id": "1"}', "state": "pending", "due": utc_now()}
    async with database.transaction() as tx:
        for tries in SECONDS:
            await tx.execute(webhook_deliveries.insert(), row | {"tries": tries, "since": utc_now()})
        day = utc_now() - timedelta(days=1)
        await tx.execute(webhook_deliveries.insert(), row | {"tries": 9, "since": day + timedelta(hours=3)})
        await tx.execute(webhook_deliveries.insert(), row | {"tries": 0, "since": day})
    endpoint = WebhookSetting(name="desk", url="http://127.0.0.1:1/", secret=SECRET)
    async with aiohttp.ClientSession() as session:
        sender = WebhookSender(database, session, instruments, [endpoint], lambda: True, created=WorkSignal())
        before = utc_now()
        await sender.deliver("desk")
        after = utc_now()
    rows = await database.fetch_all(sa.select(webhook_deliveries).order_by(webhook_deliveries.c.seq))
    for row, (tries, seconds) in zip(rows, SECONDS.items(), strict=False):
        assert (row.state, row.tries) == ("pending", tries + 1)
        assert before + timedelta(seconds=0.8 * seconds) <= row.due <= after + timedelta(seconds=seconds)
    assert [row.state for row in rows[-2:]] == ["failed", "failed"]
