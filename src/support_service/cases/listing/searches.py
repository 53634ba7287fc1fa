"""SQL of searches in the order of a list: the first cases one by one, then those that the search index finds."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing.case_sorts import CaseOrder
from support_service.cases.sql import search
from support_service.platform.database.dialect import matching_documents
from support_service.platform.database.tables import tickets

CASES_SEARCHED_FIRST = 300  # number of cases that are searched one by one
MANY_MATCHES = 6  # among these cases, so that more are searched one by one
MAX_CASES_SEARCHED = 30_000  # that are searched then
_CASES_SEARCHED_FIRST: sa.ColumnElement[int] = sa.literal_column(str(CASES_SEARCHED_FIRST), sa.BigInteger())
_MAX_CASES_SEARCHED: sa.ColumnElement[int] = sa.literal_column(str(MAX_CASES_SEARCHED), sa.BigInteger())
_MANY_MATCHES: sa.ColumnElement[int] = sa.literal_column(str(MANY_MATCHES), sa.BigInteger())
_ONE_MORE: sa.BindParameter[int] = sa.bindparam("one_more", type_=sa.BigInteger())
_ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.BigInteger())
_ABOVE_EVERY_SEQ: sa.ColumnElement[int] = sa.literal_column(str(1 << 42), sa.BigInteger())
_BELOW_EVERY_SEQ: sa.ColumnElement[int] = sa.literal_column("-1", sa.BigInteger())


def select_matches_in_sort_order(
    first: sa.Select[Any],
    conditions: Sequence[sa.ColumnElement[bool]],
    order: CaseOrder,
    size: sa.ColumnElement[int],
    *,
    after: bool,
) -> sa.Select[Any]:
    """Return the SELECT of `seq`, `size` and `at` of the first `one_more` cases that match the bound query `words`.

    `first` selects these columns of the cases that meet the conditions and are `after` the bound place, in order and
    without a limit. The order has a time.
    """
    matches_among_first, ends_here = _search_first_cases(first)
    up_to_seq: sa.ColumnElement[int] = sa.select(
        sa.case((ends_here, _BELOW_EVERY_SEQ), else_=_ABOVE_EVERY_SEQ)
    ).scalar_subquery()
    matches_in_index = _select_matches_in_search_index(up_to_seq, conditions, order, size, after=after)
    both = sa.union_all(sa.select(matches_among_first).where(up_to_seq < 0), matches_in_index).subquery()
    return sa.select(both).order_by(*order.order_by_columns(both)).limit(sa.bindparam("one_more"))


def select_newest_matches(
    first: sa.Select[Any], conditions: Sequence[sa.ColumnElement[bool]], size: sa.ColumnElement[int], *, after: bool
) -> sa.Select[Any]:
    """Return the SELECT of `seq` and `size` of the newest `one_more` cases that match the bound query `words`.

    `first` selects these columns of the cases that meet the conditions and are `after` the bound place, newest first
    and without a limit.
    """
    matches_among_first, ends_here = _search_first_cases(first)
    ended: sa.ColumnElement[bool] = sa.select(ends_here).scalar_subquery()
    matches_in_index = search.select_newest_matches(conditions, size, after=after, only_if=sa.not_(ended)).limit(
        sa.bindparam("one_more")
    )
    both = sa.union_all(sa.select(matches_among_first).where(ended), sa.select(matches_in_index.subquery())).subquery()
    return sa.select(both).order_by(both.c.seq.desc()).limit(sa.bindparam("one_more"))


def _search_first_cases(first: sa.Select[Any]) -> tuple[Any, sa.ColumnElement[bool]]:
    """Return the matching cases among the first ones, and whether these are a full page, or all there are.

    If the first `CASES_SEARCHED_FIRST` are not enough, so many more are searched that half more than a page is
    expected.
    """
    read = search.materialized(first.limit(_CASES_SEARCHED_FIRST))
    # In the order in which they were read, so that the rest is not searched if the page is full.
    found = search.materialized(_select_matching(read))
    ends = sa.or_(_count_of_rows(found) >= _ONE_MORE, _count_of_rows(read) < _CASES_SEARCHED_FIRST)
    needed = _ONE_MORE * sa.literal_column(str(CASES_SEARCHED_FIRST * 3 // 2), sa.BigInteger())
    number = _count_of_rows(found)
    are_enough = sa.and_(number >= _MANY_MATCHES, number * _MAX_CASES_SEARCHED >= needed)
    further: sa.ColumnElement[int] = sa.select(
        sa.case((ends, _ZERO), (are_enough, needed // number), else_=_ZERO)
    ).scalar_subquery()
    read_further = search.materialized(first.offset(_CASES_SEARCHED_FIRST).limit(further))
    matches_among_first = search.materialized(
        sa.union_all(sa.select(found), sa.select(_select_matching(read_further).subquery()))
    )
    is_read = sa.and_(further > _ZERO, _count_of_rows(read_further) < further)
    return matches_among_first, sa.or_(ends, _count_of_rows(matches_among_first) >= _ONE_MORE, is_read)


def _select_matching(cases: Any) -> sa.Select[Any]:
    return sa.select(cases).where(search.any_document_matches_condition(cases.c.seq)).limit(sa.bindparam("one_more"))


def _select_matches_in_search_index(
    up_to_seq: sa.ColumnElement[int],
    conditions: Sequence[sa.ColumnElement[bool]],
    order: CaseOrder,
    size: sa.ColumnElement[int],
    *,
    after: bool,
) -> sa.Select[Any]:
    """Return the SELECT of the first cases that the search index has; each is looked up by its key."""
    documents = search.case_seqs_of(matching_documents(search.QUERY_PARAMETER, up_to_seq)).distinct().subquery()
    at: Any = order.at
    at_of = sa.select(at).where(tickets.c.seq == documents.c.seq, *conditions).correlate(documents).scalar_subquery()
    placed = search.materialized(sa.select(documents.c.seq, at_of.label("at")))
    left = [order.is_after(placed.c.seq, placed.c.at)] if after else []
    found = sa.select(placed).where(placed.c.at.is_not(None), *left)
    limited = found.order_by(*order.order_by_columns(placed)).limit(sa.bindparam("one_more")).subquery()
    size_of = sa.select(size).where(tickets.c.seq == limited.c.seq).correlate(limited).scalar_subquery()
    return sa.select(limited.c.seq, size_of.label("size"), limited.c.at)


def _count_of_rows(rows: sa.FromClause) -> sa.ColumnElement[int]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()
