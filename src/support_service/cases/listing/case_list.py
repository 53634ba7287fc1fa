"""SQL of case lists and workloads, and numbers of cases.

A number that took long to count is shared for a few seconds with all who ask for the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import sqlalchemy as sa
from cachetools import TTLCache
from pydantic import ValidationError

from support_service.cases.listing import snippets
from support_service.cases.listing.case_sorts import CaseOrder, CasePlace, case_order_for
from support_service.cases.listing.selection import NOT_SYNTHETIC, OVERDUE, filter_parameters, select_first_cases
from support_service.cases.model.case import MAX_PAGE_BYTES, ListedCase
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, CaseFilters, CaseQuery
from support_service.cases.model.vocabulary import CaseSort
from support_service.cases.sql import search
from support_service.cases.sql.projections import CASE_SUMMARY_JSON, PUBLIC_CASE_SUMMARY_JSON
from support_service.cases.sql.visibility import access_parameters
from support_service.core import pagination
from support_service.core.clock import utc_now
from support_service.core.domain.principals import CASE_SCOPED_ROLES, Principal
from support_service.core.search_words import SoughtIds, parse_sought_ids
from support_service.platform.database import Row, RowReader
from support_service.platform.database.dialect import octets
from support_service.platform.database.statements import limit_ordered_by_bytes, planned_by_values
from support_service.platform.database.tables import tickets

MAX_THREAD_RUN = 0.0005  # seconds for which a thread keeps the event loop waiting
MAX_CACHED_STATEMENTS = 1024  # statements that are kept; clients choose the set of filters
# Size in bytes of the columns that may be long.
_SIZE = octets(sa.cast(tickets.c.context, sa.Text)) + sa.func.coalesce(octets(tickets.c.description), 0)
COUNT_BY_STATUS = (
    sa.select(tickets.c.status, sa.func.count().label("number"))
    .where(tickets.c.assigned_agent_id == sa.bindparam("agent_id"), NOT_SYNTHETIC)
    .group_by(tickets.c.status)
)


@dataclass(frozen=True, slots=True)
class CaseListPage:
    """A page of (place, case) in the order of the list; `has_more` is True if matching cases follow."""

    cases: list[tuple[CasePlace, ListedCase]]
    has_more: bool


async def find_cases(
    reader: RowReader,
    query: CaseQuery,
    after: CasePlace | None,
    principal: Principal,
    *,
    max_bytes: int = MAX_PAGE_BYTES,
) -> CaseListPage:
    """Return a page of the cases that match the query and that the principal may see, of those after a place.

    The page has at most `query.limit` cases, and ends early when its cases reach `max_bytes` bytes. The cases of a
    search have a `match`.
    """
    filters = filter_parameters(query)
    if filters is None:
        return CaseListPage([], has_more=False)
    if after is not None:
        if after.at is None and case_order_for(query.sort, principal.role).implied_by in filters:
            raise pagination.invalid_cursor()  # it is of a list without this filter
        filters |= {"after": after.seq, "after_at": after.at} if after.at else {"after": after.seq}
    bounds = {"limit": query.limit, "one_more": query.limit + 1, "bytes": max_bytes}
    statement = page_statement(frozenset(filters), principal.role, query.sort)
    rows = await reader.fetch_all(statement, filters | access_parameters(principal) | bounds)
    # The database bounds the page by the stored sizes. JSON may write one character of a description as six bytes,
    # and the database could only count those by reading every text, so the JSON is measured here too.
    before = accumulate((len(row.ticket) for row in rows), initial=0)
    shown = [row for row, size in zip(rows, before, strict=False) if size < max_bytes]
    words, sought = filters.get("words"), parse_sought_ids(query.q or "")
    # Long pages and long texts take too long for the event loop.
    in_thread = words is not None or len(shown) > DEFAULT_PAGE_SIZE
    page = (
        await asyncio.to_thread(_to_listed_cases_with_matches, shown, words, sought)
        if in_thread and shown
        else [_to_listed_case(r) for r in shown]
    )
    return CaseListPage(page, bool(rows) and rows[0].number > len(page))


def _to_listed_case(row: Row) -> tuple[CasePlace, ListedCase]:
    try:
        case = ListedCase.model_validate_json(row.ticket)
    except ValidationError as failure:  # its row was changed by hand
        failure.add_note(f"The case with the number {row.seq} can't be listed.")
        raise
    if case.last_customer_message:
        case.last_customer_message.text = snippets.one_line_excerpt(case.last_customer_message.text)
    return CasePlace(row.seq, row.at), case


def _to_listed_cases_with_matches(
    rows: Sequence[Row], words: str | None, sought: SoughtIds | None
) -> list[tuple[CasePlace, ListedCase]]:
    """Read rows in a thread, with their matches of a search.

    The thread gives way regularly: the interpreter would make the event loop wait for 5 ms whenever it goes on. Not
    after each case, because the kernel takes 50 us or more to resume a thread that sleeps.
    """
    page = []
    given_way = time.monotonic()
    for row in rows:
        place, case = _to_listed_case(row)
        if words is not None:
            case.match = snippets.match_of(words, sought, case, row.message)
        page.append((place, case))
        if time.monotonic() - given_way > MAX_THREAD_RUN:
            time.sleep(0)
            given_way = time.monotonic()
    return page


async def count_cases(reader: RowReader, query: CaseFilters, principal: Principal, max_count: int) -> int:
    """Return the number of cases in the list that the principal may see; at most `max_count` are counted."""
    filters = filter_parameters(query)
    if filters is None:
        return 0
    statement = _count_statement(frozenset(filters), principal.role)
    # Not `fetch_now`, which SQLite runs on the event loop.
    (row,) = await reader.fetch_all(statement, filters | access_parameters(principal) | {"one_more": max_count})
    return int(row.number)


class CaseNumbers(NamedTuple):
    """How many cases a list has, and how many of them are late: a clock of theirs is overdue."""

    number: int
    late: int


async def count_late_cases(reader: RowReader, query: CaseFilters, principal: Principal, max_count: int) -> CaseNumbers:
    """Return what `count_cases` does, and how many of these cases are late; at most `max_count` are counted of each."""
    filters = filter_parameters(query)
    if filters is None:
        return CaseNumbers(0, 0)
    statement = _count_of_late_statement(frozenset(filters), principal.role)
    bound = filters | access_parameters(principal) | {"one_more": max_count, OVERDUE: utc_now()}
    (row,) = await reader.fetch_all(statement, bound)
    return CaseNumbers(int(row.number), int(row.late))


async def find_ids(reader: RowReader, query: CaseFilters, principal: Principal, max_count: int) -> list[str]:
    """Return the ids of the newest cases in the list that the principal may see, at most `max_count`."""
    filters = filter_parameters(query)
    if filters is None:
        return []
    statement = _ids_statement(frozenset(filters), principal.role)
    bound = filters | access_parameters(principal) | {"one_more": max_count}
    return [row.id for row in await reader.fetch_all(statement, bound)]


async def count_cases_by_status(reader: RowReader, agent_id: str) -> dict[str, int]:
    """Return the number of an agent's cases by status; statuses without a case are left out."""
    return {row.status: row.number for row in await reader.fetch_all(COUNT_BY_STATUS, {"agent_id": agent_id})}


