"""Webhook deliveries for on-call: lists them by state, and replays or drops one; each change is in the audit log."""

import re
from collections.abc import Sequence
from datetime import datetime

from support_service.core.clock import utc_now
from support_service.core.errors import NotFound
from support_service.core.units import MAX_INTEGER
from support_service.events import webhook_rows
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, Row
from support_service.platform.idempotency.unit_of_work import WriteOrigin, unit_of_work


class DeliveryService:
    """The webhook deliveries of all endpoints. Their events are never shown: they hold the data of cases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, state: str, before: tuple[datetime, int] | None, limit: int) -> tuple[Sequence[Row], bool]:
        """Return up to `limit` deliveries in a state, latest `due` first, and whether there are more.

        `before` is `due` and `id` of the last delivery of the page before. Rows are those of
        `webhook_rows.list_deliveries`.
        """
        found = await webhook_rows.page_of_deliveries(self._database, state, before, limit + 1)
        return found[:limit], len(found) > limit

    async def replay(self, origin: WriteOrigin, delivery_id: str) -> None:
        """Schedule a delivery again from now on. Raises NotFound."""
        await self._change(origin, delivery_id, "webhook.replayed")

    async def drop(self, origin: WriteOrigin, delivery_id: str) -> None:
        """Delete a delivery; an attempt in progress is completed. Raises NotFound."""
        await self._change(origin, delivery_id, "webhook.dropped")

    async def _change(self, origin: WriteOrigin, delivery_id: str, action: audit.Action) -> None:
        seq = int(delivery_id) if re.fullmatch("[0-9]{1,19}", delivery_id) else 0
        if not 1 <= seq <= MAX_INTEGER:
            raise _not_found(delivery_id)
        now = utc_now()
        async with unit_of_work(self._database, origin) as work:
            delivery = await webhook_rows.lock_delivery(work.tx, seq)
            if delivery is None:
                raise _not_found(delivery_id)
            if action == "webhook.replayed":
                await webhook_rows.replay_deliveries(work.tx, now, [seq])
            else:
                await webhook_rows.delete_delivery(work.tx, seq)
            after = {"deliveryId": seq, "endpoint": delivery.endpoint, "state": "pending"}
            dropped = action == "webhook.dropped"
            changes = {
                name: (delivery.state if name == "state" else value, None if dropped else value)
                for name, value in after.items()
            }
            await audit.record(work, None, action, now, changes)


def _not_found(delivery_id: str) -> NotFound:
    return NotFound("delivery_not_found", f"There is no webhook delivery {delivery_id[:64]!r}.")
