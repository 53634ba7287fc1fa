"""All SQL of events: the outbox, the lease of the one who empties it, what came in, and webhook deliveries."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.database import Reader, Row, Transaction
from support_service.database.compiled import hot
from support_service.database.dialect import UtcDateTime, insert_if_new, octets
from support_service.database.pages import bounded
from support_service.database.tables import inbound_events, leases, outbox, webhook_deliveries


def in_order(table: sa.Table, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """The condition for a change of several rows, by which they are locked in the order of seq.

    The relay, a replay and an erasure meet in the same rows: in a plain UPDATE's order, which is how these happen to
    lie, two of them may wait for each other.
    """
    return table.c.seq.in_(sa.select(table.c.seq).where(condition).order_by(table.c.seq).with_for_update())


ANY_PENDING: sa.Select[int] = hot(sa.select(sa.literal_column("1")).select_from(outbox).limit(sa.literal_column("1")))
_OLDEST = (
    sa.select(outbox.c.seq, octets(outbox.c.event).label("size")).order_by(outbox.c.seq).limit(sa.bindparam("count"))
)
PENDING = (
    sa.select(outbox.c.seq, outbox.c.type, outbox.c.at, outbox.c.event, outbox.c.fanned_out)
    .where(outbox.c.seq.in_(sa.select(bounded(_OLDEST, "seq").c.seq)))
    .order_by(outbox.c.seq)
)
_FRESH = sa.text("NOT fanned_out")  # as the index spells it
TO_FAN_OUT = sa.select(outbox.c.seq, outbox.c.type).where(_FRESH).order_by(outbox.c.seq).limit(sa.bindparam("count"))
BACKLOG = sa.select(sa.func.count(), sa.func.min(outbox.c.at)).select_from(outbox)
REMOVE = hot(outbox.delete().where(outbox.c.seq == sa.bindparam("published")))
_RANGE = outbox.c.seq.between(sa.bindparam("first"), sa.bindparam("last"))
REMOVE_RANGE = hot(outbox.delete().where(in_order(outbox, _RANGE)))
CHOSEN = outbox.c.seq.in_(sa.bindparam("chosen", expanding=True))
MARK_FANNED_OUT = (
    outbox.update()
    .where(in_order(outbox, sa.and_(CHOSEN, _FRESH)))
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
        # A fence from the clock stays ahead of what Redis remembers even where the database starts anew.
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
TAKE_UP = hot(insert_if_new(inbound_events))
KNOWN = sa.select(inbound_events.c.reached, inbound_events.c.done).where(
    inbound_events.c.source == sa.bindparam("of"), inbound_events.c.id == sa.bindparam("event")
)
REACHED = (
    inbound_events.update()
    .where(inbound_events.c.source == sa.bindparam("of"), inbound_events.c.id == sa.bindparam("event"))
    .values(reached=sa.bindparam("last"), done=sa.bindparam("whole"))
)
FORGOTTEN = (
    sa.select(inbound_events.c.source, inbound_events.c.id)
    .where(inbound_events.c.at < sa.bindparam("before", type_=UtcDateTime()), inbound_events.c.done.is_(sa.true()))
    .order_by(inbound_events.c.at)
    .limit(sa.bindparam("count"))
)
FORGET_INBOUND = inbound_events.delete().where(sa.tuple_(inbound_events.c.source, inbound_events.c.id).in_(FORGOTTEN))

_D = webhook_deliveries.c
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
DUE = _DUE.where(_D.endpoint == sa.bindparam("of"))
ENDED = (
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
_ENDED_LONG_AGO = (
    sa.select(_D.seq)
    .where(_D.state == sa.bindparam("ended"), _D.due < sa.bindparam("before", type_=UtcDateTime()))
    .limit(sa.bindparam("count"))
    .with_for_update(skip_locked=True)  # what an erasure has in hand goes with the next look
)
FORGET_DELIVERIES = webhook_deliveries.delete().where(_D.seq.in_(_ENDED_LONG_AGO))


async def take_lease(tx: Transaction, name: str, me: str, *, now: int, until: int, latest: int) -> int | None:
    """The fence of a lease that is free or mine already, held until then; None where another holds it. Times in ms.

    One that ends after `latest` holds no one up: its holder's clock was wrong.
    """
    row = await tx.fetch_one(TAKE_LEASE, {"lease": name, "me": me, "now": now, "until": until, "latest": latest})
    return row[0] if row else None


async def raise_fence(tx: Transaction, name: str, fence: int) -> None:
    """Give a lease that this transaction has taken a newer fence."""
    await tx.execute(RAISE_FENCE, {"lease": name, "newest": fence})


async def leave_lease(tx: Transaction, name: str, me: str) -> None:
    """Give a lease back."""
    await tx.execute(LEAVE_LEASE, {"lease": name, "me": me})


async def anything_pending(reader: Reader) -> bool:
    """Whether the outbox holds an event."""
    return await reader.fetch_one(ANY_PENDING) is not None


async def pending(reader: Reader, count: int, most: int) -> Sequence[Row]:
    """The oldest events of the outbox, so many at most, and none more once they have that many bytes.

    (seq, type, time, event, whether its webhook deliveries are made)
    """
    return await reader.fetch_all(PENDING, {"count": count, "bytes": most})


async def to_fan_out(reader: Reader, count: int) -> Sequence[Row]:
    """The oldest events whose webhook deliveries are still to be made: (seq, type)."""
    return await reader.fetch_all(TO_FAN_OUT, {"count": count})


async def backlog(reader: Reader) -> tuple[int, str | None]:
    """How many events the outbox holds, and the time of the oldest."""
    ((number, oldest),) = await reader.fetch_all(BACKLOG)  # a scan, which is not to hold the loop up
    return number, oldest


async def remove(tx: Transaction, published: Sequence[int]) -> None:
    """Take events that are published, in their order, out of the outbox."""
    if published[-1] - published[0] + 1 == len(published):  # no number between them belongs to another event
        await tx.execute(REMOVE_RANGE, {"first": published[0], "last": published[-1]})
        return
    await tx.execute(REMOVE, [{"published": seq} for seq in published])


async def fan_out(
    tx: Transaction, events: Sequence[int], wanted: Iterable[tuple[str, Sequence[int]]], now: datetime
) -> None:
    """Keep the webhook deliveries of events, (endpoint, which it wants), and remember that they are kept."""
    # First, for its row locks: what is read after it was rewritten by an erasure, or has been taken by nobody else.
    marked = {seq for (seq,) in await tx.fetch_all(MARK_FANNED_OUT, {"chosen": events})}
    for endpoint, wants in wanted:
        chosen = [seq for seq in wants if seq in marked]
        if chosen:
            await tx.execute(FAN_OUT, {"endpoint": endpoint, "now": now, "chosen": chosen})


async def begin_inbound(tx: Transaction, source: str, event_id: str, at: datetime) -> int | None:
    """Take up an event: the seq of the last case that it took effect in, 0 for a new one, None where it is done.

    Whoever else takes it up at the same time waits for this transaction.
    """
    row = {"source": source, "id": event_id, "at": at, "reached": 0, "done": True}
    if await tx.execute(TAKE_UP, row):
        return 0
    known = await tx.fetch_one(KNOWN.with_for_update(), {"of": source, "event": event_id})
    return None if known is None or known[1] else known[0]


async def end_inbound(tx: Transaction, source: str, event_id: str, last: int, *, done: bool) -> None:
    """Remember how far an event has come."""
    await tx.execute(REACHED, {"of": source, "event": event_id, "last": last, "whole": done})


async def forget_inbound(tx: Transaction, before: datetime, count: int) -> int:
    """Forget the ids of old events that are done, so many at most; gives how many."""
    return await tx.execute(FORGET_INBOUND, {"before": before, "count": count})


async def due_deliveries(reader: Reader, now: datetime, endpoint: str, count: int) -> Sequence[Row]:
    """Webhook deliveries to an endpoint whose time has come: (seq, endpoint, event, tries, since when)."""
    return await reader.fetch_all(DUE, {"now": now, "of": endpoint, "count": count})


async def stray_deliveries(reader: Reader, now: datetime, known: Sequence[str], count: int) -> Sequence[Row]:
    """The same of endpoints that nobody knows."""
    return await reader.fetch_all(_DUE.where(_D.endpoint.not_in(known)), {"now": now, "count": count})


async def delivery_ended(tx: Transaction, result: dict[str, Any]) -> None:
    """Keep what came of a try: `delivery` is the seq; state, tries, due and reason are as they are from now on."""
    await tx.execute(ENDED, result)


async def pending_deliveries(reader: Reader) -> int:
    """How many webhook deliveries are still to be made."""
    ((number,),) = await reader.fetch_all(DELIVERIES_PENDING)
    return int(number)


async def list_deliveries(reader: Reader, state: str | None, count: int) -> Sequence[Row]:
    """Webhook deliveries, newest first: (seq, endpoint, type, state, tries, since when, due or ended, reason)."""
    statement = DELIVERIES if state is None else DELIVERIES.where(webhook_deliveries.c.state == state)
    return await reader.fetch_all(statement, {"count": count})


async def replay_deliveries(tx: Transaction, now: datetime, seqs: Sequence[int] | None) -> int:
    """Let deliveries be made again from now on: those named, or all that failed; gives how many."""
    chosen = webhook_deliveries.c.state == "failed" if seqs is None else webhook_deliveries.c.seq.in_(seqs)
    again = {"state": "pending", "tries": 0, "since": now, "due": now, "reason": None}
    return await tx.execute(webhook_deliveries.update().where(in_order(webhook_deliveries, chosen)).values(again))


async def forget_deliveries(tx: Transaction, ended: str, before: datetime, count: int) -> int:
    """Forget deliveries that ended so, long ago, so many at most; gives how many."""
    return await tx.execute(FORGET_DELIVERIES, {"ended": ended, "before": before, "count": count})
