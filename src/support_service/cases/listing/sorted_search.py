"""SQL of a search in a list that has filters, that is sorted by a time, or that is counted.

A word is in few cases or in very many, and the databases can't tell. So the first cases of the sorted list are searched
one by one, and more of them if enough matches can be expected. Only if they have too few for a page, and more cases
follow, the search index is asked for all matching cases: the word is in few of them then. So a frequent word does not
make a list slow whose filters match few cases. One statement holds all steps; a step runs only if it is needed.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing.case_sorts import Order
from support_service.cases.store import search
from support_service.platform.database.search_dialect import found_documents
from support_service.platform.database.tables import tickets

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
