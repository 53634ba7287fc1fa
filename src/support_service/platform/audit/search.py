"""The audit log across cases: pages of entries by actor, action, case and time, newest first.

The order is that of the times of the changes, because each filter has an index in this order: see the indexes of the
table. `seq` decides between entries of the same time.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.platform.audit import actions, store
from support_service.platform.audit.chain import StoredAuditEntry
from support_service.platform.audit.log import Action
from support_service.platform.database import Reader
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.planning import planned_by_values
from support_service.platform.database.tables import audit_log

_L = audit_log.c


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which entries to find; `start` is inclusive and `end` exclusive. None does not restrict."""

    actor: str | None = None
    action: Action | None = None
    case_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def find_entries(
    reader: Reader, filters: AuditFilters, before: tuple[datetime, int] | None, limit: int
) -> tuple[list[StoredAuditEntry], bool]:
    """Return a page of entries, newest first, and whether there are older ones.

    `before` is time and seq of the last entry of the page before.
    """
    conditions: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in ((_L.actor, filters.actor), (_L.case_id, filters.case_id))
        if value is not None
    ]
    if filters.start is not None:
        conditions.append(_L.at >= filters.start)
    if filters.end is not None:
        conditions.append(_L.at < filters.end)
    # The entries of one case have an index in their own order, and are in the order of their times anyway.
    order = (_L.at, _L.seq) if filters.case_id is None else (_L.seq,)
    if before is not None:
        at, seq = sa.literal(before[0], UtcDateTime()), sa.literal(before[1], sa.BigInteger())
        conditions.append(sa.tuple_(_L.at, _L.seq) < sa.tuple_(at, seq) if filters.case_id is None else _L.seq < seq)
    condition = sa.and_(sa.true(), *conditions)
    if filters.action is not None:
        condition = _done_as(filters.action, condition, order)
    statement = planned_by_values(store.select_page(condition, *order, direction=sa.desc))
    found, number = await store.read_page(reader, statement, count=limit + 1, bytes=store.MAX_PAGE_BYTES)
    page = found[:limit]
    return page, number > len(page)


def _done_as(
    action: Action, condition: sa.ColumnElement[bool], order: tuple[sa.Column[Any], ...]
) -> sa.ColumnElement[bool]:
    """Restrict a condition to an action, also under its former name: then to the newest entries of each name.

    For `action IN (…)` SQLite would read the whole log in the order of time.
    """
    if action not in actions.FORMER_NAMES:
        return sa.and_(_L.action == action, condition)
    count: sa.BindParameter[int] = sa.bindparam("count")
    newest = [
        sa.select(_L.seq).where(_L.action == name, condition).order_by(*map(sa.desc, order)).limit(count).subquery()
        for name in (action, actions.FORMER_NAMES[action])
    ]
    return _L.seq.in_(sa.union_all(*(sa.select(each.c.seq) for each in newest)))
