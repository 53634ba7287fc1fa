"""SQL of the cases that match the filters of a list and that a role may see, in the order of the list."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing import case_filters
from support_service.cases.listing.case_filters import STATUS, TAG
from support_service.cases.listing.case_sorts import Order
from support_service.cases.sql import search
from support_service.platform.database.dialect import UtcDateTime, found_documents, octets
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


READ_CASES = 1_000  # number of cases that are searched one by one
MANY_MATCHES = 20  # among these cases, so that more are searched one by one
MOST_CASES = 30_000  # that are searched then
_READ_CASES: sa.ColumnElement[int] = sa.literal_column(str(READ_CASES), sa.BigInteger())
_MOST_CASES: sa.ColumnElement[int] = sa.literal_column(str(MOST_CASES), sa.BigInteger())
_MANY_MATCHES: sa.ColumnElement[int] = sa.literal_column(str(MANY_MATCHES), sa.BigInteger())
_ONE_MORE: sa.BindParameter[int] = sa.bindparam("one_more", type_=sa.BigInteger())
_ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.BigInteger())
_NEWEST: sa.ColumnElement[int] = sa.literal_column(str(1 << 42), sa.BigInteger())  # a seq above that of every case
_NONE: sa.ColumnElement[int] = sa.literal_column("-1", sa.BigInteger())


def sorted_matches(
    first: sa.Select[Any],
    conditions: Sequence[sa.ColumnElement[bool]],
    order: Order,
    size: sa.ColumnElement[int],
    *,
    after: bool,
) -> sa.Select[Any]:
    """Return the SELECT of `seq`, `size` and `at` of the first `one_more` cases that match the bound query `words`.

    `first` selects these columns of the cases that meet the conditions and are `after` the bound place, in order and
    without a limit. The order has a time.
    """
    near, ends_here = _search_first(first)
    newest: sa.ColumnElement[int] = sa.select(sa.case((ends_here, _NONE), else_=_NEWEST)).scalar_subquery()
    far = _found_by_index(newest, conditions, order, size, after=after)
    both = sa.union_all(sa.select(near).where(newest < 0), far).subquery()
    return sa.select(both).order_by(*order.columns_of(both)).limit(sa.bindparam("one_more"))


def filtered_matches(
    first: sa.Select[Any], conditions: Sequence[sa.ColumnElement[bool]], size: sa.ColumnElement[int], *, after: bool
) -> sa.Select[Any]:
    """Return the SELECT of `seq` and `size` of the newest `one_more` cases that match the bound query `words`.

    `first` selects these columns of the cases that meet the conditions and are `after` the bound place, newest first
    and without a limit.
    """
    near, ends_here = _search_first(first)
    ended: sa.ColumnElement[bool] = sa.select(ends_here).scalar_subquery()
    far = search.newest_matches(conditions, size, after=after, only_if=sa.not_(ended)).limit(sa.bindparam("one_more"))
    both = sa.union_all(sa.select(near).where(ended), sa.select(far.subquery())).subquery()
    return sa.select(both).order_by(both.c.seq.desc()).limit(sa.bindparam("one_more"))


def _search_first(first: sa.Select[Any]) -> tuple[Any, sa.ColumnElement[bool]]:
    """Return the matching cases among the first ones, and whether these are a full page, or all there are.

    If the first `READ_CASES` are not enough, so many more are searched that half more than a page is expected.
    """
    read = search.materialized(first.limit(_READ_CASES))
    # In the order in which they were read, so that the rest is not searched if the page is full.
    found = search.materialized(_matching(read))
    ends = sa.or_(_number_of(found) >= _ONE_MORE, _number_of(read) < _READ_CASES)
    needed = _ONE_MORE * sa.literal_column(str(READ_CASES * 3 // 2), sa.BigInteger())
    number = _number_of(found)
    are_enough = sa.and_(number >= _MANY_MATCHES, number * _MOST_CASES >= needed)
    further: sa.ColumnElement[int] = sa.select(
        sa.case((ends, _ZERO), (are_enough, needed // number), else_=_ZERO)
    ).scalar_subquery()
    read_further = search.materialized(first.offset(_READ_CASES).limit(further))
    near = search.materialized(sa.union_all(sa.select(found), sa.select(_matching(read_further).subquery())))
    is_read = sa.and_(further > _ZERO, _number_of(read_further) < further)
    return near, sa.or_(ends, _number_of(near) >= _ONE_MORE, is_read)


def _matching(cases: Any) -> sa.Select[Any]:
    return sa.select(cases).where(search.case_has_match(cases.c.seq)).limit(sa.bindparam("one_more"))


def _found_by_index(
    newest: sa.ColumnElement[int],
    conditions: Sequence[sa.ColumnElement[bool]],
    order: Order,
    size: sa.ColumnElement[int],
    *,
    after: bool,
) -> sa.Select[Any]:
    """Return the SELECT of the first cases that the search index has; each is looked up by its key."""
    documents = search.cases_of(found_documents(search.QUERY, newest)).distinct().subquery()
    at: Any = order.at
    at_of = sa.select(at).where(tickets.c.seq == documents.c.seq, *conditions).correlate(documents).scalar_subquery()
    placed = search.materialized(sa.select(documents.c.seq, at_of.label("at")))
    left = [order.is_after(placed.c.seq, placed.c.at)] if after else []
    found = sa.select(placed).where(placed.c.at.is_not(None), *left)
    limited = found.order_by(*order.columns_of(placed)).limit(sa.bindparam("one_more")).subquery()
    size_of = sa.select(size).where(tickets.c.seq == limited.c.seq).correlate(limited).scalar_subquery()
    return sa.select(limited.c.seq, size_of.label("size"), limited.c.at)


def _number_of(rows: sa.FromClause) -> sa.ColumnElement[int]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()
