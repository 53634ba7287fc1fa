"""The earlier support-service: its tables `support_tickets`, `support_conversations` and `support_attachments`.

Cases and attachments keep their ids, so that addresses of cases stay valid. The files are those below the attachment
directory of the earlier service. Its offload script moved old ones to the folder `archive` there.

Left out: cached timelines, events, and whatever else the database has. The file that a message names stays named if it
is an attachment of the case or has an http URL. Any other address goes into the metadata of the message.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from support_service.cases.model.vocabulary import Json
from support_service.core.errors import SupportError, problem
from support_service.guard.json_body import parse_json
from support_service.importing import fields
from support_service.importing.entries import Entries, KeptIds, checked_entry
from support_service.platform.database.failures import StatementError
from support_service.platform.database.shared import create_database

BATCH_TICKETS = 200  # cases that are read at once
ARCHIVE_FOLDER = "archive"
AUTHORS = {"system": "bot", "user": "customer"}
STATUSES = {"new": "open", "in_progress": "open", "waiting": "pending", "solved": "resolved"}
_TICKETS = sa.table(
    "support_tickets",
    *map(
        sa.column, ("id", "subject", "description", "customer_id", "status", "priority", "channel", "assigned_agent_id")
    ),
    *map(sa.column, ("context_json", "created_at", "updated_at")),
)
_MESSAGES = sa.table(
    "support_conversations",
    *map(sa.column, ("id", "ticket_id", "author_type", "message", "attachment_uri", "sentiment", "metadata_json")),
    sa.column("created_at"),
)
_FILES = sa.table(
    "support_attachments",
    *map(sa.column, ("id", "ticket_id", "filename", "content_type", "storage_path", "uri", "created_at")),
)
Rows = Mapping[str, Sequence[Json]]
"""Rows by the id of their ticket."""


ReadRows = Callable[[sa.Select[Any]], Awaitable[Sequence[Json]]]
"""Returns the rows of a statement by the names of their columns. Raises Unavailable."""


@asynccontextmanager
async def open_earlier_database(url: str) -> AsyncIterator[ReadRows]:
    """Open the database by its URL, `sqlite:///PATH` or `postgresql://…`, and change nothing in it.

    Raises Unavailable.
    """
    if url.startswith("sqlite:"):
        yield _open_sqlite_read_only(Path(url.removeprefix("sqlite:///")))
        return
    database = create_database(url, pool_size=2)

    async def read(statement: sa.Select[Any]) -> Sequence[Json]:
        try:
            return [row._asdict() for row in await database.fetch_all(statement)]
        except StatementError as failure:
            raise _unreadable_database_error(str(failure)) from None

    try:
        await database.open()
        yield read
    finally:
        await database.close()


def _open_sqlite_read_only(path: Path) -> ReadRows:
    """Open a file for reading only: the engine of this service would switch it to a write-ahead log."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=NullPool,
        hide_parameters=True,
    )

    def read(statement: sa.Select[Any]) -> Sequence[Json]:
        try:
            with engine.connect() as connection:
                return [dict(row) for row in connection.execute(statement).mappings()]
        except sa.exc.DBAPIError as failure:
            raise _unreadable_database_error(str(failure.orig)) from None

    return lambda statement: asyncio.to_thread(read, statement)


def _unreadable_database_error(reason: str) -> SupportError:
    return problem("database_unavailable", f"The database of the earlier service can't be read: {reason}")


async def read_tickets(read: ReadRows, ids: Sequence[str], folder: Path) -> Entries:
    """Yield the tickets with these ids, each with its messages and files, whose folder is given."""
    place = 0
    for start in range(0, len(ids), BATCH_TICKETS):
        batch = ids[start : start + BATCH_TICKETS]
        tickets = {row["id"]: row for row in await read(sa.select(_TICKETS).where(_TICKETS.c.id.in_(batch)))}
        messages = await _read_rows_by_ticket(read, _MESSAGES, batch)
        files = await _read_rows_by_ticket(read, _FILES, batch)
        for ticket_id in batch:
            place += 1
            if ticket_id in tickets:  # pragma: no branch - else it was deleted meanwhile
                found = _map_files(files.get(ticket_id, ()), folder)
                document = {**tickets[ticket_id], "messages": messages.get(ticket_id, ()), "files": found}
                kept = KeptIds(ticket_id, {file["path"]: file["id"] for file in found})
                yield checked_entry(place, 1, document, kept)


