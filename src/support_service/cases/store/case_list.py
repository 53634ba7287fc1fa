"""SQL of case lists and workloads."""

import asyncio
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import sqlalchemy as sa

from support_service.cases import matches
from support_service.cases.model.case import MAX_PAGE_BYTES, CaseSummary
from support_service.cases.model.requests import CaseFilters, CaseQuery
from support_service.cases.store import search
from support_service.cases.store.projections import CASE_SUMMARY_JSON, PUBLIC_CASE_SUMMARY_JSON
from support_service.core.domain.principals import Principal
from support_service.core.search_words import search_query
from support_service.database import Reader
from support_service.database.dialect import octets
from support_service.database.json_projections import IS_SYNTHETIC
from support_service.database.pages import limit_by_bytes
from support_service.database.tables import tickets

NOT_SYNTHETIC = sa.not_(IS_SYNTHETIC)
WORKLOAD = (
    sa.select(tickets.c.status, sa.func.count().label("number"))
    .where(tickets.c.assigned_agent_id == sa.bindparam("agent_id"), NOT_SYNTHETIC)
    .group_by(tickets.c.status)
)
FILTER_COLUMNS = ("status", "customer_id", "assigned_agent_id", "team", "priority", "channel")
# Size in bytes of the columns that may be long.
_SIZE = octets(sa.cast(tickets.c.context, sa.Text)) + sa.func.coalesce(octets(tickets.c.description), 0)


@dataclass(frozen=True, slots=True)
class CaseListPage:
    """A page of (seq, case), newest first; `more` is True if older matching cases follow."""

    cases: list[tuple[int, CaseSummary]]
    more: bool


async def find(
    reader: Reader, query: CaseQuery, after: int | None, principal: Principal, *, max_bytes: int = MAX_PAGE_BYTES
) -> CaseListPage:
    """Return a page of the cases that match the query and that the principal may see, older than the seq `after`.

    The page has at most `query.limit` cases, and ends early when its cases reach `max_bytes` bytes. The cases of a
    search have a `match`.
    """
    filters = _filters(query)
    if filters is None:
        return CaseListPage([], more=False)
    if after is not None:
        filters["after"] = after
    bounds = {"limit": query.limit, "one_more": query.limit + 1, "bytes": max_bytes}
    rows = await reader.fetch_all(
        _page_statement(frozenset(filters), principal.role), filters | access_parameters(principal) | bounds
    )
    # The database bounds the page by the stored sizes. JSON may write one character of a description as six bytes,
    # and the database could only count those by reading every text, so the JSON is measured here too.
    before = accumulate((len(row.ticket) for row in rows), initial=0)
    page = [
        (row.seq, CaseSummary.model_validate_json(row.ticket))
        for row, size in zip(rows, before, strict=False)
        if size < max_bytes
    ]
    if page and "words" in filters:
        texts = [row.message for row, _ in zip(rows, page, strict=False)]
        # Long texts take too long for the event loop.
        await asyncio.to_thread(matches.add_matches, filters["words"], [case for _, case in page], texts)
    return CaseListPage(page, bool(rows) and rows[0].number > len(page))


def access_parameters(principal: Principal) -> dict[str, Any]:
    """Return the parameters of `access_conditions`."""
    # A missing subject becomes an empty string, which is never an id: it must not match cases without a customer.
    return {"subject": principal.subject or "", "teams": list(principal.teams)}


async def count(reader: Reader, query: CaseFilters, principal: Principal, most: int) -> int:
    """Return the number of matching cases that the principal may see; at most `most` are counted."""
    filters = _filters(query)
    if filters is None:
        return 0
    statement = _count_statement(frozenset(filters), principal.role)
    # Not `fetch_one`, which SQLite runs on the event loop.
    (row,) = await reader.fetch_all(statement, filters | access_parameters(principal) | {"one_more": most})
    return int(row.number)


async def workload(reader: Reader, agent_id: str) -> dict[str, int]:
    """Return the number of an agent's cases by status; statuses without a case are left out."""
    return {row.status: row.number for row in await reader.fetch_all(WORKLOAD, {"agent_id": agent_id})}


def _filters(query: CaseFilters) -> dict[str, Any] | None:
    """Return the parameters of the given filters by name; None if no case can match, because `q` has no word."""
    filters: dict[str, Any] = {name: value for name in FILTER_COLUMNS if (value := getattr(query, name)) is not None}
    if query.q is not None:
        words = search_query(query.q)
        if words is None:
            return None
        filters["words"] = words
    return filters


@cache
def _page_statement(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of one page: `seq`, `ticket` (JSON) and `number` (matching rows, at most the limit + 1).

    The database writes JSON for the cases of the page only. The statement is cached for each set of filters, because
    building it takes SQLAlchemy longer than SQLite needs for the page.
    """
    page = limit_by_bytes(_matches(filters, role), "seq", sa.desc)
    summary = PUBLIC_CASE_SUMMARY_JSON if role == "customer" else CASE_SUMMARY_JSON
    ticket = sa.select(summary).where(tickets.c.seq == page.c.seq).scalar_subquery()
    columns: list[sa.ColumnElement[Any]] = [page.c.seq, ticket.label("ticket"), page.c.number]
    if "words" in filters:
        message = search.matching_message(
            page.c.seq, page, public_only=role == "customer", length=matches.MAX_MESSAGE_LENGTH
        )
        columns.append(message.label("message"))
    return sa.select(*columns).order_by(page.c.seq.desc()).limit(sa.bindparam("limit"))


@cache
def _count_statement(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of `number`, the number of matching cases: it reads at most `one_more` of them."""
    return sa.select(sa.func.count().label("number")).select_from(_matches(filters, role).subquery())


def _matches(filters: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the SELECT of `seq` and `size` of the newest matching cases, at most `one_more`."""
    conditions = [tickets.c[name] == sa.bindparam(name) for name in FILTER_COLUMNS if name in filters]
    if "channel" not in filters:
        conditions.append(NOT_SYNTHETIC)
    conditions += access_conditions(role)
    one_customer = "customer_id" in filters or role == "customer"
    if "words" in filters and not one_customer:
        found = search.newest_matches(conditions, _SIZE, after="after" in filters)
    else:
        if "words" in filters:
            conditions.append(search.case_matches(public_only=role == "customer"))
        if "after" in filters:
            conditions.append(tickets.c.seq < sa.bindparam("after"))
        found = sa.select(tickets.c.seq, _SIZE.label("size")).where(*conditions).order_by(tickets.c.seq.desc())
    return found.limit(sa.bindparam("one_more"))


def access_conditions(role: str) -> list[sa.ColumnElement[bool]]:
    """Return `Principal.may_see` as SQL conditions; an empty list for roles that see all cases."""
    subject: sa.BindParameter[str] = sa.bindparam("subject")
    if role == "customer":
        return [tickets.c.customer_id == subject]
    if role == "agent":
        of_agent = sa.or_(
            tickets.c.assigned_agent_id == subject,
            sa.and_(tickets.c.assigned_agent_id.is_(None), tickets.c.team.is_(None)),
            tickets.c.team.in_(sa.bindparam("teams", expanding=True)),
        )
        return [of_agent]
    return []