@lru_cache(MAX_CACHED_STATEMENTS)
def page_statement(filters: frozenset[str], role: str, sort: CaseSort) -> sa.Select[Any]:
    """Return the SELECT of one page: `seq`, `at`, `ticket` (JSON) and `number` (matching rows, at most the limit + 1).

    `at` is the time by which a case is sorted, or NULL. The database writes JSON for the cases of the page only. The
    statement is cached for each set of filters, because building it takes SQLAlchemy longer than SQLite needs for the
    page.
    """
    order = case_order_for(sort, role)
    first = select_first_cases(filters, role, order).subquery()
    # The sizes of the page only: what is found first may come from an index without reading the cases.
    size = sa.select(_SIZE).where(tickets.c.seq == first.c.seq).scalar_subquery()
    sized = search.materialized(sa.select(first, size.label("size")))
    page = limit_ordered_by_bytes(sa.select(sized), order.order_by_columns)
    summary = PUBLIC_CASE_SUMMARY_JSON if role == "customer" else CASE_SUMMARY_JSON
    ticket = sa.select(summary).where(tickets.c.seq == page.c.seq).scalar_subquery()
    at = sa.null().label("at") if order.at is None else page.c.at
    columns: list[sa.ColumnElement[Any]] = [page.c.seq, at, ticket.label("ticket"), page.c.number]
    if "words" in filters:
        message = search.matching_message(
            page.c.seq, page, public_only=role == "customer", length=snippets.MAX_MESSAGE_LENGTH
        )
        columns.append(message.label("message"))
    return planned_by_values(sa.select(*columns).order_by(*order.order_by_columns(page)).limit(sa.bindparam("limit")))


