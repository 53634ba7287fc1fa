"""JSON projections of rows, as clients and event subscribers get them.

The database writes the JSON, so that rows are not parsed only to be serialized again.
"""

from typing import Any

import sqlalchemy as sa

from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, SYNTHETIC
from support_service.platform.database.dialect import json_object, latest_time
from support_service.platform.database.tables import tickets

LATEST_CHANGE = latest_time(tickets.c.updated_at, sa.func.coalesce(tickets.c.internal_updated_at, tickets.c.updated_at))
"""The time of the last change of a case, including internal notes."""

IS_SYNTHETIC: sa.ColumnElement[bool] = sa.func.coalesce(
    tickets.c.synthetic, tickets.c.channel == sa.literal_column(f"'{SYNTHETIC}'")
)
"""True for a synthetic case, which is in no list and in no count. Older releases say so by the channel only."""

IS_ACTIVE: sa.ColumnElement[bool] = tickets.c.status.in_(
    [sa.literal_column(f"'{status}'", sa.String()) for status in ACTIVE_STATUSES]
)
"""True for a case that is still being worked on. Literals, because a partial index has the same condition."""

CASE_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "id": tickets.c.id,
    "subject": tickets.c.subject,
    "description": tickets.c.description,
    "customerId": tickets.c.customer_id,
    "status": tickets.c.status,
    "priority": tickets.c.priority,
    "channel": tickets.c.channel,
    "assignedAgentId": tickets.c.assigned_agent_id,
    "team": tickets.c.team,
    "context": tickets.c.context,
    "tags": tickets.c.tags,
    "externalId": tickets.c.external_id,
    "sentAt": tickets.c.sent_at,
    "createdAt": tickets.c.created_at,
    "updatedAt": LATEST_CHANGE,
}


def json_object_of(columns: dict[str, Any]) -> json_object:
    """Return a JSON object with the given names, which must be literals of this code: they are written into the SQL."""
    parts: list[Any] = []
    for name, column in columns.items():
        parts += (sa.literal_column(f"'{name}'"), column)
    return json_object(*parts)


def json_text(columns: dict[str, Any]) -> sa.Cast[str]:
    """Return a row as JSON text, for a model to parse; without the cast PostgreSQL's driver would decode it."""
    return sa.cast(json_object_of(columns), sa.Text)
