"""SQL statements of events: the outbox, the relay's lease, the inbox and webhook deliveries."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.database import Reader, Row, Transaction
from support_service.database.compiled import compiled
from support_service.database.dialect import UtcDateTime, insert_if_new, octets
from support_service.database.pages import limit_by_bytes
from support_service.database.tables import inbound_events, leases, outbox, webhook_deliveries


def locked_in_order(table: sa.Table, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition that selects the rows matching `condition` and locks them in the order of seq.

    The relay, a replay and an erasure change the same rows. A plain UPDATE locks rows in physical order, so two of them
    could deadlock.
    """
    return table.c.seq.in_(sa.select(table.c.seq).where(condition).order_by(table.c.seq).with_for_update())


ANY_PENDING: sa.Select[int] = compiled(
    sa.select(sa.literal_column("1")).select_from(outbox).limit(sa.literal_column("1"))
)
_OLDEST = (
    sa.select(outbox.c.seq, octets(outbox.c.event).label("size")).order_by(outbox.c.seq).limit(sa.bindparam("count"))
)
PENDING = (
    sa.select(outbox.c.seq, outbox.c.type, outbox.c.at, outbox.c.event, outbox.c.fanned_out)
    .where(outbox.c.seq.in_(sa.select(limit_by_bytes(_OLDEST, "seq").c.seq)))
    .order_by(outbox.c.seq)
)
_NOT_FANNED_OUT = sa.text("NOT fanned_out")  # the same text as in the partial index
TO_FAN_OUT = (
    sa.select(outbox.c.seq, outbox.c.type).where(_NOT_FANNED_OUT).order_by(outbox.c.seq).limit(sa.bindparam("count"))
)
BACKLOG = sa.select(sa.func.count(), sa.func.min(outbox.c.at)).select_from(outbox)
REMOVE = compiled(outbox.delete().where(outbox.c.seq == sa.bindparam("published")))
_RANGE = outbox.c.seq.between(sa.bindparam("first"), sa.bindparam("last"))
REMOVE_RANGE = compiled(outbox.delete().where(locked_in_order(outbox, _RANGE)))
CHOSEN = outbox.c.seq.in_(sa.bindparam("chosen", expanding=True))
MARK_FANNED_OUT = (
    outbox.update()
    .where(locked_in_order(outbox, sa.and_(CHOSEN, _NOT_FANNED_OUT)))
    .values(fanned_out=sa.true())
    .returning(outbox.c.seq)
)
TAKE_LEASE = (
    leases.update()
    .where(
        leases.c.name == sa.bindparam("lease"),
        sa.or_(
            leases.c.holder == sa.bindparam("me"),
            leases.c.expires_at < sa.bindparam("now"),
            leases.c.expires_at > sa.bindparam("latest", type_=sa.BigInteger),
        ),
    )
    .values(
        # The clock serves as fencing token: it stays ahead of the token in Redis even if the database is recreated.
        fence=sa.case(
            (leases.c.holder == sa.bindparam("me"), leases.c.fence),
            (leases.c.fence >= sa.bindparam("now"), leases.c.fence + 1),
            else_=sa.bindparam("now", type_=sa.BigInteger),
        ),
        holder=sa.bindparam("me"),
        expires_at=sa.bindparam("until"),
    )
    .returning(leases.c.fence)
)
RAISE_FENCE = leases.update().where(leases.c.name == sa.bindparam("lease")).values(fence=sa.bindparam("newest"))
LEAVE_LEASE = (
    leases.update()
    .where(leases.c.name == sa.bindparam("lease"), leases.c.holder == sa.bindparam("me"))
    .values(holder="", expires_at=0)
)
INSERT_INBOUND = compiled(insert_if_new(inbound_events))
SELECT_INBOUND = sa.select(inbound_events.c.reached, inbound_events.c.done).where(
    inbound_events.c.source == sa.bindparam("of"), inbound_events.c.id == sa.bindparam("event")
)
UPDATE_INBOUND_PROGRESS = (
    inbound_events.update()
    .where(inbound_events.c.source == sa.bindparam("of"), inbound_events.c.id == sa.bindparam("event"))
    .values(reached=sa.bindparam("last"), done=sa.bindparam("whole"))
)
OLD_INBOUND = (
    sa.select(inbound_events.c.source, inbound_events.c.id)
    .where(inbound_events.c.at < sa.bindparam("before", type_=UtcDateTime()), inbound_events.c.done.is_(sa.true()))
    .order_by(inbound_events.c.at)
    .limit(sa.bindparam("count"))
)
FORGET_INBOUND = inbound_events.delete().where(sa.tuple_(inbound_events.c.source, inbound_events.c.id).in_(OLD_INBOUND))

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
SELECT_DUE_DELIVERIES = _DUE.where(_D.endpoint == sa.bindparam("of"))
UPDATE_DELIVERY = (
    webhook_deliveries.update()
    .where(_D.seq == sa.bindparam("delivery"))
    .values({name: sa.bindparam(f"new_{name}", type_=_D[name].type) for name in ("state", "tries", "due", "reason")})
)
DELIVERIES_PENDING = sa.select(sa.func.count()).select_from(webhook_deliveries).where(_D.state == "pending")
DELIVERIES = (
    sa.select(_D.seq, _D.endpoint, _D.type, _D.state, _D.tries, _D.since, _D.due, _D.reason)
    .order_by(_D.seq.desc())
    .limit(sa.bindparam("count"))
)
_EXPIRED = (
    sa.select(_D.seq)
    .where(_D.state == sa.bindparam("ended"), _D.due < sa.bindparam("before", type_=UtcDateTime()))
    .limit(sa.bindparam("count"))
    .with_for_update(skip_locked=True)  # rows locked by an erasure are deleted in a later run
)
FORGET_DELIVERIES = webhook_deliveries.delete().where(_D.seq.in_(_EXPIRED))


