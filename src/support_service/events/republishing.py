"""Published events that stay for a while, and are published again after a failover of Redis or on demand.

The broker counts publications, and each kept event has the number of its publication. 0 means that the relay shall
publish it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.units import MAX_INTEGER
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime, octets
from support_service.platform.database.statements import delete_in_batches, limit_by_bytes, locked_in_order
from support_service.platform.database.tables import outbox, published_events
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

CHANGE_BATCH = 500  # events that one transaction changes or deletes


def select_oldest(table: sa.Table, *columns: sa.Column[Any], where: Any = None) -> sa.Select[Any]:
    """Return the statement for the oldest events of a table: at most `count`, and no more once they reach `bytes`."""
    sizes = sa.select(table.c.seq, octets(table.c.event).label("size")).order_by(table.c.seq)
    sizes = (sizes if where is None else sizes.where(where)).limit(sa.bindparam("count"))
    oldest = sa.select(limit_by_bytes(sizes, "seq").c.seq)
    return (
        sa.select(table.c.seq, table.c.type, table.c.event, *columns)
        .where(table.c.seq.in_(oldest))
        .order_by(table.c.seq)
    )


_EVENT = published_events.c  # columns of a kept event
_ZERO: Any = sa.literal_column("0")
_ONE: Any = sa.literal_column("1")
_IS_TO_BE_REPEATED = _EVENT.publication == _ZERO
ANY_TO_BE_REPEATED = sa.select(_ONE).where(_IS_TO_BE_REPEATED).limit(_ONE).scalar_subquery()
SELECT_CONFIRMED = sa.select(sa.func.max(_EVENT.publication).label("confirmed"))
SELECT_TO_BE_REPEATED = select_oldest(published_events, where=_IS_TO_BE_REPEATED)
_NUMBER, _NOW = sa.bindparam("number", type_=sa.BigInteger), sa.bindparam("now", type_=UtcDateTime())
_CHOSEN: Any = sa.bindparam("chosen", expanding=True)
# Locks the rows: otherwise the copy could have what an erasure removes from the outbox at the same time.
INSERT_PUBLISHED = published_events.insert().from_select(
    ["seq", "publication", "published_at", "type", "event", "case_id"],
    sa.select(outbox.c.seq, _NUMBER, _NOW, outbox.c.type, outbox.c.event, outbox.c.case_id)
    .where(outbox.c.seq.in_(_CHOSEN))
    .order_by(outbox.c.seq)
    .with_for_update(),
)
UPDATE_REPEATED = (
    published_events.update()
    .where(locked_in_order(published_events, _EVENT.seq.in_(_CHOSEN)))
    .values(publication=_NUMBER, published_at=_NOW)
)
_IN_ORDER = sa.select(_EVENT.seq, _EVENT.published_at).order_by(_EVENT.publication, _EVENT.seq)
# The index finds the oldest events. Only then their time is compared: otherwise each run would read all events.
_OLDEST = _IN_ORDER.where(_EVENT.publication > _ZERO).limit(sa.bindparam("count")).subquery()
_EXPIRED = sa.select(_OLDEST.c.seq).where(_OLDEST.c.published_at < sa.bindparam("before", type_=UtcDateTime()))
SELECT_EXPIRED = _EXPIRED.limit(_ONE)
DELETE_EXPIRED = published_events.delete().where(locked_in_order(published_events, _EVENT.seq.in_(_EXPIRED)))
_IS_CHOSEN = _EVENT.publication.between(
    sa.bindparam("first", type_=sa.BigInteger), sa.bindparam("last", type_=sa.BigInteger)
)
_FIRST_CHOSEN = _IN_ORDER.where(_IS_CHOSEN).limit(sa.bindparam("count")).subquery()
MARK_TO_BE_REPEATED = (
    published_events.update()
    .where(locked_in_order(published_events, _EVENT.seq.in_(sa.select(_FIRST_CHOSEN.c.seq))))
    .values(publication=_ZERO)
)


@dataclass(frozen=True, slots=True)
class Published:
    """What was published since a time: the numbers of its first and last publication, and of its events."""

    since: datetime
    first: int
    last: int
    events: int


async def keep_published(tx: Transaction, published: Sequence[int], number: int, now: datetime) -> None:
    """Keep a copy of events of the outbox, with the number of their publication."""
    await tx.execute(INSERT_PUBLISHED, {"chosen": published, "number": number, "now": now})


async def read_events_to_repeat(reader: RowReader, count: int, max_bytes: int) -> Sequence[Row]:
    """Return the oldest events that are to be published again, limited as by `select_oldest`: seq, type and event."""
    return await reader.fetch_all(SELECT_TO_BE_REPEATED, {"count": count, "bytes": max_bytes})


async def note_repeated(tx: Transaction, published: Sequence[int], number: int, now: datetime) -> None:
    """Note that events were published again, with the number of their publication."""
    await tx.execute(UPDATE_REPEATED, {"chosen": published, "number": number, "now": now})


async def delete_expired(database: Database, before: datetime) -> None:
    """Delete events that were published before a time, in batches."""
    expired = {"before": before, "count": CHANGE_BATCH}
    if await database.fetch_now(SELECT_EXPIRED, expired) is not None:
        await delete_in_batches(database, lambda tx: tx.execute(DELETE_EXPIRED, expired), CHANGE_BATCH)


async def published_since(reader: RowReader, since: datetime) -> Published:
    """Return what was published since a time and is kept."""
    number = _EVENT.publication
    found = sa.select(
        sa.func.min(number).label("first"), sa.func.max(number).label("last"), sa.func.count().label("events")
    )
    (row,) = await reader.fetch_all(found.where(number > _ZERO, _EVENT.published_at >= since))
    return Published(since, row.first or 0, row.last or 0, row.events)


async def record(database: Database, origin: WriteOrigin, chosen: Published) -> None:
    """Store an audit entry about events that an operator has published again."""
    changes = {"since": (None, chosen.since), "events": (None, chosen.events)}
    async with unit_of_work(database, origin) as work:
        await audit.record(work, None, "events.republished", utc_now(), changes)


async def mark_to_be_repeated(
    database: Database, first: int, last: int = MAX_INTEGER, report: Callable[[int], None] = lambda _: None
) -> int:
    """Let the relay publish the events of some publications again. Return the number of events."""
    total, marked = 0, CHANGE_BATCH
    while marked == CHANGE_BATCH:
        async with database.transaction() as tx:
            marked = await tx.execute(MARK_TO_BE_REPEATED, {"first": first, "last": last, "count": CHANGE_BATCH})
        total += marked
        report(marked)
    return total
