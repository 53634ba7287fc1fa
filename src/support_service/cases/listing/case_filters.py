"""Filters of the case list: the parameters of a query by name, and the SQL conditions of these names."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.model.requests import NONE, CaseFilters
from support_service.cases.sql.conditions import HAS_PUBLIC_CLOCKS, IS_SYNTHETIC, LATEST_CHANGE, access_conditions
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import STATUSES
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.search_words import search_query
from support_service.platform.database.dialect import UtcDateTime, unindexed
from support_service.platform.database.tables import ticket_references, ticket_tags, tickets

NOT_SYNTHETIC = sa.not_(IS_SYNTHETIC)
COLUMNS = ("customer_id", "assigned_agent_id", "team", "priority", "channel")
MAY_BE_NONE = ("assigned_agent_id", "team")
FEW_VALUES = ("status", "priority", "channel")  # columns with few values, one of which may be that of most cases
REFERENCES = {f"{kind}_id": kind for kind in SERVICE_BY_KIND}
WITHOUT, STATUS, TAG = "without_", "status_", "tag_"  # prefixes of names; a number follows the last two


def parameters(query: CaseFilters) -> dict[str, Any] | None:
    """Return the value of each filter of a query by the name that stands for its condition.

    None if no case can match, because `q` has no word.
    """
    named = (*COLUMNS, *REFERENCES, "updated_after")
    found: dict[str, Any] = {name: value for name in named if (value := getattr(query, name)) is not None}
    for name in MAY_BE_NONE:
        if found.get(name) == NONE:
            found[WITHOUT + name] = found.pop(name)
    if len(query.status) == 1:
        found["status"] = query.status[0]
    elif len(query.status) < len(STATUSES):
        found |= {f"{STATUS}{number}": status for number, status in enumerate(query.status)}
    if due_before := _due_before(query):
        found["due_before"] = due_before
    if query.q is not None:
        words = search_query(query.q)
        if words is None:
            return None
        found["words"] = words
    return found | {f"{TAG}{number}": tag for number, tag in enumerate(sorted(set(query.tag)))}


def _due_before(query: CaseFilters) -> datetime | None:
    within = None if query.due_within is None else utc_now() + query.due_within
    return min((limit for limit in (query.due_before, within) if limit is not None), default=None)


def numbered(names: Collection[str], prefix: str) -> list[str]:
    """Return the names that begin with a prefix, in order."""
    return sorted(name for name in names if name.startswith(prefix))


def conditions(
    names: Collection[str], role: str, *, read_in_order: bool, indexed: Collection[str] = ()
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the named filters, and of what a role may see. Tags and several statuses are left out.

    With `read_in_order`, columns with few values are not looked up, except the `indexed` ones, whose index has the
    order of the list: the list is read in this order.
    """

    def column(name: str) -> sa.ColumnElement[Any]:
        looked_up = not read_in_order or name not in FEW_VALUES or name in indexed
        return tickets.c[name] if looked_up else unindexed(tickets.c[name])

    found = [column(name) == sa.bindparam(name) for name in ("status", *COLUMNS) if name in names]
    found += [tickets.c[name].is_(None) for name in MAY_BE_NONE if WITHOUT + name in names]
    found += [_refers_to(name, kind) for name, kind in REFERENCES.items() if name in names]
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


def one_of_statuses(names: Collection[str], *, read_in_order: bool) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a case is in one of several statuses; an empty list without this filter."""
    statuses = [sa.bindparam(name, type_=sa.String()) for name in numbered(names, STATUS)]
    status = unindexed(tickets.c.status) if read_in_order else tickets.c.status
    return [status.in_(statuses)] if statuses else []


def has_tags(names: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """Return the condition of each named tag."""
    return [
        sa.exists().where(ticket_tags.c.tag == sa.bindparam(name, type_=sa.Text()), ticket_tags.c.seq == tickets.c.seq)
        for name in names
    ]


def _refers_to(name: str, kind: str) -> sa.ColumnElement[bool]:
    reference = ticket_references.c
    # Few cases refer to one object: they are looked up first.
    named = sa.select(reference.ticket_id).where(reference.kind == kind, reference.value == sa.bindparam(name))
    return tickets.c.id.in_(named)