async def take_lease(tx: Transaction, name: str, me: str, *, now: int, until: int, latest: int) -> int | None:
    """Take or renew a lease. Return its fencing token, or None if another process holds it. Times are Unix ms.

    A lease that expires after `latest` may be taken over: its holder's clock was wrong.
    """
    row = await tx.fetch_one(TAKE_LEASE, {"lease": name, "me": me, "now": now, "until": until, "latest": latest})
    return row[0] if row else None


async def set_fence(tx: Transaction, name: str, fence: int) -> None:
    """Set a newer fencing token on a lease that this transaction has taken."""
    await tx.execute(RAISE_FENCE, {"lease": name, "newest": fence})


async def release_lease(tx: Transaction, name: str, me: str) -> None:
    """Release a lease, if this process holds it."""
    await tx.execute(LEAVE_LEASE, {"lease": name, "me": me})


async def has_pending(reader: Reader) -> bool:
    """Return True if the outbox holds an event."""
    return await reader.fetch_one(ANY_PENDING) is not None


async def oldest_events(reader: Reader, count: int, most: int) -> Sequence[Row]:
    """Return the oldest events of the outbox: at most `count`, ending with the one that reaches `most` bytes.

    Rows are (seq, type, time, event, fanned_out); `fanned_out` is true if the event's webhook deliveries exist.
    """
    return await reader.fetch_all(PENDING, {"count": count, "bytes": most})


async def events_to_fan_out(reader: Reader, count: int) -> Sequence[Row]:
    """Return the oldest events without webhook deliveries, as (seq, type)."""
    return await reader.fetch_all(TO_FAN_OUT, {"count": count})


async def backlog(reader: Reader) -> tuple[int, str | None]:
    """Return the number of events in the outbox, and the time of the oldest or None."""
    ((number, oldest),) = await reader.fetch_all(BACKLOG)  # fetch_all: a scan must not block the event loop
    return number, oldest


async def delete_published(tx: Transaction, published: Sequence[int]) -> None:
    """Remove published events from the outbox. `published` holds their seqs in ascending order."""
    if published[-1] - published[0] + 1 == len(published):  # contiguous, so the range contains no other event
        await tx.execute(REMOVE_RANGE, {"first": published[0], "last": published[-1]})
        return
    await tx.execute(REMOVE, [{"published": seq} for seq in published])


