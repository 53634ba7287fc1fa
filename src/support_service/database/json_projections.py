"""Rows as the JSON that clients and listeners get: the database writes it, so that no row is read to be written."""

from typing import Any

import sqlalchemy as sa

from support_service.database.dialect import json_object
from support_service.database.tables import tickets

TICKET_COLUMNS = {
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
    "createdAt": tickets.c.created_at,
    "updatedAt": tickets.c.updated_at,
}


def json_members(columns: dict[str, Any]) -> json_object:
    """A JSON object with the given names; they are our own literals, so they stand in the SQL itself."""
    parts: list[Any] = []
    for name, column in columns.items():
        parts += (sa.literal_column(f"'{name}'"), column)
    return json_object(*parts)


def json_text(columns: dict[str, Any]) -> sa.Cast[str]:
    """A row's whole answer as JSON text, for a model to read; PostgreSQL's driver would decode it on the way."""
    return sa.cast(json_members(columns), sa.Text)
