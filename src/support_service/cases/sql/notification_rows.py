"""SQL of notifications: what people are told of changes of cases. Each read is one statement."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from support_service.cases.model.vocabulary import MAX_DUPLICATES
from support_service.cases.sql.visibility import access_conditions, access_parameters, duplicates_of
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import NotificationKind
from support_service.core.domain.principals import Principal
from support_service.core.units import MAX_INTEGER
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import notifications, tickets

MAX_COUNTED = 100  # unread notifications that are counted, and one

_N = notifications.c
_OF_RECIPIENT = _N.recipient == sa.bindparam("person")
_IS_UNREAD = _N.read_at.is_(None)
_ADDED = ("id", "recipient", "kind", "case_id", "message_id", "actor", "at")
ADD_NOTIFICATION = compiled(
    notifications.insert().inline().values({name: sa.bindparam(name, type_=_N[name].type) for name in _ADDED})
)
_MARK_READ = (
    notifications.update().where(_OF_RECIPIENT, _IS_UNREAD).values(read_at=sa.bindparam("now", type_=UtcDateTime()))
)
MARK_READ = _MARK_READ.where(_N.id.in_(sa.bindparam("ids", expanding=True)))
_LAST = sa.select(_N.seq).where(_OF_RECIPIENT, _N.id == sa.bindparam("until")).scalar_subquery()
_MARK_READ_UNTIL = _MARK_READ.where(_N.seq <= _LAST)
_SHOWN = ("seq", "id", "kind", "case_id", "message_id", "actor", "at", "read_at")
# Numbers grow with time, so that no index by time is needed.
_OLDEST = sa.select(_N.seq, _N.at).order_by(_N.seq).limit(sa.bindparam("count", type_=sa.BigInteger)).subquery("oldest")
DELETE_OLD = notifications.delete().where(
    _N.seq.in_(sa.select(_OLDEST.c.seq).where(_OLDEST.c.at < sa.bindparam("before", type_=UtcDateTime())))
)
_other = notifications.alias("other")
NEXT_RECIPIENT = sa.select(sa.func.min(_N.recipient).label("recipient")).where(_N.recipient > sa.bindparam("after"))
_BEYOND = (
    sa.select(_other.c.seq)
    .where(_other.c.recipient == sa.bindparam("person"))
    .order_by(_other.c.seq.desc())
    .limit(sa.bindparam("count", type_=sa.BigInteger))
    .offset(sa.bindparam("kept", type_=sa.BigInteger))
)
DELETE_BEYOND = notifications.delete().where(_N.seq.in_(_BEYOND))
_is_duplicate = tickets.c.id.in_(duplicates_of(sa.bindparam("case_id", type_=sa.String), public_only=False))
FOLLOWERS_OF_DUPLICATES = (
    sa.select(tickets.c.followers).where(_is_duplicate).order_by(tickets.c.seq).limit(MAX_DUPLICATES)
)


async def read_followers_of_duplicates(reader: RowReader, case_id: str) -> list[str]:
    """Return the people who follow the duplicates of a case, of as many as are read with it."""
    rows = await reader.fetch_all(FOLLOWERS_OF_DUPLICATES, {"case_id": case_id})
    return [each for row in rows for each in row.followers or ()]


async def add(
    tx: Transaction, case_id: str, message_id: str | None, at: datetime, notified: Sequence[Mapping[str, str]]
) -> None:
    """Store a notification for each of several people, who are given as in the event of the change."""
    rows = [
        {
            "id": each["id"],
            "recipient": each["agentId"],
            "kind": each["kind"],
            "case_id": case_id,
            "message_id": message_id,
            "actor": each["actorId"],
            "at": at,
        }
        for each in notified
    ]
    await tx.execute_later(ADD_NOTIFICATION, rows)


async def read_page(
    reader: RowReader,
    principal: Principal,
    before: int | None,
    limit: int,
    *,
    unread: bool,
    kind: NotificationKind | None = None,
) -> tuple[Sequence[Row], int]:
    """Return the notifications of a principal about cases that it may see, newest first, and the number of unread ones.

    There are at most `limit`, with a seq less than `before`, and of one kind, if it is given. At most MAX_COUNTED and
    one of any kind are counted.
    """
    parameters: dict[str, Any] = {
        "person": principal.id,
        "before": MAX_INTEGER if before is None else before,
        "count": limit,
        "counted": MAX_COUNTED + 1,
    }
    if principal.role == "agent":
        parameters |= access_parameters(principal)
    if kind is not None:
        parameters["kind"] = kind
    rows = await reader.fetch_all(_select_page(principal.role, unread, kind is not None), parameters)
    return [row for row in rows if row.seq is not None], rows[0].unread


async def count_unread(reader: RowReader, principal: Principal) -> int:
    """Return the number of unread notifications of a principal, as `read_page` counts them."""
    _, unread = await read_page(reader, principal, None, 0, unread=True)
    return unread


@cache
def _select_page(role: str, unread: bool, of_kind: bool) -> sa.Select[Any]:  # noqa: FBT001 - a key of the cache
    shown = (
        sa.select(*(_N[name] for name in _SHOWN), tickets.c.subject)
        .join(tickets, tickets.c.id == _N.case_id)
        .where(_OF_RECIPIENT, *access_conditions(role))
    )
    page = shown.where(_N.seq < sa.bindparam("before", type_=sa.BigInteger), *([_IS_UNREAD] if unread else []))
    if of_kind:
        page = page.where(_N.kind == sa.bindparam("kind"))
    page = page.order_by(_N.seq.desc()).limit(sa.bindparam("count", type_=sa.BigInteger))
    found = page.subquery("page")
    counted = shown.with_only_columns(_N.seq).where(_IS_UNREAD).limit(sa.bindparam("counted", type_=sa.BigInteger))
    number = sa.select(sa.func.count().label("unread")).select_from(counted.subquery("counted")).subquery("number")
    # One row without a notification tells the number if the page is empty.
    return sa.select(number.c.unread, found).outerjoin_from(number, found, sa.true()).order_by(found.c.seq.desc())


async def mark_read(tx: Transaction, principal: Principal, ids: Sequence[str]) -> None:
    """Mark notifications of a principal as read; the ids of others have no effect."""
    await tx.execute(MARK_READ, {"person": principal.id, "now": utc_now(), "ids": list(ids)})


async def mark_read_until(tx: Transaction, principal: Principal, last: str) -> None:
    """Mark the notifications of a principal as read that stand in its list at one, or below it.

    Notifications of cases that it may not see now stand in no list, and stay unread.
    """
    parameters = {"person": principal.id, "now": utc_now(), "until": last}
    if principal.role == "agent":
        parameters |= access_parameters(principal)
    await tx.execute(_mark_read_until(principal.role), parameters)


@cache
def _mark_read_until(role: str) -> sa.Update:
    conditions = access_conditions(role)
    is_shown = sa.exists().where(tickets.c.id == _N.case_id, *conditions)
    return _MARK_READ_UNTIL.where(is_shown) if conditions else _MARK_READ_UNTIL