@lru_cache(MAX_CACHED_STATEMENTS)
def _count_statement(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of `number`, the number of matching cases: it reads at most `one_more` of each status.

    They are counted in the order of opening, the fastest one: all sorts have the same cases.
    """
    return planned_by_values(_select_number(filters, role, CaseOrder(None)))


@lru_cache(MAX_CACHED_STATEMENTS)
def _count_of_late_statement(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of `number` of `_count_statement`, and of `late`, the number of overdue cases."""
    number = _select_number(filters, role, CaseOrder(None)).scalar_subquery()
    # The late cases are the first ones in this order.
    by_due_time = case_order_for("due", role)._replace(implied_by=OVERDUE)
    late = _select_number(filters | {OVERDUE}, role, by_due_time).scalar_subquery()
    return planned_by_values(sa.select(number.label("number"), late.label("late")))


def _select_number(filters: frozenset[str], role: str, order: CaseOrder) -> sa.Select[Any]:
    order = order._replace(only_counted="words" not in filters)
    counted = select_first_cases(filters, role, order, counts=True)
    return sa.select(sa.func.count().label("number")).select_from(counted.subquery())


@lru_cache(MAX_CACHED_STATEMENTS)
def _ids_statement(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of `id` of the newest `one_more` matching cases."""
    found = select_first_cases(filters, role, CaseOrder(None), counts=True).subquery()
    ids = sa.select(tickets.c.id).join(found, found.c.seq == tickets.c.seq).order_by(tickets.c.seq.desc())
    return planned_by_values(ids)


CountKey = tuple[object, ...]


MAX_SHARED_COUNTS = 2048

MIN_SHARED_DURATION = 0.02  # seconds; a count that took less is made again, so that it is exact
MAX_SHARED_AGE = 3.0  # seconds


class SharedCounts:
    """Counts cases in turns of the callers, and shares each count with callers who see the same cases."""

    def __init__(self, database: RowReader) -> None:
        self._database = database
        self._counting: set[asyncio.Task[CaseNumbers]] = set()
        self._kept_counts: TTLCache[CountKey, CaseNumbers] = TTLCache(MAX_SHARED_COUNTS, MAX_SHARED_AGE, time.monotonic)

    async def count_cases(
        self,
        principal: Principal,
        query: CaseFilters,
        max_count: int,
        open_turn: Callable[[], AbstractAsyncContextManager[None]],
        *,
        late: bool = False,
    ) -> CaseNumbers:
        """Return the number of matching cases that the principal may see; at most `max_count` are counted.

        With `late`, also the number of late cases.
        """
        filters = query.model_dump_json(exclude={"limit", "cursor"})
        key = (*_visibility_key(principal), filters, max_count, late)
        if (known := self._kept_counts.get(key)) is not None:
            return known
        async with AsyncExitStack() as in_turn:
            await in_turn.enter_async_context(open_turn())
            if (known := self._kept_counts.get(key)) is not None:  # counted while this one waited for its turn
                return known
            count = count_late_cases if late else _count_without_late
            counted = count(self._database, query, principal, max_count)
            counting = asyncio.create_task(self._count_and_keep(key, counted, in_turn.pop_all()))
        self._counting.add(counting)
        counting.add_done_callback(self._forget_task)
        # A caller that waits no longer leaves the statement: to end it would cost its connection.
        return await asyncio.shield(counting)

    async def _count_and_keep(
        self, key: CountKey, counted: Awaitable[CaseNumbers], in_turn: AsyncExitStack
    ) -> CaseNumbers:
        async with in_turn:
            started = time.monotonic()
            number = await counted
            if time.monotonic() - started >= MIN_SHARED_DURATION:
                self._kept_counts[key] = number
            return number

    def _forget_task(self, counting: asyncio.Task[CaseNumbers]) -> None:
        self._counting.discard(counting)
        if not counting.cancelled():
            counting.exception()  # a caller that waits gets it; other failures are not reported


async def _count_without_late(
    reader: RowReader, query: CaseFilters, principal: Principal, max_count: int
) -> CaseNumbers:
    return CaseNumbers(await count_cases(reader, query, principal, max_count), 0)


def _visibility_key(principal: Principal) -> CountKey:
    """Return what decides which cases a principal sees, see `Principal.may_see`."""
    if principal.role in CASE_SCOPED_ROLES:
        return principal.role, principal.subject, frozenset(principal.teams)
    return (principal.role,)
