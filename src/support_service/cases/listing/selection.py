"""The cases of a list: the parameters of a query by name, and the SQL that selects what matches, in order."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.listing.case_sorts import CaseOrder
from support_service.cases.listing.searches import (
    Number,
    select_found,
    select_matches_in_sort_order,
    select_newest_listed_matches,
)
from support_service.cases.model.requests import CaseFilters
from support_service.cases.model.vocabulary import NONE_FILTER
from support_service.cases.sql import search
from support_service.cases.sql.projections import HAS_PUBLIC_CLOCKS, IS_SNOOZED, IS_SYNTHETIC, LATEST_CHANGE
from support_service.cases.sql.search import ONE_MORE
from support_service.cases.sql.visibility import access_conditions
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, PENDING, STATUSES
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.search_words import padded_terms, parse_search_query, parse_sought_ids
from support_service.platform.database.dialect import UtcDateTime, text_literal
from support_service.platform.database.tables import customers, notifications, ticket_references, ticket_tags, tickets

NOT_SYNTHETIC = sa.not_(IS_SYNTHETIC)
OVERDUE = "overdue"  # besides the filters of a query: the cases with a clock that is overdue, to count these apart
KIND_BY_REFERENCE_FILTER = {f"{kind}_id": kind for kind in SERVICE_BY_KIND}
STATUS_PREFIX, TAG_PREFIX = "status_", "tag_"  # of names that end with a number
WITHOUT_AGENT, WITHOUT_TEAM = "without_assigned_agent_id", "without_team"
# What the statuses of a filter have in common. The parameters have no condition of their own.
ONLY_ACTIVE, NONE_ACTIVE = "only_active", "none_active"
# PostgreSQL would not see that none of the cases without an agent is the caller's own, and would read all of them.
_MAY_SEE_WITHOUT_AGENT = sa.or_(tickets.c.team.is_(None), tickets.c.team.in_(sa.bindparam("teams", expanding=True)))


def filter_parameters(query: CaseFilters) -> dict[str, Any] | None:
    """Return the value of each filter of a query by the name that stands for its condition.

    None if no case can match: `q` has no word, or no status of the query is that of a snoozed case.
    """
    found: dict[str, Any] = {name: value for name in BOUND_FILTERS if (value := getattr(query, name)) is not None}
    for name, without in (("assigned_agent_id", WITHOUT_AGENT), ("team", WITHOUT_TEAM)):
        if found.get(name) == NONE_FILTER:
            found[without] = found.pop(name)
    if query.snoozed and query.status and PENDING not in query.status:
        return None
    found |= _status_parameters(query)
    if due_before := _due_before(query):
        found["due_before"] = due_before
    if query.q is not None:
        words = parse_search_query(query.q)
        if words is None:
            return None
        found |= {"words": words, search.LONGEST_TEXT_PARAMETER: max(map(str.strip, padded_terms(words)), key=len)}
        if sought := parse_sought_ids(query.q):
            found |= search.parameters_of_ids(sought)
    return found | {f"{TAG_PREFIX}{number}": tag for number, tag in enumerate(sorted(set(query.tag)))}


def _status_parameters(query: CaseFilters) -> dict[str, Any]:
    # All snoozed cases have the same status.
    statuses = () if query.snoozed else query.status
    found: dict[str, Any] = {}
    if query.snoozed is not None:
        found["snoozed" if query.snoozed else "not_snoozed"] = True
    if len(statuses) == 1:
        found["status"] = statuses[0]
    elif len(statuses) < len(STATUSES):
        found |= {f"{STATUS_PREFIX}{number}": status for number, status in enumerate(statuses)}
    if statuses and len(active := set(statuses).intersection(ACTIVE_STATUSES)) in (0, len(statuses)):
        found[ONLY_ACTIVE if active else NONE_ACTIVE] = True
    return found


def _due_before(query: CaseFilters) -> datetime | None:
    within = None if query.due_within is None else utc_now() + query.due_within
    return min((limit for limit in (query.due_before, within) if limit is not None), default=None)


def names_with_prefix(names: Collection[str], prefix: str) -> list[str]:
    """Return the names that begin with a prefix, in order."""
    return sorted(name for name in names if name.startswith(prefix))


def filter_conditions(names: Collection[str], role: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the named filters and of what a role may see, without the tags."""
    conditions = CONDITIONS_FOR_CUSTOMERS if role == "customer" else CONDITIONS
    statuses = [sa.bindparam(each, type_=sa.String()) for each in names_with_prefix(names, STATUS_PREFIX)]
    found: list[sa.ColumnElement[bool]] = [tickets.c.status.in_(statuses)] if statuses else []
    found += [condition for name, condition in conditions.items() if name in names]
    if "channel" not in names:
        found.append(NOT_SYNTHETIC)
    if role == "agent" and WITHOUT_AGENT in names:
        return [*found, _MAY_SEE_WITHOUT_AGENT]
    return found + access_conditions(role)


def _equals(name: str) -> sa.ColumnElement[bool]:
    return tickets.c[name] == sa.bindparam(name)


