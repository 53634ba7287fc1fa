"""Webhook deliveries for on-call: lists them by state, and replays or drops one; each change is in the audit log."""

import re
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, problem
from support_service.core.units import MAX_INTEGER
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.statements import locked_in_order
from support_service.platform.database.tables import webhook_deliveries
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

_DELIVERY = webhook_deliveries.c  # columns of a delivery
_SELECT_SHOWN_COLUMNS = sa.select(
    _DELIVERY.seq.label("id"),
    _DELIVERY.endpoint,
    _DELIVERY.type,
    _DELIVERY.state,
    _DELIVERY.tries,
    _DELIVERY.since,
    _DELIVERY.due,
    _DELIVERY.reason,
)
SELECT_DELIVERIES = _SELECT_SHOWN_COLUMNS.order_by(_DELIVERY.seq.desc()).limit(sa.bindparam("count"))
_BEFORE = sa.tuple_(sa.bindparam("due", type_=UtcDateTime()), sa.bindparam("seq", type_=sa.BigInteger))
# In the order of the index on state and due, so that a page of any state is read without sorting the others.
SELECT_IN_STATE = (
    _SELECT_SHOWN_COLUMNS.where(_DELIVERY.state == sa.bindparam("wanted"))
    .order_by(_DELIVERY.due.desc(), _DELIVERY.seq.desc())
    .limit(sa.bindparam("count"))
)
SELECT_IN_STATE_BEFORE = SELECT_IN_STATE.where(
    _DELIVERY.due <= sa.bindparam("due", type_=UtcDateTime()), sa.tuple_(_DELIVERY.due, _DELIVERY.seq) < _BEFORE
)
LOCK_DELIVERY = (
    sa.select(_DELIVERY.endpoint, _DELIVERY.state).where(_DELIVERY.seq == sa.bindparam("delivery")).with_for_update()
)


class DeliveryService:
    """The webhook deliveries of all endpoints. Their events are never shown: they hold the data of cases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, state: str, before: tuple[datetime, int] | None, limit: int) -> tuple[Sequence[Row], bool]:
        """Return up to `limit` deliveries in a state, latest `due` first, and whether there are more.

        `before` is `due` and `id` of the last delivery of the page before. Rows have the columns of `list_deliveries`.
        """
        shown = {"wanted": state, "count": limit + 1}
        if before is None:
            found = await self._database.fetch_all(SELECT_IN_STATE, shown)
        else:
            found = await self._database.fetch_all(SELECT_IN_STATE_BEFORE, shown | {"due": before[0], "seq": before[1]})
        return found[:limit], len(found) > limit

    async def replay(self, origin: WriteOrigin, delivery_id: str) -> None:
        """Schedule a delivery again from now on."""
        await self._change_with_audit_entry(origin, delivery_id, "webhook.replayed")

    async def drop(self, origin: WriteOrigin, delivery_id: str) -> None:
        """Delete a delivery; an attempt in progress is completed."""
        await self._change_with_audit_entry(origin, delivery_id, "webhook.dropped")

    async def _change_with_audit_entry(self, origin: WriteOrigin, delivery_id: str, action: audit.Action) -> None:
        seq = int(delivery_id) if re.fullmatch("[0-9]{1,19}", delivery_id) else 0
        if not 1 <= seq <= MAX_INTEGER:
            raise _delivery_not_found(delivery_id)
        now = utc_now()
        async with unit_of_work(self._database, origin) as work:
            delivery = await work.tx.fetch_now(LOCK_DELIVERY, {"delivery": seq})
            if delivery is None:
                raise _delivery_not_found(delivery_id)
            if action == "webhook.replayed":
                await replay_deliveries(work.tx, now, [seq])
            else:
                await work.tx.execute(webhook_deliveries.delete().where(_DELIVERY.seq == seq))
            after = {"deliveryId": seq, "endpoint": delivery.endpoint, "state": "pending"}
            dropped = action == "webhook.dropped"
            changes = {
                name: (delivery.state if name == "state" else value, None if dropped else value)
                for name, value in after.items()
            }
            await audit.record(work, None, action, now, changes)


def _delivery_not_found(delivery_id: str) -> SupportError:
    return problem("delivery_not_found", f"There is no webhook delivery {delivery_id[:64]!r}.")


async def list_deliveries(reader: RowReader, state: str | None, count: int) -> Sequence[Row]:
    """Return webhook deliveries, newest first: id (the seq), endpoint, type, state, tries, since, due and reason.

    `due` is the time of the next attempt, or of the end of delivery.
    """
    statement = SELECT_DELIVERIES if state is None else SELECT_DELIVERIES.where(webhook_deliveries.c.state == state)
    return await reader.fetch_all(statement, {"count": count})


async def replay_deliveries(tx: Transaction, now: datetime, seqs: Sequence[int] | None) -> int:
    """Schedule the deliveries with `seqs`, or all failed ones if None, again from now on. Return the number."""
    chosen = webhook_deliveries.c.state == "failed" if seqs is None else webhook_deliveries.c.seq.in_(seqs)
    again = {"state": "pending", "tries": 0, "since": now, "due": now, "reason": None}
    return await tx.execute(
        webhook_deliveries.update().where(locked_in_order(webhook_deliveries, chosen)).values(again)
    )
