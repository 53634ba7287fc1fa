"""The cases of a list: the parameters of a query by name, and the SQL that selects what matches, in order."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing.case_sorts import CaseOrder
from support_service.cases.listing.searches import select_matches_in_sort_order, select_newest_matches
from support_service.cases.model.requests import CaseFilters
from support_service.cases.model.vocabulary import NONE_FILTER
from support_service.cases.sql import search
from support_service.cases.sql.projections import HAS_PUBLIC_CLOCKS, IS_SYNTHETIC, LATEST_CHANGE, access_conditions
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import STATUSES
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.search_words import padded_terms, parse_search_query
from support_service.platform.database.dialect import UtcDateTime, octets, unindexed
from support_service.platform.database.tables import ticket_references, ticket_tags, tickets

NOT_SYNTHETIC = sa.not_(IS_SYNTHETIC)
COLUMNS_OF_FILTERS = ("customer_id", "assigned_agent_id", "team", "priority", "channel")
COLUMNS_THAT_MAY_BE_NONE = ("assigned_agent_id", "team")
COLUMNS_WITH_FEW_VALUES = ("status", "priority", "channel")  # one of the values may be in most cases
KIND_BY_REFERENCE_FILTER = {f"{kind}_id": kind for kind in SERVICE_BY_KIND}
# Prefixes of names; a number follows the last two.
WITHOUT_PREFIX, STATUS_PREFIX, TAG_PREFIX = "without_", "status_", "tag_"


def filter_parameters(query: CaseFilters) -> dict[str, Any] | None:
    """Return the value of each filter of a query by the name that stands for its condition.

    None if no case can match, because `q` has no word.
    """
    named = (*COLUMNS_OF_FILTERS, *KIND_BY_REFERENCE_FILTER, "updated_after")
    found: dict[str, Any] = {name: value for name in named if (value := getattr(query, name)) is not None}
    for name in COLUMNS_THAT_MAY_BE_NONE:
        if found.get(name) == NONE_FILTER:
            found[WITHOUT_PREFIX + name] = found.pop(name)
    if len(query.status) == 1:
        found["status"] = query.status[0]
    elif len(query.status) < len(STATUSES):
        found |= {f"{STATUS_PREFIX}{number}": status for number, status in enumerate(query.status)}
    if due_before := _due_before(query):
        found["due_before"] = due_before
    if query.q is not None:
        words = parse_search_query(query.q)
        if words is None:
            return None
        found |= {"words": words, search.LONGEST_TEXT_PARAMETER: max(map(str.strip, padded_terms(words)), key=len)}
    return found | {f"{TAG_PREFIX}{number}": tag for number, tag in enumerate(sorted(set(query.tag)))}


def _due_before(query: CaseFilters) -> datetime | None:
    within = None if query.due_within is None else utc_now() + query.due_within
    return min((limit for limit in (query.due_before, within) if limit is not None), default=None)


def names_with_prefix(names: Collection[str], prefix: str) -> list[str]:
    """Return the names that begin with a prefix, in order."""
    return sorted(name for name in names if name.startswith(prefix))


def column_conditions(
    names: Collection[str], role: str, *, read_in_order: bool, indexed: Collection[str] = ()
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the named filters, and of what a role may see. Tags and several statuses are left out.

    With `read_in_order`, columns with few values are not looked up, except the `indexed` ones, whose index has the
    order of the list: the list is read in this order.
    """

    def column(name: str) -> sa.ColumnElement[Any]:
        looked_up = not read_in_order or name not in COLUMNS_WITH_FEW_VALUES or name in indexed
        return tickets.c[name] if looked_up else unindexed(tickets.c[name])

    found = [column(name) == sa.bindparam(name) for name in ("status", *COLUMNS_OF_FILTERS) if name in names]
    found += [tickets.c[name].is_(None) for name in COLUMNS_THAT_MAY_BE_NONE if WITHOUT_PREFIX + name in names]
    found += [_reference_condition(name, kind) for name, kind in KIND_BY_REFERENCE_FILTER.items() if name in names]
    if "updated_after" in names:
        # Customers don't learn from it when a note was added to their cases.
        latest_change = tickets.c.updated_at if role == "customer" else LATEST_CHANGE
        found.append(latest_change > sa.bindparam("updated_after", type_=UtcDateTime()))
    if "due_before" in names:
        found.append(tickets.c.sla_due_at < sa.bindparam("due_before", type_=UtcDateTime()))
        if role == "customer":
            found.append(HAS_PUBLIC_CLOCKS)
    if "channel" not in names:
        found.append(NOT_SYNTHETIC)
    return found + access_conditions(role)


def status_conditions(names: Collection[str], *, read_in_order: bool) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a case is in one of several statuses; an empty list without this filter."""
    statuses = [sa.bindparam(name, type_=sa.String()) for name in names_with_prefix(names, STATUS_PREFIX)]
    status = unindexed(tickets.c.status) if read_in_order else tickets.c.status
    return [status.in_(statuses)] if statuses else []


def tag_conditions(names: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Return the condition of each named tag."""
    return [
        sa.exists().where(ticket_tags.c.tag == sa.bindparam(name, type_=sa.Text()), ticket_tags.c.seq == tickets.c.seq)
        for name in names
    ]


