"""SQL expressions that return a case as the JSON document of its model."""

from typing import Any

import sqlalchemy as sa

from support_service.database.dialect import json_rows
from support_service.database.json_projections import CASE_COLUMNS, json_object_of, json_text
from support_service.database.tables import attachments, messages, tickets


def _rows_of_ticket(table: sa.Table, columns: dict[str, str]) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array of a case's rows in another table, oldest first."""
    rows = (
        sa.select(*(table.c[column] for column in columns.values()))
        .where(table.c.ticket_id == tickets.c.id)
        .order_by(table.c.seq)
        .correlate(tickets)
        .subquery()
    )
    return sa.select(
        json_rows(json_object_of({name: rows.c[column] for name, column in columns.items()}))
    ).scalar_subquery()


_SUMMARY = CASE_COLUMNS | {"version": tickets.c.version}
# What customers see: internal notes and files change neither the time nor the version.
_PUBLIC_SUMMARY = CASE_COLUMNS | {
    "updatedAt": tickets.c.updated_at,
    "version": tickets.c.version - tickets.c.internal_changes,
}
_CONTENT = {
    "timelineEpoch": tickets.c.timeline_epoch,
    "messages": _rows_of_ticket(
        messages,
        {
            "id": "id",
            "ticketId": "ticket_id",
            "authorType": "author_type",
            "message": "message",
            "attachmentUri": "attachment_uri",
            "sentiment": "sentiment",
            "metadata": "metadata",
            "visibility": "visibility",
            "createdAt": "created_at",
        },
    ),
    "attachments": _rows_of_ticket(
        attachments,
        {
            "id": "id",
            "ticketId": "ticket_id",
            "filename": "filename",
            "contentType": "content_type",
            "sizeBytes": "size_bytes",
            "sha256": "sha256",
            "visibility": "visibility",
            "createdAt": "created_at",
        },
    ),
}
CASE_SUMMARY_JSON, PUBLIC_CASE_SUMMARY_JSON = json_text(_SUMMARY), json_text(_PUBLIC_SUMMARY)
CASE_JSON, PUBLIC_CASE_JSON = json_text(_SUMMARY | _CONTENT), json_text(_PUBLIC_SUMMARY | _CONTENT)
