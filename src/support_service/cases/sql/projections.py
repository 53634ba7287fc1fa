"""SQL expressions of a case: whether it is active, when it last changed, and its parts as JSON.

The database writes the JSON, as clients and subscribers of events get it, so that rows are not parsed only to be
serialized again. The members derive from the fields of the models.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from support_service.cases.model.case import MAX_BEGINNING, Attachment, CaseSummary, Message
from support_service.cases.model.history import MAX_HISTORY_BYTES, MAX_HISTORY_ENTRIES, SHOWN_ACTIONS
from support_service.cases.model.vocabulary import DUPLICATE_OF, INVERSE_KINDS, PUBLIC_LINK_KINDS
from support_service.cases.sql.visibility import PUBLIC_LITERAL, has_duplicates
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, PENDING, SYNTHETIC
from support_service.core.domain.principals import CaseView
from support_service.platform.database.dialect import json_object, json_rows, latest_time, octets, text_literal
from support_service.platform.database.statements import limit_by_bytes
from support_service.platform.database.tables import (
    attachments,
    audit_log,
    case_clocks,
    case_links,
    customers,
    messages,
    tickets,
)

MAX_MESSAGES_BACK = 200  # the newest messages of a case, among which the customer's last one is looked for


def latest_change(case: sa.FromClause) -> sa.ColumnElement[datetime]:
    """Return the time of the last change of a case, including internal notes."""
    return latest_time(case.c.updated_at, sa.func.coalesce(case.c.internal_updated_at, case.c.updated_at))


LATEST_CHANGE = latest_change(tickets)

IS_SYNTHETIC: sa.ColumnElement[bool] = sa.func.coalesce(
    tickets.c.synthetic, tickets.c.channel == sa.literal_column(f"'{SYNTHETIC}'")
)
"""True for a synthetic case, which is in no list and in no count. Older releases say so by the channel only."""

IS_ACTIVE: sa.ColumnElement[bool] = tickets.c.status.in_(
    [sa.literal_column(f"'{status}'", sa.String()) for status in ACTIVE_STATUSES]
)
"""True for a case that is still being worked on. Literals, because a partial index has the same condition."""

IS_SNOOZED: Sequence[sa.ColumnElement[bool]] = (
    tickets.c.snoozed_until.is_not(None),
    tickets.c.status == text_literal(PENDING),
)
"""The conditions of a snoozed case. The second one follows from the first, and is that of a partial index."""

HAS_PUBLIC_CLOCKS = sa.exists().where(case_clocks.c.case_id == tickets.c.id, case_clocks.c.public)
"""True for a case with clocks that its customer sees."""


def has_original(condition: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    """Return the condition of `tickets` for a duplicate, also by others, of a case that meets a condition."""
    links, original = case_links.c, tickets.alias("original")
    is_duplicate = links.kind == text_literal(DUPLICATE_OF)
    direct = sa.select(links.other_case_id.label("id")).where(is_duplicate, links.case_id == tickets.c.id)
    found = direct.correlate(tickets).cte(recursive=True, nesting=True)
    found = found.union(sa.select(links.other_case_id).where(is_duplicate, links.case_id == found.c.id))
    # Not a join, for which PostgreSQL reads all cases.
    meets_it = sa.select(condition(original)).where(original.c.id == found.c.id).scalar_subquery()
    return sa.select(found.c.id).where(meets_it).correlate(tickets).exists()


def json_object_of(columns: dict[str, Any]) -> json_object:
    """Return a JSON object with the given names, which must be literals of this code: they are written into the SQL."""
    parts: list[Any] = []
    for name, column in columns.items():
        parts += (sa.literal_column(f"'{name}'"), column)
    return json_object(*parts)


def json_text(columns: dict[str, Any]) -> sa.Cast[str]:
    """Return a row as JSON text, for a model to parse; without the cast PostgreSQL's driver would decode it."""
    return sa.cast(json_object_of(columns), sa.Text)


def _stored_columns(model: type[BaseModel], table: sa.Table) -> dict[str, sa.ColumnElement[Any]]:
    """Return the column of each field of a model that clients get and that a table has, by its JSON name."""
    return {
        field.alias or name: table.c[name]
        for name, field in model.model_fields.items()
        if name in table.c and not field.exclude
    }


CASE_COLUMNS = _stored_columns(CaseSummary, tickets) | {"updatedAt": LATEST_CHANGE}

_IS_FIRST_CASE = case_links.c.case_id == tickets.c.id
_OTHER_CASE = sa.case((_IS_FIRST_CASE, case_links.c.other_case_id), else_=case_links.c.case_id)


_SHOWN_LINK_KIND = sa.case(
    (_IS_FIRST_CASE, case_links.c.kind),
    *((case_links.c.kind == text_literal(kind), text_literal(inverse)) for kind, inverse in INVERSE_KINDS.items()),
    else_=case_links.c.kind,
)