def _reference_condition(name: str, kind: str) -> sa.ColumnElement[bool]:
    reference = ticket_references.c
    # Few cases refer to one object: they are looked up first.
    named = sa.select(reference.ticket_id).where(reference.kind == kind, reference.value == sa.bindparam(name))
    return tickets.c.id.in_(named)


PLACE_PARAMETERS = {"after", "after_at"}
# Names without a condition on columns of cases.
PARAMETERS_WITHOUT_COLUMNS = {"words", search.LONGEST_TEXT_PARAMETER, *PLACE_PARAMETERS}
# Size in bytes of the columns that may be long.
_SIZE = octets(sa.cast(tickets.c.context, sa.Text)) + sa.func.coalesce(octets(tickets.c.description), 0)


def select_first_cases(filters: frozenset[str], role: str, order: CaseOrder, *, counts: bool = False) -> sa.Select[Any]:
    """Return the SELECT of the first matching cases, at most `one_more`: `seq`, `size`, and `at` if ordered by it.

    `filters` are the names of `filter_parameters`, with `after` if the cases must be after a place, and with
    `after_at` if that place has a time. With `counts`, `one_more` may be large.
    """
    if not order.conditions or order.implied_by in filters:
        return _select_first_of_part(filters, role, order, counts=counts)
    if filters & PLACE_PARAMETERS == {"after"}:  # the page begins behind the last case with a time
        return _select_without_time(_select_first_of_part(filters, role, order.order_of_others))
    timed = _select_first_of_part(filters, role, order).subquery()
    others = _select_without_time(_select_first_of_part(filters - PLACE_PARAMETERS, role, order.order_of_others))
    # Without ORDER BY: the others are read only if cases with a time do not fill the page.
    both = sa.union_all(sa.select(timed.c.seq, timed.c.size, timed.c.at), others).subquery()
    return sa.select(both).limit(sa.bindparam("one_more"))


def _select_without_time(cases: sa.Select[Any]) -> sa.Select[Any]:
    found = cases.subquery()
    return sa.select(found.c.seq, found.c.size, sa.cast(sa.null(), UtcDateTime).label("at"))


def _select_first_of_part(
    filters: frozenset[str], role: str, order: CaseOrder, *, counts: bool = False
) -> sa.Select[Any]:
    """Return what `select_first_cases` returns, of the cases that meet the conditions of the order."""
    tags = names_with_prefix(filters, TAG_PREFIX)
    read_in_order = order.at is not None or bool(tags)
    named = column_conditions(filters, role, read_in_order=read_in_order, indexed=() if tags else order.indexed)
    conditions = [*order.conditions, *named]
    statuses = status_conditions(filters, read_in_order=read_in_order)
    limit: sa.BindParameter[int] = sa.bindparam("one_more")
    if "words" in filters:
        after = "after" in filters
        conditions += statuses
        if "customer_id" in filters or role == "customer":
            conditions.append(search.case_matches_condition(public_only=role == "customer"))
            return _select_in_order(conditions + tag_conditions(tags), filters, order).limit(limit)
        first = _select_in_order(conditions, filters, order, tags)
        conditions += tag_conditions(tags)
        if order.at is not None:
            return select_matches_in_sort_order(first, conditions, order, _SIZE, after=after)
        if counts or order.conditions or role == "agent" or filters - PARAMETERS_WITHOUT_COLUMNS:
            return select_newest_matches(first, conditions, _SIZE, after=after)
        return search.select_newest_matches(conditions, _SIZE, after=after).limit(limit)
    if statuses and not read_in_order:
        # The first cases of each status, by its index: the index of several statuses at once is not in order.
        each = [
            _select_in_order([*conditions, tickets.c.status == sa.bindparam(name)], filters, order).limit(limit)
            for name in names_with_prefix(filters, STATUS_PREFIX)
        ]
        merged = sa.union_all(*(sa.select(first.subquery()) for first in each)).subquery()
        return sa.select(merged).order_by(*order.order_by_columns(merged)).limit(limit)
    return _select_in_order(conditions + statuses, filters, order, tags).limit(limit)


def _select_in_order(
    conditions: Sequence[sa.ColumnElement[bool]], filters: frozenset[str], order: CaseOrder, tags: Sequence[str] = ()
) -> sa.Select[Any]:
    """Return the SELECT of the cases with these conditions and tags in order. With tags it reads the first tag's."""
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
            tagged.c.tag == sa.bindparam(tags[0], type_=sa.Text()), *tag_conditions(tags[1:])
        )
    if "after" in filters:
        found = found.where(order.is_after(seq, order.at))
    return found.order_by(*map(order.direction, key))