async def fan_out(
    tx: Transaction, events: Sequence[int], wanted: Iterable[tuple[str, Sequence[int]]], now: datetime
) -> None:
    """Insert the webhook deliveries of events, and mark the events as fanned out.

    `wanted` holds (endpoint, seqs) pairs: the events that each endpoint subscribes to.
    """
    # Mark first, because this locks the rows: the copies below are made from events that an erasure has rewritten, and
    # of events that no other process has fanned out.
    marked = {seq for (seq,) in await tx.fetch_all(MARK_FANNED_OUT, {"chosen": events})}
    for endpoint, wants in wanted:
        chosen = [seq for seq in wants if seq in marked]
        if chosen:
            await tx.execute(FAN_OUT, {"endpoint": endpoint, "now": now, "chosen": chosen})


async def begin_inbound_event(tx: Transaction, source: str, event_id: str, at: datetime) -> int | None:
    """Begin to apply an event. Return the seq of the last case it was applied to, 0 if new, None if already applied.

    A concurrent transaction that begins the same event waits for this one.
    """
    row = {"source": source, "id": event_id, "at": at, "reached": 0, "done": True}
    if await tx.execute(INSERT_INBOUND, row):
        return 0
    known = await tx.fetch_one(SELECT_INBOUND.with_for_update(), {"of": source, "event": event_id})
    return None if known is None or known[1] else known[0]


async def record_inbound_progress(tx: Transaction, source: str, event_id: str, last: int, *, done: bool) -> None:
    """Record an event's progress: the seq of the last case it was applied to, and whether it is completely applied."""
    await tx.execute(UPDATE_INBOUND_PROGRESS, {"of": source, "event": event_id, "last": last, "whole": done})


async def delete_old_inbound_events(tx: Transaction, before: datetime, count: int) -> int:
    """Delete the ids of at most `count` applied events older than `before`. Return the number deleted."""
    return await tx.execute(FORGET_INBOUND, {"before": before, "count": count})


async def due_deliveries(reader: Reader, now: datetime, endpoint: str, count: int) -> Sequence[Row]:
    """Return due webhook deliveries to an endpoint, as (seq, endpoint, event, tries, since)."""
    return await reader.fetch_all(SELECT_DUE_DELIVERIES, {"now": now, "of": endpoint, "count": count})


async def orphaned_deliveries(reader: Reader, now: datetime, known: Sequence[str], count: int) -> Sequence[Row]:
    """Return due webhook deliveries to endpoints that are not in `known`, with the columns of `due_deliveries`."""
    return await reader.fetch_all(_DUE.where(_D.endpoint.not_in(known)), {"now": now, "count": count})


async def store_delivery_result(tx: Transaction, result: dict[str, Any]) -> None:
    """Store the result of a try. Keys: `delivery` (seq), `new_state`, `new_tries`, `new_due`, `new_reason`."""
    await tx.execute(UPDATE_DELIVERY, result)


async def count_pending_deliveries(reader: Reader) -> int:
    """Return the number of pending webhook deliveries."""
    ((number,),) = await reader.fetch_all(DELIVERIES_PENDING)
    return int(number)


async def list_deliveries(reader: Reader, state: str | None, count: int) -> Sequence[Row]:
    """Return webhook deliveries, newest first, as (seq, endpoint, type, state, tries, since, due or ended, reason)."""
    statement = DELIVERIES if state is None else DELIVERIES.where(webhook_deliveries.c.state == state)
    return await reader.fetch_all(statement, {"count": count})


async def replay_deliveries(tx: Transaction, now: datetime, seqs: Sequence[int] | None) -> int:
    """Schedule deliveries again from now on: those in `seqs`, or all failed ones if None. Return the number."""
    chosen = webhook_deliveries.c.state == "failed" if seqs is None else webhook_deliveries.c.seq.in_(seqs)
    again = {"state": "pending", "tries": 0, "since": now, "due": now, "reason": None}
    return await tx.execute(
        webhook_deliveries.update().where(locked_in_order(webhook_deliveries, chosen)).values(again)
    )


async def delete_old_deliveries(tx: Transaction, ended: str, before: datetime, count: int) -> int:
    """Delete at most `count` deliveries that ended in state `ended` before `before`. Return the number deleted."""
    return await tx.execute(FORGET_DELIVERIES, {"ended": ended, "before": before, "count": count})