def _names_object(name: str, kind: str) -> sa.ColumnElement[bool]:
    reference = ticket_references.c
    named = sa.select(reference.ticket_id).where(reference.kind == kind, reference.value == sa.bindparam(name))
    return tickets.c.id.in_(named)


_MENTIONS_PERSON = tickets.c.id.in_(
    sa.select(notifications.c.case_id).where(
        notifications.c.recipient == sa.bindparam("mentioned_agent_id"), notifications.c.kind == text_literal("mention")
    )
)
_sought, _other = customers.alias("sought"), customers.alias("other")
_IDS_OF_PERSON = sa.union_all(
    sa.select(sa.bindparam("customer_id", type_=tickets.c.customer_id.type)),
    sa.select(_other.c.id)
    .join(_sought, _sought.c.person == _other.c.person)
    .where(_sought.c.id == sa.bindparam("customer_id"), _other.c.id != _sought.c.id),
)
"""The id of a customer, and the others of the same person, whose cases staff read as one."""
_updated_after = sa.bindparam("updated_after", type_=UtcDateTime())
_is_due = {name: tickets.c.sla_due_at < sa.bindparam(name, type_=UtcDateTime()) for name in ("due_before", OVERDUE)}

# The condition of each filter, in this order: of two indexes that seem equal, SQLite takes that of the first condition.
CONDITIONS: Mapping[str, sa.ColumnElement[bool]] = {
    "status": _equals("status"),
    "customer_id": tickets.c.customer_id.in_(_IDS_OF_PERSON),
    "assigned_agent_id": _equals("assigned_agent_id"),
    "team": _equals("team"),
    "priority": _equals("priority"),
    "channel": _equals("channel"),
    WITHOUT_AGENT: tickets.c.assigned_agent_id.is_(None),
    WITHOUT_TEAM: tickets.c.team.is_(None),
    **{name: _names_object(name, kind) for name, kind in KIND_BY_REFERENCE_FILTER.items()},
    "updated_after": _updated_after < LATEST_CHANGE,
    **_is_due,
    "mentioned_agent_id": _MENTIONS_PERSON,
    "snoozed": sa.and_(*IS_SNOOZED),
    "not_snoozed": sa.not_(sa.and_(*IS_SNOOZED)),
}
# Customers learn nothing of notes, of internal clocks, and of the other ids of a person.
CONDITIONS_FOR_CUSTOMERS = {
    **CONDITIONS,
    "customer_id": _equals("customer_id"),
    "updated_after": _updated_after < tickets.c.updated_at,
    "due_before": sa.and_(_is_due["due_before"], HAS_PUBLIC_CLOCKS),
    "mentioned_agent_id": sa.false(),
}
_DERIVED = ("status", "due_before", "snoozed")  # by `filter_parameters` from what the query has
BOUND_FILTERS = [name for name in CONDITIONS if name in CaseFilters.model_fields and name not in _DERIVED]


def tag_parameter(name: str) -> sa.BindParameter[str]:
    """Return the parameter of a tag."""
    return sa.bindparam(name, type_=sa.Text())


