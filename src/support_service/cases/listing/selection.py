"""SQL of the cases that match the filters of a list and that a role may see, in the order of the list."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing import case_filters
from support_service.cases.listing.case_filters import STATUS, TAG
from support_service.cases.listing.case_sorts import Order
from support_service.cases.listing.sorted_search import filtered_matches, sorted_matches
from support_service.cases.store import search
from support_service.platform.database.dialect import UtcDateTime, octets
from support_service.platform.database.tables import ticket_tags, tickets

PLACE = {"after", "after_at"}
UNFILTERED = {"words", *PLACE}  # names without a condition on columns of cases
# Size in bytes of the columns that may be long.
_SIZE = octets(sa.cast(tickets.c.context, sa.Text)) + sa.func.coalesce(octets(tickets.c.description), 0)


def first_matches(filters: frozenset[str], role: str, order: Order, *, counts: bool = False) -> sa.Select[Any]:
    """Return the SELECT of the first matching cases, at most `one_more`: `seq`, `size`, and `at` if ordered by it.

    `filters` are the names of `case_filters.parameters`, with `after` if the cases must be after a place, and with
    `after_at` if that place has a time. With `counts`, `one_more` may be large.
    """
    if not order.conditions or order.implied_by in filters:
        return _first_of_part(filters, role, order, counts=counts)
    if filters & PLACE == {"after"}:  # the page begins behind the last case with a time
        return _without_time(_first_of_part(filters, role, order.of_others))
    timed = _first_of_part(filters, role, order).subquery()
    others = _without_time(_first_of_part(filters - PLACE, role, order.of_others))
    # Without ORDER BY: the others are read only if those with a time do not fill the page.
    both = sa.union_all(sa.select(timed.c.seq, timed.c.size, timed.c.at), others).subquery()
    return sa.select(both).limit(sa.bindparam("one_more"))


def _without_time(cases: sa.Select[Any]) -> sa.Select[Any]:
    found = cases.subquery()
    return sa.select(found.c.seq, found.c.size, sa.cast(sa.null(), UtcDateTime).label("at"))


def _first_of_part(filters: frozenset[str], role: str, order: Order, *, counts: bool = False) -> sa.Select[Any]:
    """Return what `first_matches` returns, of the cases that meet the conditions of the order."""
    tags = case_filters.numbered(filters, TAG)
    read_in_order = order.at is not None or bool(tags)
    named = case_filters.conditions(filters, role, read_in_order=read_in_order, indexed=() if tags else order.indexed)
    conditions = [*order.conditions, *named]
    statuses = case_filters.one_of_statuses(filters, read_in_order=read_in_order)
    limit: sa.BindParameter[int] = sa.bindparam("one_more")
    if "words" in filters:
        after = "after" in filters
        conditions += statuses
        if "customer_id" in filters or role == "customer":
            conditions.append(search.case_matches(public_only=role == "customer"))
            return _in_order(conditions + case_filters.has_tags(tags), filters, order).limit(limit)
        first = _in_order(conditions, filters, order, tags)
        conditions += case_filters.has_tags(tags)
        if order.at is not None:
            return sorted_matches(first, conditions, order, _SIZE, after=after)
        if counts or order.conditions or role == "agent" or filters - UNFILTERED:
            return filtered_matches(first, conditions, _SIZE, after=after)
        return search.newest_matches(conditions, _SIZE, after=after).limit(limit)
    if statuses and not read_in_order:
        # The first cases of each status, by its index: that of several statuses at once is not in order.
        each = [
            _in_order([*conditions, tickets.c.status == sa.bindparam(name)], filters, order).limit(limit)
            for name in case_filters.numbered(filters, STATUS)
        ]
        merged = sa.union_all(*(sa.select(first.subquery()) for first in each)).subquery()
        return sa.select(merged).order_by(*order.columns_of(merged)).limit(limit)
    return _in_order(conditions + statuses, filters, order, tags).limit(limit)


def _in_order(
    conditions: Sequence[sa.ColumnElement[bool]], filters: frozenset[str], order: Order, tags: Sequence[str] = ()
) -> sa.Select[Any]:
    """Return the SELECT of the cases with these conditions and tags in order, of those of the first tag if any."""
    tagged = ticket_tags.alias("tagged")
    seq: sa.ColumnElement[int] = tagged.c.seq if tags else tickets.c.seq
    columns: list[sa.ColumnElement[Any]] = [seq.label("seq"), _SIZE.label("size")]
    key: list[sa.ColumnElement[Any]] = [seq]
    if order.at is not None:
        columns.append(order.at.label("at"))
        key = [order.at, seq]
    found = sa.select(*columns).where(*conditions)
    if tags:
        found = found.join(tagged, tagged.c.seq == tickets.c.seq).where(
            tagged.c.tag == sa.bindparam(tags[0], type_=sa.Text()), *case_filters.has_tags(tags[1:])
        )
    if "after" in filters:
        found = found.where(order.is_after(seq, order.at))
    return found.order_by(*map(order.direction, key))
