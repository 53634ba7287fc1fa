"""SQL that moves messages, with the files that they name, from one case to another. Both cases are locked."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.sql import search
from support_service.cases.sql.case_rows import answer_times, column_values, message_size, search_values
from support_service.cases.sql.import_rows import ADD_DOCUMENTS
from support_service.core.search_words import search_text
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import POSITION_BITS, UtcDateTime
from support_service.platform.database.tables import (
    ERASED_TEXT,
    attachments,
    audit_log,
    messages,
    notifications,
    tickets,
)

_M = messages.c
# Without the texts.
CONVERSATION = (
    sa.select(_M.id, _M.author_type, _M.visibility, _M.created_at, _M.attachment_uri, _M.attachment_ids)
    .where(_M.ticket_id == sa.bindparam("case_id"))
    .order_by(_M.seq)
)
MESSAGES_BY_ID = (
    sa.select(*(_M[name] for name in Message.model_fields))
    .where(_M.ticket_id == sa.bindparam("case_id"), _M.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(_M.seq)
)
MESSAGES_TO_INDEX = (
    sa.select(tickets.c.seq, tickets.c.version, _M.message, _M.visibility)
    .join(messages, _M.ticket_id == tickets.c.id)
    .where(tickets.c.id == sa.bindparam("case_id"))
    .order_by(_M.seq.desc())
)
MAX_POSITION = (1 << POSITION_BITS) - 1
MOVE_MESSAGE = (
    messages.update()
    .where(_M.id == sa.bindparam("message_id"))
    .values(
        ticket_id=sa.bindparam("new_case"),
        attachment_uri=sa.bindparam("new_uri"),
        version=sa.bindparam("new_version"),
        public_version=sa.bindparam("new_public_version"),
    )
)
MOVE_NOTIFICATIONS = (
    notifications.update()
    .where(notifications.c.case_id == sa.bindparam("from_case"), notifications.c.message_id == sa.bindparam("message"))
    .values(case_id=sa.bindparam("new_case"))
)
_BYTES_LEFT = tickets.c.conversation_bytes - sa.bindparam("moved_bytes", type_=sa.BigInteger())
UPDATE_ORIGINAL = (
    tickets.update()
    .where(tickets.c.id == sa.bindparam("case_id"))
    .values(
        # When it was answered first does not change, and is not reported again.
        waiting_since=sa.bindparam("waits_since", type_=UtcDateTime()),
        conversation_bytes=sa.case((_BYTES_LEFT > 0, _BYTES_LEFT), else_=0),  # erased messages count less than others
        updated_at=sa.bindparam("at", type_=UtcDateTime()),
        version=tickets.c.version + 1,
    )
)


async def read_conversation(reader: RowReader, case_id: str) -> Sequence[Row]:
    """Return what the messages of a case, oldest first, say of answers and files, without their texts."""
    return await reader.fetch_all(CONVERSATION, {"case_id": case_id})


async def was_opened_with_description(reader: RowReader, case_id: str) -> bool:
    """Return whether a case that has a description had one from the start: the audit log has no first one."""
    statement = sa.select(audit_log.c.changes).where(
        audit_log.c.case_id == case_id, audit_log.c.changes.contains('"description":[')
    )
    for row in await reader.fetch_all(statement.order_by(audit_log.c.seq)):
        changed = pydantic_core.from_json(row.changes)
        if "description" in changed:  # else it is a member of the context
            return changed["description"][0] is not None
    return True


async def read_messages(reader: RowReader, case_id: str, ids: Collection[str]) -> list[Message]:
    """Return messages of a case, oldest first."""
    rows = await reader.fetch_all(MESSAGES_BY_ID, {"case_id": case_id, "ids": list(ids)})
    return [Message.model_validate(row._asdict(), by_name=True, by_alias=False) for row in rows]


async def move_messages(tx: Transaction, moved: Sequence[Message], case_id: str) -> None:
    """Move messages to a case, as messages that gave it its versions from 2 on."""
    rows, notes = list[dict[str, Any]](), 0
    for version, message in enumerate(moved, 2):
        is_note = message.visibility == "internal"
        notes += is_note
        rows.append(
            {
                "message_id": message.id,
                "new_case": case_id,
                "new_uri": message.attachment_uri,
                "new_version": version,
                "new_public_version": None if is_note else version - notes,
            }
        )
    await tx.execute_later(MOVE_MESSAGE, rows)


async def move_notifications(tx: Transaction, message_ids: Collection[str], from_case: str, to_case: str) -> None:
    """Move notifications of messages with them: only people who may see the new case are shown them from then on."""
    rows = [{"message": each, "from_case": from_case, "new_case": to_case} for each in message_ids]
    await tx.execute_later(MOVE_NOTIFICATIONS, rows)


async def move_files(tx: Transaction, ids: Collection[str], from_case: str, to_case: str) -> None:
    """Move files of one case to another."""
    if ids:
        named = (attachments.c.id.in_(ids), attachments.c.ticket_id == from_case)
        await tx.execute(attachments.update().where(*named).values(ticket_id=to_case))


async def update_original(
    tx: Transaction, case_id: str, at: datetime, waiting_since: datetime | None, moved: Sequence[Message]
) -> None:
    """Give the case that messages were moved from its next version, and what follows from the rest of them."""
    values = {"at": at, "waits_since": waiting_since, "moved_bytes": _size_of(moved)}
    await tx.execute_later(UPDATE_ORIGINAL, values | {"case_id": case_id})


async def add_case(tx: Transaction, case: CaseSummary, moved: Sequence[Message], due_at: datetime | None) -> None:
    """Insert a case for messages that will be moved to it. An answer among them counts as if it had opened the case."""
    answered_at, waiting_since = answer_times(None, moved)
    notes = [each.created_at for each in moved if each.visibility == "internal"]
    row = {
        "answered_at": answered_at and case.created_at,
        "waiting_since": waiting_since,
        "conversation_bytes": _size_of(moved),
        "internal_changes": len(notes),
        "internal_updated_at": max(notes, default=None),
        "sla_due_at": due_at,
    }
    await tx.execute_later(tickets.insert().inline(), column_values(case) | search_values(case) | row)


async def index_messages(tx: Transaction, case_ids: Collection[str]) -> None:
    """Make the search documents of the messages of cases again."""
    for case_id in case_ids:
        newest_first = await tx.fetch_all(MESSAGES_TO_INDEX, {"case_id": case_id})
        await search.remove_message_documents(tx, case_id)
        if documents := await asyncio.to_thread(_search_documents, newest_first):
            await tx.execute_later(ADD_DOCUMENTS, documents)


def _search_documents(newest_first: Sequence[Row]) -> list[dict[str, object]]:
    """Return documents at the latest positions that the messages may have had: each gave its case a version."""
    return [
        {
            "document": (row.seq << POSITION_BITS) + min(row.version, MAX_POSITION) - place,
            "case_seq": row.seq,
            "is_internal": row.visibility == "internal",
            "document_words": search_text(row.message),
        }
        for place, row in enumerate(newest_first)
        if row.message != ERASED_TEXT
    ]


def _size_of(moved: Sequence[Message]) -> int:
    return sum(map(message_size, moved))