def tag_conditions(names: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Return the condition of each named tag."""
    return [
        sa.exists().where(ticket_tags.c.tag == tag_parameter(name), ticket_tags.c.seq == tickets.c.seq)
        for name in names
    ]


PLACE_PARAMETERS = {"after", "after_at"}
# Names without a condition on columns of cases.
PARAMETERS_WITHOUT_COLUMNS = {
    *("words", search.LONGEST_TEXT_PARAMETER, *search.ID_PARAMETERS),
    *(*PLACE_PARAMETERS, ONLY_ACTIVE, NONE_ACTIVE),
}


def select_first_cases(filters: frozenset[str], role: str, order: CaseOrder, *, counts: bool = False) -> sa.Select[Any]:
    """Return the SELECT of the first matching cases, at most `one_more`: `seq`, and `at` if ordered by it.

    `filters` are the names of `filter_parameters`, with `after` if the cases must be after a place, and with
    `after_at` if that place has a time. With `counts`, `one_more` may be large.
    """
    if not order.conditions or order.implied_by in filters:
        return _select_first_of_part(filters, role, order, counts=counts)
    has_no_timed_cases = order.of_active_cases and NONE_ACTIVE in filters
    # The cases of a customer are few.
    is_active_list = ONLY_ACTIVE in filters and role != "customer" and order.others_are_indexed
    order_of_others = order.order_of_active_others if is_active_list else order.order_of_others
    behind_timed = filters & PLACE_PARAMETERS == {"after"}  # the page begins behind the last case with a time
    others = _select_first_of_part(filters if behind_timed else filters - PLACE_PARAMETERS, role, order_of_others)
    others = _select_without_time(others)
    if behind_timed or has_no_timed_cases:
        return others
    timed = search.materialized(_select_first_of_part(filters, role, order))
    # The others are read only if cases with a time do not fill the page.
    is_short = sa.select(sa.func.count()).select_from(timed).scalar_subquery() < ONE_MORE
    limited = sa.select(others.limit(ONE_MORE).subquery()).where(is_short)
    both = sa.union_all(sa.select(timed), limited).subquery()
    return sa.select(both).order_by(*order.order_by_columns(both)).limit(ONE_MORE)


def _select_without_time(cases: sa.Select[Any]) -> sa.Select[Any]:
    found = cases.subquery()
    return sa.select(found.c.seq, sa.cast(sa.null(), UtcDateTime).label("at"))


def _select_first_of_part(
    filters: frozenset[str], role: str, order: CaseOrder, *, counts: bool = False
) -> sa.Select[Any]:
    """Return what `select_first_cases` returns, of the cases that meet the conditions of the order."""
    if "words" not in filters:
        return ListedCases(filters, role, order).select_first(ONE_MORE)
    if "customer_id" in filters or role == "customer":
        matches = search.case_matches_condition(public_only=role == "customer")
        if search.names_ids(filters):
            matches = sa.or_(matches, tickets.c.seq.in_(search.select_cases_of_ids(filters)))
        return ListedCases(filters, role, order, matches).select_first(ONE_MORE)
    matching = _select_first_matches(filters, role, order, counts=counts)
    if not search.names_ids(filters):
        return matching
    conditions = ListedCases(filters, role, order).conditions
    named = select_found(search.select_cases_of_ids(filters), conditions, order, after="after" in filters)
    both = sa.union(sa.select(named.subquery()), sa.select(matching.subquery())).subquery()
    return sa.select(both).order_by(*order.order_by_columns(both)).limit(ONE_MORE)


def _select_first_matches(
    filters: frozenset[str], role: str, order: CaseOrder, *, counts: bool = False
) -> sa.Select[Any]:
    """Return what `select_first_cases` returns, of the cases with the words of a search."""
    listed, after = ListedCases(filters, role, order), "after" in filters
    if order.at is not None:
        return select_matches_in_sort_order(listed.select_first, listed.conditions, order, after=after)
    if counts or order.conditions or role == "agent" or filters - PARAMETERS_WITHOUT_COLUMNS:
        return select_newest_listed_matches(listed.select_first, listed.conditions, after=after)
    return search.select_newest_matches(listed.conditions, after=after).limit(ONE_MORE)


class ListedCases:
    """The cases of a list, without the words of a search. They meet the order's conditions, and `more` conditions."""

    def __init__(self, filters: frozenset[str], role: str, order: CaseOrder, *more: sa.ColumnElement[bool]) -> None:
        self._filters, self._role, self._order, self._more = filters, role, order, more
        self._tags = names_with_prefix(filters, TAG_PREFIX)
        self._statuses = names_with_prefix(filters, STATUS_PREFIX)

    @property
    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The conditions of the cases."""
        return [*self._conditions(self._filters), *tag_conditions(self._tags)]

    def _conditions(self, filters: Collection[str]) -> list[sa.ColumnElement[bool]]:
        named = filter_conditions(filters, self._role)
        # Those of filters first: of two indexes that seem equal, SQLite takes the one of the first condition.
        return [*named, *self._order.conditions, *self._more]

    def select_first(self, limit: Number, offset: Number | None = None) -> sa.Select[Any]:
        """Return the SELECT of `seq`, and `at` if ordered by it, of the first cases, in order."""
        if not self._statuses or self._order.at is not None or self._tags:
            return self._select_all_in_order(self._conditions(self._filters)).limit(limit).offset(offset)
        # The first cases of each status, by its index: the index of several statuses at once is not in order.
        conditions = self._conditions(self._filters.difference(self._statuses))
        up_to = limit if offset is None else limit + offset
        each = [
            self._select_all_in_order([*conditions, tickets.c.status == sa.bindparam(name)]).limit(up_to)
            for name in self._statuses
        ]
        merged = sa.union_all(*(sa.select(first.subquery()) for first in each)).subquery()
        return sa.select(merged).order_by(*self._order.order_by_columns(merged)).limit(limit).offset(offset)

    def _select_all_in_order(self, conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
        """Return the SELECT of the cases in order. By `seq`, they are the cases of the first tag."""
        order, tagged = self._order, ticket_tags.alias("tagged")
        joined_tags = self._tags
        seq: sa.ColumnElement[int] = tagged.c.seq if joined_tags else tickets.c.seq
        columns: list[sa.ColumnElement[Any]] = [seq.label("seq")]
        key: list[sa.ColumnElement[Any]] = [seq]
        if order.at is not None:
            columns.append(order.at.label("at"))
            key = [order.at, seq]
        found = sa.select(*columns).where(*conditions)
        if joined_tags:
            joined, *others = joined_tags
            found = found.join(tagged, tagged.c.seq == tickets.c.seq)
            found = found.where(tagged.c.tag == tag_parameter(joined), *tag_conditions(others))
        else:
            found = found.where(*tag_conditions(self._tags))
        if "after" in self._filters:
            found = found.where(order.is_after(seq, order.at))
        return found.order_by(*order.order_by(*key))
