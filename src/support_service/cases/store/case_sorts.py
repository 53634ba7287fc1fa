"""Sorts of the case list: the order of each, in one table."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.model.vocabulary import CaseSort
from support_service.database.dialect import UtcDateTime
from support_service.database.json_projections import IS_ACTIVE, LATEST_CHANGE
from support_service.database.pages import Direction
from support_service.database.tables import tickets
from support_service.sla.projections import HAS_PUBLIC_CLOCKS


class Order(NamedTuple):
    """An order of cases: by a time, if there is one, then by seq.

    `public_at` is the time for customers, if theirs is another one. `conditions` are those of the cases that the list
    has, with `public_conditions` for customers; they imply that the time is not NULL. Each time needs an index on it
    and seq. `indexed` are the columns with an index of their own in this order.
    """

    at: sa.ColumnElement[Any] | None
    direction: Direction = sa.desc
    conditions: Sequence[sa.ColumnElement[bool]] = ()
    public_at: sa.ColumnElement[Any] | None = None
    public_conditions: Sequence[sa.ColumnElement[bool]] = ()
    indexed: Collection[str] = ()

    @property
    def columns(self) -> list[str]:
        """The names of the columns by which pages are ordered."""
        return ["seq"] if self.at is None else ["at", "seq"]

    def columns_of(self, rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """Return `ORDER BY` for rows that have these columns."""
        return [self.direction(rows.c[name]) for name in self.columns]

    def is_after(self, seq: sa.ColumnElement[Any], at: sa.ColumnElement[Any] | None) -> sa.ColumnElement[bool]:
        """Return the condition that a case is after the place of the parameters `after` and `after_at`."""
        place: list[sa.ColumnElement[Any]] = [sa.bindparam("after", type_=sa.BigInteger())]
        key = [seq]
        if at is not None:
            place, key = [sa.bindparam("after_at", type_=UtcDateTime()), *place], [at, seq]
        left, right = sa.tuple_(*key), sa.tuple_(*place)
        return left < right if self.direction is sa.desc else left > right


ORDERS: Mapping[CaseSort, Order] = {
    "newest": Order(None),
    # Customers don't learn from the order when a note was added to their cases.
    "updated": Order(LATEST_CHANGE, public_at=tickets.c.updated_at),
    "waiting": Order(
        tickets.c.waiting_since,
        sa.asc,
        (tickets.c.waiting_since.is_not(None), IS_ACTIVE),
        indexed=("assigned_agent_id", "team", "priority"),
    ),
    "due": Order(
        tickets.c.sla_due_at,
        sa.asc,
        (tickets.c.sla_due_at.is_not(None),),
        indexed=("assigned_agent_id", "team", "priority"),
        public_conditions=(HAS_PUBLIC_CLOCKS,),  # others don't learn from the order when their cases are due
    ),
}


def order_of(sort: CaseSort, role: str) -> Order:
    """Return the order of a sort for a role."""
    order = ORDERS[sort]
    if role != "customer":
        return order
    conditions = (*order.conditions, *order.public_conditions)
    return order._replace(at=order.at if order.public_at is None else order.public_at, conditions=conditions)


def order_of_count(sort: CaseSort, role: str) -> Order:
    """Return the order in which the cases of a list, or of a search, are counted: the fastest with the same cases."""
    order = order_of(sort, role)
    return order if order.conditions else Order(None)