async def read_ticket_ids(read: ReadRows) -> list[str]:
    """Return the ids of all tickets, oldest first."""
    order = (_TICKETS.c.created_at, _TICKETS.c.id)
    return [row["id"] for row in await read(sa.select(_TICKETS.c.id).order_by(*order))]


async def count_files(read: ReadRows) -> int:
    """Return the number of attachments."""
    count = sa.select(sa.func.count().label("number")).select_from(_FILES)
    return int((await read(count))[0]["number"])


def map_ticket(ticket: Json) -> Json:
    """Return a ticket with its messages and files as a case. Raises ValidationFailed for JSON that can't be read."""
    status = str(ticket["status"]).lower()
    context = _parse_json_column(ticket["context_json"])
    files: list[Json] = ticket["files"]
    return fields.without_empty(
        {
            "externalId": f"dataflow:{ticket['id']}",
            "subject": (ticket["subject"] or "").strip() or f"Ticket {ticket['id']}",
            "description": ticket["description"],
            "customerId": ticket["customer_id"],
            "status": STATUSES.get(status, status),
            "priority": ticket["priority"],
            "channel": ticket["channel"],
            "assignedAgentId": ticket["assigned_agent_id"],
            "context": context if isinstance(context, list) else [context] if isinstance(context, dict) else [],
            "sentAt": fields.rfc3339_time(ticket["created_at"]),
            "closedAt": fields.rfc3339_time(ticket["updated_at"]),
            "messages": [part for row in ticket["messages"] for part in fields.split_message(_map_message(row, files))],
            "attachments": [
                {name: file[name] for name in ("path", "filename", "contentType", "sentAt")} for file in files
            ],
        }
    )


def _map_message(row: Json, files: Sequence[Json]) -> Json:
    metadata = _parse_json_column(row["metadata_json"])
    if metadata is not None and not isinstance(metadata, dict):
        metadata = {"value": metadata}
    uri = row["attachment_uri"]
    named = next((file["path"] for file in files if uri and uri in (file["uri"], file["path"])), None)
    kept = uri if uri and named is None and uri.startswith(("http://", "https://")) else None
    if uri and not named and not kept:
        metadata = {**(metadata or {}), "attachmentUri": uri}
    author = str(row["author_type"]).lower()
    message = {
        "externalId": row["id"],
        "authorType": AUTHORS.get(author, author),
        "sentiment": row["sentiment"],
        "metadata": metadata,
        "attachment": named,
        "attachmentUri": quote(unquote(kept), safe="/:?#[]@!$&'()*+,;=%~") if kept else None,
        "sentAt": fields.rfc3339_time(row["created_at"]),
    }
    return fields.without_empty(message) | {"message": row["message"]}


def _map_files(rows: Sequence[Json], folder: Path) -> list[Json]:
    """Return the attachments of a ticket with the paths of their files, which may be in the archive."""
    found = []
    for row in rows:
        path = str(row["storage_path"]).lstrip("/")
        archived = f"{ARCHIVE_FOLDER}/{path}"
        if not (folder / path).exists() and (folder / archived).exists():
            path = archived
        found.append(
            {
                "id": row["id"],
                "path": path,
                "uri": row["uri"],
                "filename": row["filename"],
                "contentType": row["content_type"],
                "sentAt": fields.rfc3339_time(row["created_at"]),
            }
        )
    return found


async def _read_rows_by_ticket(read: ReadRows, table: sa.TableClause, ids: Sequence[str]) -> Rows:
    found: dict[str, list[Json]] = {}
    ordered = sa.select(table).where(table.c.ticket_id.in_(ids)).order_by(table.c.created_at, table.c.id)
    for row in await read(ordered):
        found.setdefault(row["ticket_id"], []).append(row)
    return found


def _parse_json_column(text: str | None) -> Any:
    return parse_json(text.encode()) if text else None
