"""Transactional outbox: each change writes its event in the same transaction, in its final published form.

The relay reads the oldest events, and removes those that it has published.

The database inserts the case, as the transaction leaves it, into the event (its `ticket` member): one statement, and no
row is read first.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core.clock import format_time
from support_service.core.ids import new_id
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.dialect import octets
from support_service.platform.database.json_projections import CASE_COLUMNS, IS_ACTIVE, IS_SYNTHETIC, json_text
from support_service.platform.database.pages import limit_by_bytes
from support_service.platform.database.tables import outbox, tickets
from support_service.platform.telemetry.traces import propagation_headers as current_trace

SOURCE = "/support-service"
CASE_OPENED = "support.case.opened.v1"
CASE_UPDATED = "support.case.updated.v1"
CASE_CLOSED = "support.case.closed.v1"
CASE_SLA_BREACHED = "support.case.sla-breached.v1"

# `publicVersion` is the version that customers see.
PUBLISHED_COLUMNS: dict[str, sa.ColumnElement[Any]] = CASE_COLUMNS | {
    "waitingSince": sa.case((IS_ACTIVE, tickets.c.waiting_since)),
    "version": tickets.c.version,
    "publicVersion": tickets.c.version - tickets.c.internal_changes,
}
APPEND = compiled(
    outbox.insert().from_select(
        ["type", "at", "event", "case_id"],
        sa.select(
            sa.bindparam("type", type_=sa.Text),
            sa.bindparam("at", type_=sa.Text),
            # Synthetic cases are never published; the WHERE clause excludes them.
            sa.bindparam("head", type_=sa.Text) + json_text(PUBLISHED_COLUMNS) + sa.literal_column("'}}'", sa.Text),
            tickets.c.id,
        ).where(tickets.c.id == sa.bindparam("case_id"), sa.not_(IS_SYNTHETIC)),
        include_defaults=False,
    )
)


async def append_event(tx: Transaction, case_id: str, event_type: str, at: datetime, **data: Any) -> None:
    """Write an event about a case. `data` becomes members beside `ticket`; models are written in camelCase.

    The transaction must hold the lock of the case, so that the events of a case are in the order of its commits.
    """
    await tx.insert_later(APPEND, _parameters(case_id, event_type, at, data))


async def append_all(
    tx: Transaction, event_type: str, changes: Sequence[tuple[str, datetime, Mapping[str, Any]]]
) -> None:
    """Write an event about each of several changes, each with its case id, time and data."""
    if len(changes) == 1:
        ((case_id, at, data),) = changes
        await tx.insert_later(APPEND, _parameters(case_id, event_type, at, data))
    elif changes:
        await tx.execute(APPEND, [_parameters(case_id, event_type, at, data) for case_id, at, data in changes])


def _parameters(case_id: str, event_type: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of APPEND. `head` is the event's JSON up to the value of `ticket`."""
    time = format_time(at)
    event = {
        "specversion": "1.0",
        "id": new_id(),
        "source": SOURCE,
        "type": event_type,
        "subject": case_id,
        "time": time,
        "datacontenttype": "application/json",
        **current_trace(),
        "data": {**data, "ticket": None},  # the last member: the database replaces its value
    }
    head = pydantic_core.to_json(event, by_alias=True, inf_nan_mode="null").decode().removesuffix("null}}")
    return {"type": event_type, "at": time, "head": head, "case_id": case_id}


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
