"""SQL of searches in the order of a list: the first cases one by one, then the cases that the search index finds."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing.case_sorts import CaseOrder
from support_service.cases.sql import search
from support_service.cases.sql.search import ONE_MORE, literal_number
from support_service.platform.database.dialect import matching_documents
from support_service.platform.database.tables import tickets

Number = sa.ColumnElement[int]
FirstCases = Callable[[Number, Number | None], sa.Select[Any]]
"""Returns the SELECT of the first cases of a list in order, with a limit and an offset: `seq`, also `at`."""

CASES_SEARCHED_FIRST = literal_number(300)  # number of cases that are searched one by one
MANY_MATCHES = literal_number(6)  # among these cases, so that more are searched one by one
MAX_CASES_SEARCHED = literal_number(30_000)  # that are searched then
_ABOVE_EVERY_SEQ = literal_number(1 << 42)
_BELOW_EVERY_SEQ = literal_number(-1)


def select_matches_in_sort_order(
    first: FirstCases, conditions: Sequence[sa.ColumnElement[bool]], order: CaseOrder, *, after: bool
) -> sa.Select[Any]:
    """Return the SELECT of `seq` and `at` of the first `one_more` cases that match the bound query `words`.

    `first` selects the cases that meet the conditions and are `after` the bound place. The order has a time.
    """
    matches_among_first, ended = _search_first_cases(first)
    up_to_seq = sa.case((ended, _BELOW_EVERY_SEQ), else_=_ABOVE_EVERY_SEQ)
    documents = search.case_seqs_of(matching_documents(search.QUERY_PARAMETER, up_to_seq))
    matches_in_index = select_found(documents.distinct(), conditions, order, after=after)
    both = sa.union_all(sa.select(matches_among_first).where(ended), sa.select(matches_in_index.subquery())).subquery()
    return sa.select(both).order_by(*order.order_by_columns(both)).limit(ONE_MORE)


def select_newest_listed_matches(
    first: FirstCases, conditions: Sequence[sa.ColumnElement[bool]], *, after: bool
) -> sa.Select[Any]:
    """Return the SELECT of `seq` of the newest `one_more` cases that match the bound query `words`.

    `first` selects the cases that meet the conditions and are `after` the bound place, newest first.
    """
    matches_among_first, ended = _search_first_cases(first)
    matches_in_index = search.select_newest_matches(conditions, after=after, only_if=sa.not_(ended)).limit(ONE_MORE)
    both = sa.union_all(sa.select(matches_among_first).where(ended), sa.select(matches_in_index.subquery())).subquery()
    return sa.select(both).order_by(both.c.seq.desc()).limit(ONE_MORE)


def _search_first_cases(first: FirstCases) -> tuple[Any, sa.ColumnElement[bool]]:
    """Return the matching cases among the first ones, and whether these are a full page, or all there are.

    If the first `CASES_SEARCHED_FIRST` are not enough, so many more are searched that half more than a page is
    expected.
    """
    read = search.materialized(first(CASES_SEARCHED_FIRST, None))
    # In the order in which they were read, so that the rest is not searched if the page is full.
    found = search.materialized(_select_matching(read))
    number = sa.select(sa.func.count().label("number")).select_from(found).subquery().c.number
    needed = ONE_MORE * literal_number(450)
    # The number of cases to search further, or -1 if the search ends here.
    rest = search.materialized(
        sa.select(
            sa.case(
                (sa.or_(number >= ONE_MORE, _count_of_rows(read) < CASES_SEARCHED_FIRST), literal_number(-1)),
                (sa.and_(number >= MANY_MATCHES, number * MAX_CASES_SEARCHED >= needed), needed // number),
                else_=literal_number(0),
            ).label("number")
        )
    )
    # SQLite parses an expression again wherever it is named: each statement names another one once if it can.
    number_further = sa.case((rest.c.number > literal_number(0), rest.c.number), else_=literal_number(0))
    read_further = search.materialized(first(sa.select(number_further).scalar_subquery(), CASES_SEARCHED_FIRST))
    matches_among_first = search.materialized(
        sa.union_all(sa.select(found), sa.select(_select_matching(read_further).subquery()))
    )
    all_read = sa.and_(rest.c.number > literal_number(0), _count_of_rows(read_further) < rest.c.number)
    is_full = _count_of_rows(matches_among_first) >= ONE_MORE
    ended = search.materialized(
        sa.select(sa.or_(rest.c.number < literal_number(0), is_full, all_read).label("ended")).select_from(rest)
    )
    return matches_among_first, sa.select(ended.c.ended).scalar_subquery()


def _select_matching(cases: Any) -> sa.Select[Any]:
    return sa.select(cases).where(search.any_document_matches_condition(cases.c.seq)).limit(ONE_MORE)


def select_found(
    cases: sa.Select[Any], conditions: Sequence[sa.ColumnElement[bool]], order: CaseOrder, *, after: bool
) -> sa.Select[Any]:
    """Return the SELECT of the first of these cases that meet the conditions; each is looked up by its key.

    `cases` is the SELECT of `seq`, each once. With `after` they are after the bound place.
    """
    if order.at is None:
        older = [order.is_after(tickets.c.seq, None)] if after else []
        return search.select_existing(cases, [*conditions, *older])
    found = cases.subquery()
    at: Any = order.at
    at_of = sa.select(at).where(tickets.c.seq == found.c.seq, *conditions).correlate(found).scalar_subquery()
    placed = search.materialized(sa.select(found.c.seq, at_of.label("at")))
    later = [order.is_after(placed.c.seq, placed.c.at)] if after else []
    first = sa.select(placed).where(placed.c.at.is_not(None), *later).order_by(*order.order_by_columns(placed))
    return first.limit(ONE_MORE)


def _count_of_rows(rows: sa.FromClause) -> sa.ColumnElement[int]:
    return sa.select(sa.func.count()).select_from(rows).scalar_subquery()
