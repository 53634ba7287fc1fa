"""Sorts of the case list: the order of each in one table, and the cursors that tell where a page begins.

No sort leaves out a case. A cursor is text that names the sort of its list; clients get it sealed. In the order of
opening, that of the first sort, it is the sequence number of a case. In the other orders it is one byte for the sort,
the time of the sort in microseconds since 1970, and the case's sequence number. A case without this time comes last;
its cursor has a time that no case has.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, get_args

import sqlalchemy as sa

from support_service.cases.model.vocabulary import CaseSort
from support_service.cases.sql.projections import HAS_PUBLIC_CLOCKS, IS_ACTIVE, IS_SNOOZED, LATEST_CHANGE
from support_service.core import pagination
from support_service.core.clock import from_micros, to_micros
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.statements import Direction
from support_service.platform.database.tables import tickets


class CaseOrder(NamedTuple):
    """An order of cases: by a time, if there is one, then by seq.

    `public_at` is the time for customers, if they sort by another one. Cases that meet the `conditions` (for customers
    also the `public_conditions`) are sorted by the time, and their time is not NULL. All other cases come last, newest
    first. If `others_are_indexed`, the active ones of them have no time, and an index. The filter `implied_by` leaves
    the other cases out. Each time needs an index on it and seq. Cases that are `only_counted` are in no order:
    PostgreSQL would read a long index in order to find a few of them. SQLite would sort all, even by a constant.
    """

    at: sa.ColumnElement[Any] | None
    direction: Direction = sa.desc
    conditions: Sequence[sa.ColumnElement[bool]] = ()
    public_at: sa.ColumnElement[Any] | None = None
    public_conditions: Sequence[sa.ColumnElement[bool]] = ()
    implied_by: str | None = None
    others_are_indexed: bool = True
    only_counted: bool = False

    def order_by(self, *key: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
        """Return `ORDER BY` for columns of the order."""
        return [] if self.only_counted else [self.direction(column) for column in key]

    def order_by_columns(self, rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """Return `ORDER BY` for rows that have the columns `seq` and, if there is a time, `at`."""
        seq = rows.c.seq
        if self.at is None:
            return self.order_by(seq)
        at = rows.c.at
        if not self.conditions:
            return self.order_by(at, seq)
        return [at.is_(None), self.direction(at), sa.case((at.is_(None), -seq), else_=seq)]

    @property
    def of_active_cases(self) -> bool:
        """Whether only active cases are sorted by the time."""
        return any(condition is IS_ACTIVE for condition in self.conditions)

    @property
    def order_of_others(self) -> "CaseOrder":
        """The order of the cases that come last."""
        return CaseOrder(None, conditions=[sa.not_(sa.and_(*self.conditions))])

    @property
    def order_of_active_others(self) -> "CaseOrder":
        """The order of the cases that come last, in a list of cases of active statuses only, for staff.

        Indexes have these cases. PostgreSQL would count their whole condition twice, and expect too few cases of the
        status.
        """
        assert self.at is not None  # noqa: S101 - an order with conditions has a time
        has_none = self.at.is_(None)
        return CaseOrder(None, conditions=[has_none])

    def is_after(self, seq: sa.ColumnElement[Any], at: sa.ColumnElement[Any] | None) -> sa.ColumnElement[bool]:
        """Return the condition that a case is after the place of the parameters `after` and `after_at`."""
        place: list[sa.ColumnElement[Any]] = [sa.bindparam("after", type_=sa.BigInteger())]
        key = [seq]
        if at is not None:
            place, key = [sa.bindparam("after_at", type_=UtcDateTime()), *place], [at, seq]
        left, right = sa.tuple_(*key), sa.tuple_(*place)
        return left < right if self.direction is sa.desc else left > right


ORDER_BY_SORT: Mapping[CaseSort, CaseOrder] = {
    "newest": CaseOrder(None),
    # Customers don't learn from the order when a note was added to their cases.
    "updated": CaseOrder(LATEST_CHANGE, public_at=tickets.c.updated_at),
    "waiting": CaseOrder(tickets.c.waiting_since, sa.asc, (tickets.c.waiting_since.is_not(None), IS_ACTIVE)),
    "due": CaseOrder(
        tickets.c.sla_due_at,
        sa.asc,
        (tickets.c.sla_due_at.is_not(None),),
        public_conditions=(HAS_PUBLIC_CLOCKS,),  # others don't learn from the order when their cases are due
        implied_by="due_before",
    ),
    # The snoozed cases are few, and are looked up for any other filter.
    "snoozed": CaseOrder(tickets.c.snoozed_until, sa.asc, IS_SNOOZED, implied_by="snoozed", others_are_indexed=False),
}


def case_order_for(sort: CaseSort, role: str) -> CaseOrder:
    """Return the order of a sort for a role."""
    order = ORDER_BY_SORT[sort]
    if role != "customer":
        return order
    conditions = (*order.conditions, *order.public_conditions)
    return order._replace(at=order.at if order.public_at is None else order.public_at, conditions=conditions)


_TIMED_CURSOR = struct.Struct(">bqq")
_NO_TIME = -(1 << 63)
_SORT_NUMBERS: dict[CaseSort, int] = {sort: number for number, sort in enumerate(get_args(CaseSort)) if number}


class CasePlace(NamedTuple):
    """The place of a case in a list: its sequence number, and the time by which it is sorted, if it is by one."""

    seq: int
    at: datetime | None = None


def encode_cursor(sort: CaseSort, place: CasePlace) -> str:
    """Return the cursor of the page that begins after a place."""
    if sort not in _SORT_NUMBERS:
        return pagination.encode_cursor(place.seq)
    micros = _NO_TIME if place.at is None else to_micros(place.at)
    timed = _TIMED_CURSOR.pack(_SORT_NUMBERS[sort], micros, place.seq)
    return base64.urlsafe_b64encode(timed).decode().rstrip("=")


def decode_cursor(sort: CaseSort, cursor: str | None) -> CasePlace | None:
    """Return the place after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue, or that is of another sort.
    """
    if cursor is None:
        return None
    if sort not in _SORT_NUMBERS:
        seq = pagination.decode_cursor(cursor)
        return None if seq is None else CasePlace(seq)
    try:
        number, micros, seq = _TIMED_CURSOR.unpack(base64.b64decode(cursor + "=", altchars=b"-_", validate=True))
        place = CasePlace(seq, None if micros == _NO_TIME else from_micros(micros))
    except (ValueError, OverflowError, struct.error):  # binascii.Error is a ValueError
        raise pagination.invalid_cursor() from None
    if number != _SORT_NUMBERS[sort] or seq < 0:
        raise pagination.invalid_cursor()
    return place
