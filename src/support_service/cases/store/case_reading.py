"""The statement that reads a case with its conversation and attachments, as JSON that the database writes.

What decides who may see the case stands in columns beside the JSON. A reader that already has the JSON of a version
names it, and the database writes the JSON only if the case is at another version.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.model.case import Case
from support_service.cases.store.projections import (
    ATTACHMENTS_JSON,
    FIELDS_JSON,
    MESSAGES_JSON,
    PUBLIC,
    PUBLIC_FIELDS_JSON,
    PUBLIC_VERSION,
)
from support_service.database import Reader
from support_service.database.compiled import compiled
from support_service.database.tables import attachments, messages, tickets

# Conversations of more bytes are not read on the event loop: SQLite needs 3 ms for 1 MiB.
MAX_INLINE_BYTES = 256 * 1024
NO_VERSION = 0  # versions start at 1
_NO_LIMIT = 2**62


class StoredCase(NamedTuple):
    """A case as it is stored: its version, what decides who may see it, and its JSON in three parts.

    The parts are None if the reader has this version already, or if the conversation is longer than allowed.
    """

    version: int
    timeline_epoch: int
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    fields: str | None  # an object with the fields of the case
    messages: str | None  # a list, oldest first
    attachments: str | None  # a list, oldest first; without `uri`


def _statement(*, public_only: bool) -> sa.Select[Any]:
    version = PUBLIC_VERSION if public_only else tickets.c.version
    wanted = sa.and_(
        version != sa.bindparam("known_version"), tickets.c.conversation_bytes <= sa.bindparam("max_bytes")
    )
    parts = {
        "fields": PUBLIC_FIELDS_JSON if public_only else FIELDS_JSON,
        "messages": MESSAGES_JSON(messages.c.visibility == PUBLIC if public_only else sa.true()),
        "attachments": ATTACHMENTS_JSON(attachments.c.visibility == PUBLIC if public_only else sa.true()),
    }
    return compiled(
        sa.select(
            version.label("version"),
            tickets.c.timeline_epoch,
            tickets.c.customer_id,
            tickets.c.assigned_agent_id,
            tickets.c.team,
            *(sa.case((wanted, part)).label(name) for name, part in parts.items()),
        ).where(tickets.c.id == sa.bindparam("id"))
    )


READ = {public_only: _statement(public_only=public_only) for public_only in (False, True)}


async def read(
    reader: Reader, case_id: str, *, public_only: bool = False, known_version: int = NO_VERSION
) -> StoredCase | None:
    """Return a case, or None; its JSON only if it is not at `known_version` and has at most `MAX_INLINE_BYTES`."""
    row = await reader.fetch_one(
        READ[public_only], {"id": case_id, "known_version": known_version, "max_bytes": MAX_INLINE_BYTES}
    )
    return StoredCase._make(row) if row else None  # type: ignore[arg-type]  # a row is a tuple


async def read_any_size(reader: Reader, case_id: str, *, public_only: bool = False) -> StoredCase | None:
    """Return a case with its JSON, or None; SQLite reads it in a thread."""
    rows = await reader.fetch_all(
        READ[public_only], {"id": case_id, "known_version": NO_VERSION, "max_bytes": _NO_LIMIT}
    )
    return StoredCase._make(rows[0]) if rows else None  # type: ignore[arg-type]  # a row is a tuple


def to_case(stored: StoredCase) -> Case:
    """Return the model of a case that was read with its JSON."""
    case = Case.model_validate_json(join_parts(stored, stored.attachments or "[]") + "}")
    case.version, case.timeline_epoch = stored.version, stored.timeline_epoch
    return case


def join_parts(stored: StoredCase, attachments_json: str) -> str:
    """Return the JSON object of a case, without its closing brace."""
    fields = (stored.fields or "{}").rstrip().removesuffix("}")
    return f'{fields},"messages":{stored.messages},"attachments":{attachments_json}'