def _links_json(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array of a case's links that meet the conditions, oldest first."""
    rows = (
        sa.select(
            case_links.c.id, _SHOWN_LINK_KIND.label("kind"), _OTHER_CASE.label("other_case"), case_links.c.created_at
        )
        .where(sa.or_(_IS_FIRST_CASE, case_links.c.other_case_id == tickets.c.id), *conditions)
        .order_by(case_links.c.seq)
        .correlate(tickets)
        .subquery()
    )
    members = {"id": rows.c.id, "kind": rows.c.kind, "caseId": rows.c.other_case, "createdAt": rows.c.created_at}
    return sa.select(json_rows(json_object_of(members))).scalar_subquery()


_other = tickets.alias("other_case")
_OF_SAME_CUSTOMER = (
    sa.select(_other.c.seq)
    .where(_other.c.id == _OTHER_CASE, _other.c.customer_id == tickets.c.customer_id)
    .correlate(tickets, case_links)
    .exists()
)
LINKS_JSON = _links_json()
# What customers see: some kinds, if both cases are theirs.
PUBLIC_LINKS_JSON = _links_json(
    case_links.c.kind.in_([text_literal(kind) for kind in PUBLIC_LINK_KINDS]), _OF_SAME_CUSTOMER
)


def _merged_into(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """Return the id of the case that a closed case is a duplicate of, or NULL."""
    original = (
        sa.select(case_links.c.other_case_id)
        .where(_IS_FIRST_CASE, case_links.c.kind == text_literal(DUPLICATE_OF), *conditions)
        .limit(1)
        .correlate(tickets)
        .scalar_subquery()
    )
    return sa.case((tickets.c.status == text_literal("closed"), original))


def _clocks_json(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """Return the JSON array of a case's clocks that meet the conditions; NULL for a case without a policy."""
    names = ("target", "policy", "state", "allowance", "used", "running_since", "due_at", "ended_at")
    rows = (
        sa.select(*(case_clocks.c[name] for name in names))
        .where(case_clocks.c.case_id == tickets.c.id, *conditions)
        .correlate(tickets)
        .subquery()
    )
    clocks = sa.select(json_rows(json_object_of({name: rows.c[name] for name in names}))).scalar_subquery()
    return sa.case((tickets.c.sla_policy.is_not(None), clocks))


CLOCKS_JSON = _clocks_json()
PUBLIC_CLOCKS_JSON = _clocks_json(case_clocks.c.public)


HISTORY_LIMITS = {"changes": MAX_HISTORY_ENTRIES + 1, "changes_bytes": MAX_HISTORY_BYTES}
"""Parameters of a statement with a history."""

_L = audit_log.c


def _shown_condition(view: CaseView) -> sa.ColumnElement[bool]:
    """Return whether a view has an entry, by the table of actions.

    A field is found by its name in the JSON: in a text, the quotation marks would be escaped.
    """
    events = list[str]()
    conditions = list[sa.ColumnElement[bool]]()
    for action, row in SHOWN_ACTIONS.items():
        fields = getattr(row, view)
        if not fields:
            continue
        if row.is_event:
            events.append(action)
        else:
            shown = sa.or_(*(_L.changes.like(text_literal(f'%"{name}":%')) for name in fields))
            conditions.append(sa.and_(_L.action == text_literal(action), shown))
    return sa.or_(_L.action.in_([text_literal(action) for action in events]), *conditions)


def _history_json(view: CaseView) -> sa.Cast[str]:
    """Return a subquery for the history of a case, as JSON for `model.history.parse_history`."""
    size = sa.func.coalesce(octets(_L.changes), sa.literal_column("0")).label("size")
    found = (
        sa.select(_L.seq, size)
        .where(_L.case_id == tickets.c.id, _shown_condition(view))
        .order_by(_L.seq.desc())
        .limit(sa.bindparam("changes"))
        .correlate(tickets)
    )
    page = limit_by_bytes(found, "seq", direction=sa.desc, limit="changes_bytes")
    # The changes are read only for the entries within the limits.
    rows = (
        sa.select(_L.at, _L.actor, _L.action, _L.changes, page.c.number)
        .where(_L.seq == page.c.seq)
        .order_by(_L.seq)
        .subquery()
    )
    members: dict[str, Any] = {name: rows.c[name] for name in ("at", "actor", "action", "changes")}
    number = sa.func.coalesce(sa.func.max(rows.c.number), sa.literal_column("0"))
    history = json_object(text_literal("found"), number, text_literal("entries"), json_rows(json_object_of(members)))
    return sa.cast(sa.select(history).scalar_subquery(), sa.Text)


# By public_only. Analysts see a part of the entries of agents.
HISTORY_JSON = {False: _history_json("full"), True: _history_json("public")}


def _rows_of_case(
    table: sa.Table,
    columns: Mapping[str, sa.ColumnElement[Any]],
    condition: sa.ColumnElement[bool],
    limit: sa.BindParameter[int] | None = None,
) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array, as text, of a case's rows in another table, oldest first."""
    rows = (
        sa.select(*(column.label(name) for name, column in columns.items()))
        .where(table.c.ticket_id == tickets.c.id, condition)
        .order_by(table.c.seq)
        .limit(limit)
        .correlate(tickets)
        .subquery()
    )
    members = {name: rows.c[name] for name in columns}
    return sa.select(sa.cast(json_rows(json_object_of(members)), sa.Text)).scalar_subquery()


# Internal notes do not count, for any caller: a note is not an answer, and customers don't learn of it.
_LAST_MESSAGE_AT: sa.ScalarSelect[Any] = (
    sa.select(messages.c.created_at)
    .where(messages.c.ticket_id == tickets.c.id, messages.c.visibility == PUBLIC_LITERAL)
    .order_by(messages.c.seq.desc())
    .limit(1)
    .correlate(tickets)
    .scalar_subquery()
)


_newest = (
    sa.select(messages.c.author_type, messages.c.visibility, messages.c.message, messages.c.created_at)
    .where(messages.c.ticket_id == tickets.c.id)
    .order_by(messages.c.seq.desc())
    .limit(sa.literal_column(str(MAX_MESSAGES_BACK)))
    .correlate(tickets)
    .subquery()
)
_BEGINNING: Sequence[sa.ColumnElement[int]] = (sa.literal_column("1"), sa.literal_column(str(MAX_BEGINNING)))
_LAST_OF_CUSTOMER = (
    sa.select(
        sa.type_coerce(
            json_object_of({"text": sa.func.substr(_newest.c.message, *_BEGINNING), "at": _newest.c.created_at}),
            sa.JSON(),
        )
    )
    .where(_newest.c.author_type == text_literal("customer"), _newest.c.visibility == PUBLIC_LITERAL)
    .limit(1)
    .scalar_subquery()
)
_DESCRIPTION_AS_MESSAGE = json_object_of(
    {"text": sa.func.substr(tickets.c.description, *_BEGINNING), "at": tickets.c.created_at}
)
# The description that a case is opened with is the customer's first message.
_LAST_CUSTOMER_MESSAGE: sa.ColumnElement[Any] = sa.type_coerce(
    sa.func.coalesce(_LAST_OF_CUSTOMER, sa.case((tickets.c.description.is_not(None), _DESCRIPTION_AS_MESSAGE))),
    sa.JSON(),
)


def _customer_name(name: sa.ColumnElement[str | None]) -> sa.ScalarSelect[Any]:
    return sa.select(name).where(customers.c.id == tickets.c.customer_id).correlate(tickets).scalar_subquery()


CUSTOMER_NAME = {
    False: _customer_name(sa.func.coalesce(customers.c.person_name, customers.c.name)),
    True: _customer_name(customers.c.name),
}
"""The name of a case's customer, by public_only: staff see that of the person, customers that of their own id."""
_WAITING_SINCE = {"waitingSince": sa.case((IS_ACTIVE, tickets.c.waiting_since))}
_LISTED_COLUMNS = _WAITING_SINCE | {"lastMessageAt": _LAST_MESSAGE_AT, "lastCustomerMessage": _LAST_CUSTOMER_MESSAGE}
# What customers see: internal notes and files change neither the time nor the version.
_PUBLIC_COLUMNS = CASE_COLUMNS | {"updatedAt": tickets.c.updated_at}
PUBLIC_VERSION = tickets.c.version - tickets.c.internal_changes
CASE_SUMMARY_JSON = json_text(
    CASE_COLUMNS
    | _LISTED_COLUMNS
    | {"version": tickets.c.version, "clocks": CLOCKS_JSON, "mergedInto": _merged_into()}
    | {"customerName": CUSTOMER_NAME[False]}
)
LOCKED_CASE_JSON = json_text(
    CASE_COLUMNS
    | {"version": tickets.c.version, "synthetic": IS_SYNTHETIC, "slaPolicy": tickets.c.sla_policy}
    | {"followers": tickets.c.followers, "hasDuplicates": has_duplicates(tickets.c.id)}
)
PUBLIC_CASE_SUMMARY_JSON = json_text(
    _PUBLIC_COLUMNS
    | _LISTED_COLUMNS
    | {"version": PUBLIC_VERSION, "clocks": PUBLIC_CLOCKS_JSON, "mergedInto": _merged_into(_OF_SAME_CUSTOMER)}
    | {"customerName": CUSTOMER_NAME[True]}
)
CASE_FIELDS_JSON = json_text(CASE_COLUMNS | _WAITING_SINCE | {"links": LINKS_JSON})
PUBLIC_CASE_FIELDS_JSON = json_text(_PUBLIC_COLUMNS | _WAITING_SINCE | {"links": PUBLIC_LINKS_JSON})
_OWN_AUTHOR_ID = sa.case((messages.c.author_type == text_literal("customer"), messages.c.author_id))
MESSAGE_COLUMNS = {False: _stored_columns(Message, messages)}
"""By public_only: customers are not shown the ids of staff."""
MESSAGE_COLUMNS[True] = MESSAGE_COLUMNS[False] | {"authorId": _OWN_AUTHOR_ID}
MESSAGES_JSON = {public: partial(_rows_of_case, messages, columns) for public, columns in MESSAGE_COLUMNS.items()}
ATTACHMENT_COLUMNS = _stored_columns(Attachment, attachments)
ATTACHMENTS_JSON = partial(_rows_of_case, attachments, ATTACHMENT_COLUMNS)
