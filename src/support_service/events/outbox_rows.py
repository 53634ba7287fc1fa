"""SQL of the outbox relay: read and remove the events that wait for publication."""

from collections.abc import Sequence

import sqlalchemy as sa

from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import octets
from support_service.platform.database.statements import compiled, limit_by_bytes
from support_service.platform.database.tables import outbox


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
OLDEST_AT = sa.select(outbox.c.at).order_by(outbox.c.seq).limit(sa.literal_column("1")).scalar_subquery()
BACKLOG = sa.select(sa.func.count(outbox.c.seq).label("number"), OLDEST_AT.label("oldest"))
REMOVE = compiled(outbox.delete().where(outbox.c.seq == sa.bindparam("published")))
_RANGE = outbox.c.seq.between(sa.bindparam("first"), sa.bindparam("last"))
REMOVE_RANGE = compiled(outbox.delete().where(locked_in_order(outbox, _RANGE)))


async def has_pending(reader: Reader) -> bool:
    """Return True if the outbox holds an event."""
    return await reader.fetch_one(ANY_PENDING) is not None


async def oldest_events(reader: Reader, count: int, max_bytes: int) -> Sequence[Row]:
    """Return the oldest events of the outbox: at most `count`, ending with the one that reaches `max_bytes`.

    Rows have seq, type, at, event and fanned_out, which is true if the event's webhook deliveries exist.
    """
    return await reader.fetch_all(PENDING, {"count": count, "bytes": max_bytes})


async def backlog(reader: Reader) -> tuple[int, str | None]:
    """Return the number of events in the outbox, and the time of the oldest or None."""
    (row,) = await reader.fetch_all(BACKLOG)  # fetch_all: a scan must not block the event loop
    return row.number, row.oldest


async def delete_published(tx: Transaction, published: Sequence[int]) -> None:
    """Remove published events from the outbox. `published` holds their seqs in ascending order."""
    if published[-1] - published[0] + 1 == len(published):  # contiguous, so the range contains no other event
        await tx.execute(REMOVE_RANGE, {"first": published[0], "last": published[-1]})
        return
    await tx.execute(REMOVE, [{"published": seq} for seq in published])
