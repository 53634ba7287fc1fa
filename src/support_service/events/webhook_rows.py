"""SQL of webhook deliveries: create them from the outbox, make them, list and replay them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.events.outbox_rows import locked_in_order
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.tables import outbox, webhook_deliveries

_NOT_FANNED_OUT = sa.text("NOT fanned_out")  # the same text as in the partial index
TO_FAN_OUT = (
    sa.select(outbox.c.seq, outbox.c.type).where(_NOT_FANNED_OUT).order_by(outbox.c.seq).limit(sa.bindparam("count"))
)
CHOSEN = outbox.c.seq.in_(sa.bindparam("chosen", expanding=True))
MARK_FANNED_OUT = (
    outbox.update()
    .where(locked_in_order(outbox, sa.and_(CHOSEN, _NOT_FANNED_OUT)))
    .values(fanned_out=sa.true())
    .returning(outbox.c.seq)
)
_D = webhook_deliveries.c  # columns of a delivery
_NOW = sa.bindparam("now", type_=UtcDateTime())
FAN_OUT = webhook_deliveries.insert().from_select(
    ["endpoint", "type", "event", "case_id", "state", "tries", "since", "due"],
    sa.select(
        sa.bindparam("endpoint", type_=sa.Text),
        outbox.c.type,
        outbox.c.event,
        outbox.c.case_id,
        sa.literal_column("'pending'"),
        sa.literal_column("0"),
        _NOW,
        _NOW,
    )
    .where(CHOSEN)
    .order_by(outbox.c.seq),
)
_DUE = (
    sa.select(_D.seq, _D.endpoint, _D.event, _D.tries, _D.since)
    .where(_D.state == "pending", _D.due <= sa.bindparam("now", type_=UtcDateTime()))
    .order_by(_D.due)
    .limit(sa.bindparam("count"))
)
SELECT_DUE_DELIVERIES = _DUE.where(_D.endpoint == sa.bindparam("to"))
UPDATE_DELIVERY = (
    webhook_deliveries.update()
    .where(_D.seq == sa.bindparam("delivery"))
    .values({name: sa.bindparam(f"new_{name}", type_=_D[name].type) for name in ("state", "tries", "due", "reason")})
)
COUNT_PENDING = sa.select(sa.func.count().label("number")).select_from(webhook_deliveries).where(_D.state == "pending")
_SHOWN = sa.select(_D.seq.label("id"), _D.endpoint, _D.type, _D.state, _D.tries, _D.since, _D.due, _D.reason)
DELIVERIES = _SHOWN.order_by(_D.seq.desc()).limit(sa.bindparam("count"))
_BEFORE = sa.tuple_(sa.bindparam("due", type_=UtcDateTime()), sa.bindparam("seq", type_=sa.BigInteger))
# In the order of the index on state and due, so that a page of any state is read without sorting the others.
IN_STATE = (
    _SHOWN.where(_D.state == sa.bindparam("wanted")).order_by(_D.due.desc(), _D.seq.desc()).limit(sa.bindparam("count"))
)
IN_STATE_BEFORE = IN_STATE.where(
    _D.due <= sa.bindparam("due", type_=UtcDateTime()), sa.tuple_(_D.due, _D.seq) < _BEFORE
)
LOCK_DELIVERY = sa.select(_D.seq, _D.endpoint, _D.state).where(_D.seq == sa.bindparam("delivery")).with_for_update()
DELETE_DELIVERY = webhook_deliveries.delete().where(_D.seq == sa.bindparam("delivery"))
_FINISHED = (
    sa.select(_D.seq)
    .where(_D.state == sa.bindparam("ended"), _D.due < sa.bindparam("before", type_=UtcDateTime()))
    .limit(sa.bindparam("count"))
    .with_for_update(skip_locked=True)  # rows locked by an erasure are deleted in a later run
)
DELETE_FINISHED = webhook_deliveries.delete().where(_D.seq.in_(_FINISHED))


async def events_to_fan_out(reader: Reader, count: int) -> Sequence[Row]:
    """Return the oldest events without webhook deliveries: rows with seq and type."""
    return await reader.fetch_all(TO_FAN_OUT, {"count": count})


async def fan_out(
    tx: Transaction, events: Sequence[int], subscriptions: Iterable[tuple[str, Sequence[int]]], now: datetime
) -> None:
    """Insert the webhook deliveries of events, and mark the events as fanned out.

    `subscriptions` holds (endpoint, seqs) pairs: the events that each endpoint subscribes to.
    """
    # Mark first, because this locks the rows: the copies below are made from events that an erasure has rewritten, and
    # of events that no other process has fanned out.
    marked = {row.seq for row in await tx.fetch_all(MARK_FANNED_OUT, {"chosen": events})}
    for endpoint, subscribed in subscriptions:
        chosen = [seq for seq in subscribed if seq in marked]
        if chosen:
            await tx.execute(FAN_OUT, {"endpoint": endpoint, "now": now, "chosen": chosen})


async def due_deliveries(reader: Reader, now: datetime, endpoint: str, count: int) -> Sequence[Row]:
    """Return due webhook deliveries to an endpoint, with seq, endpoint, event, tries and since."""
    return await reader.fetch_all(SELECT_DUE_DELIVERIES, {"now": now, "to": endpoint, "count": count})


async def orphaned_deliveries(reader: Reader, now: datetime, known: Sequence[str], count: int) -> Sequence[Row]:
    """Return due webhook deliveries to endpoints that are not in `known`, with the columns of `due_deliveries`."""
    return await reader.fetch_all(_DUE.where(_D.endpoint.not_in(known)), {"now": now, "count": count})


async def store_delivery_result(tx: Transaction, result: dict[str, Any]) -> None:
    """Store the result of a try. Keys: `delivery` (seq), `new_state`, `new_tries`, `new_due`, `new_reason`."""
    await tx.execute(UPDATE_DELIVERY, result)


async def count_pending_deliveries(reader: Reader) -> int:
    """Return the number of pending webhook deliveries."""
    (row,) = await reader.fetch_all(COUNT_PENDING)
    return int(row.number)


async def list_deliveries(reader: Reader, state: str | None, count: int) -> Sequence[Row]:
    """Return webhook deliveries, newest first: id (the seq), endpoint, type, state, tries, since, due and reason.

    `due` is the time of the next attempt, or of the end of delivery.
    """
    statement = DELIVERIES if state is None else DELIVERIES.where(webhook_deliveries.c.state == state)
    return await reader.fetch_all(statement, {"count": count})


async def page_of_deliveries(
    reader: Reader, state: str, before: tuple[datetime, int] | None, count: int
) -> Sequence[Row]:
    """Return deliveries in a state with the columns of `list_deliveries`, latest `due` first.

    `before` is `due` and `id` of the delivery after which they begin.
    """
    if before is None:
        return await reader.fetch_all(IN_STATE, {"wanted": state, "count": count})
    return await reader.fetch_all(
        IN_STATE_BEFORE, {"wanted": state, "count": count, "due": before[0], "seq": before[1]}
    )


async def lock_delivery(tx: Transaction, seq: int) -> Row | None:
    """Lock a delivery and return its seq, endpoint and state, or None."""
    return await tx.fetch_one(LOCK_DELIVERY, {"delivery": seq})


async def delete_delivery(tx: Transaction, seq: int) -> None:
    """Delete a delivery."""
    await tx.execute(DELETE_DELIVERY, {"delivery": seq})


async def replay_deliveries(tx: Transaction, now: datetime, seqs: Sequence[int] | None) -> int:
    """Schedule deliveries again from now on: those in `seqs`, or all failed ones if None. Return the number."""
    chosen = webhook_deliveries.c.state == "failed" if seqs is None else webhook_deliveries.c.seq.in_(seqs)
    again = {"state": "pending", "tries": 0, "since": now, "due": now, "reason": None}
    return await tx.execute(
        webhook_deliveries.update().where(locked_in_order(webhook_deliveries, chosen)).values(again)
    )


async def delete_finished_deliveries(tx: Transaction, state: str, before: datetime, count: int) -> int:
    """Delete at most `count` deliveries that ended in `state` before `before`. Return the number deleted."""
    return await tx.execute(DELETE_FINISHED, {"ended": state, "before": before, "count": count})
