"""SQL expressions that return a case as the JSON document of its model."""

from functools import partial
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from support_service.cases.model.case import Attachment, Message
from support_service.cases.store.link_projections import LINKS_JSON, PUBLIC_LINKS_JSON
from support_service.platform.database.dialect import json_rows
from support_service.platform.database.json_projections import (
    CASE_COLUMNS,
    IS_ACTIVE,
    IS_SYNTHETIC,
    json_object_of,
    json_text,
)
from support_service.platform.database.tables import attachments, messages, tickets
from support_service.sla.projections import CLOCKS_JSON, PUBLIC_CLOCKS_JSON

PUBLIC: sa.ColumnClause[str] = sa.literal_column("'public'")


def _stored_fields(model: type[BaseModel], table: sa.Table) -> dict[str, str]:
    """Return the column of each field of a model that a table has, by the JSON name of the field."""
    return {field.alias or name: name for name, field in model.model_fields.items() if name in table.c}


def _rows_of_ticket(
    table: sa.Table,
    columns: dict[str, str],
    condition: sa.ColumnElement[bool],
    limit: sa.BindParameter[int] | None = None,
) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array, as text, of a case's rows in another table, oldest first."""
    rows = (
        sa.select(*(table.c[column] for column in columns.values()))
        .where(table.c.ticket_id == tickets.c.id, condition)
        .order_by(table.c.seq)
        .limit(limit)
        .correlate(tickets)
        .subquery()
    )
    members = {name: rows.c[column] for name, column in columns.items()}
    return sa.select(sa.cast(json_rows(json_object_of(members)), sa.Text)).scalar_subquery()


# Internal notes do not count, for any caller: a note is not an answer, and customers don't learn of it.
_LAST_MESSAGE_AT: sa.ScalarSelect[Any] = (
    sa.select(messages.c.created_at)
    .where(messages.c.ticket_id == tickets.c.id, messages.c.visibility == PUBLIC)
    .order_by(messages.c.seq.desc())
    .limit(1)
    .correlate(tickets)
    .scalar_subquery()
)
_WAITING = {"waitingSince": sa.case((IS_ACTIVE, tickets.c.waiting_since))}
_LISTED_COLUMNS = _WAITING | {"lastMessageAt": _LAST_MESSAGE_AT}
# What customers see: internal notes and files change neither the time nor the version.
_PUBLIC_COLUMNS = CASE_COLUMNS | {"updatedAt": tickets.c.updated_at}
PUBLIC_VERSION = tickets.c.version - tickets.c.internal_changes
CASE_SUMMARY_JSON = json_text(CASE_COLUMNS | _LISTED_COLUMNS | {"version": tickets.c.version, "clocks": CLOCKS_JSON})
LOCKED_CASE_JSON = json_text(
    CASE_COLUMNS | {"version": tickets.c.version, "synthetic": IS_SYNTHETIC, "slaPolicy": tickets.c.sla_policy}
)
PUBLIC_CASE_SUMMARY_JSON = json_text(
    _PUBLIC_COLUMNS | _LISTED_COLUMNS | {"version": PUBLIC_VERSION, "clocks": PUBLIC_CLOCKS_JSON}
)
FIELDS_JSON = json_text(CASE_COLUMNS | _WAITING | {"links": LINKS_JSON})
PUBLIC_FIELDS_JSON = json_text(_PUBLIC_COLUMNS | _WAITING | {"links": PUBLIC_LINKS_JSON})
MESSAGES_JSON = partial(_rows_of_ticket, messages, _stored_fields(Message, messages))
ATTACHMENTS_JSON = partial(_rows_of_ticket, attachments, _stored_fields(Attachment, attachments))
