"""SQL that inserts cases with their whole conversation, many at once, as they were in another system."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.model.case import CaseSummary, Message
from support_service.cases.sql.case_rows import (
    ADD_MESSAGE,
    ADD_REFERENCE,
    answer_times,
    column_values,
    message_size,
    search_values,
    to_message_row,
)
from support_service.core.domain import references
from support_service.core.search_words import search_text
from support_service.platform.database import RowReader, Transaction
from support_service.platform.database.dialect import POSITION_BITS, insert_if_new, search_vector
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import search_documents, tickets

ADD_CASES = insert_if_new(tickets).returning(tickets.c.id, tickets.c.seq)
ADD_DOCUMENTS = compiled(
    search_documents.insert().values(
        id=sa.bindparam("document", type_=sa.BigInteger()),
        internal=sa.bindparam("is_internal", type_=sa.Boolean()),
        words=search_vector(
            sa.bindparam("document_words", type_=sa.Text()), sa.bindparam("case_seq", type_=sa.BigInteger())
        ),
    )
)


@dataclass(slots=True)
class CaseHistory:
    """A case with all its messages, oldest first, and the times of files that customers and only agents see."""

    case: CaseSummary
    messages: list[Message]
    public_files: list[datetime]
    internal_files: list[datetime]
    former_version: int = 0  # that the case had before it was deleted: no reader may take its next one for that
    conversation_bytes: int = 0  # the size counted for the messages, in bytes of JSON

    def __post_init__(self) -> None:
        """Count the messages."""
        self.conversation_bytes = sum(map(message_size, self.messages))

    def name_attachment(self, message: Message, attachment_id: str, uri: str) -> None:
        """Let a message name one more file."""
        self.conversation_bytes -= message_size(message)
        message.attachment_uri = message.attachment_uri if message.attachment_ids else uri
        message.attachment_ids.append(attachment_id)
        self.conversation_bytes += message_size(message)


async def find_existing_external_ids(reader: RowReader, names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those (channel, external id) by which there is a case."""
    by_channel: dict[str, list[str]] = {}
    for channel, external_id in names:
        by_channel.setdefault(channel, []).append(external_id)
    named = [
        sa.and_(tickets.c.channel == channel, tickets.c.external_id.in_(ids)) for channel, ids in by_channel.items()
    ]
    if not named:
        return set()
    rows = await reader.fetch_all(sa.select(tickets.c.channel, tickets.c.external_id).where(sa.or_(*named)))
    return {(row.channel, row.external_id) for row in rows}


async def add_histories(tx: Transaction, histories: Sequence[CaseHistory]) -> set[str]:
    """Insert cases with their messages, references and search documents. Return the ids of the inserted cases.

    A case is not inserted if its channel has one with its external id, or if there is a case with its id.
    """
    rows = await tx.fetch_all(ADD_CASES, [_case_row(history) for history in histories])
    seqs: dict[str, int] = {row.id: row.seq for row in rows}
    added = [history for history in histories if history.case.id in seqs]
    named = [
        {"ticket_id": history.case.id, "kind": kind, "value": value}
        for history in added
        for kind, value in references.reference_rows(history.case.context)
    ]
    if named:
        await tx.execute(ADD_REFERENCE, named)
    messages = [row for history in added for row in _message_rows(history)]
    if messages:
        await tx.execute(ADD_MESSAGE, messages)
        await tx.execute(ADD_DOCUMENTS, [row for history in added for row in _search_documents(history, seqs)])
    return set(seqs)


def _case_row(history: CaseHistory) -> dict[str, Any]:
    """Return the row that the case would have if each message and file had been added by a request of its own."""
    case, messages_of_case = history.case, history.messages
    answered_at, waiting_since = answer_times(case.created_at if case.description else None, messages_of_case)
    internal = [
        message.created_at for message in messages_of_case if message.visibility == "internal"
    ] + history.internal_files
    version = 1 + len(messages_of_case) + len(history.public_files) + len(history.internal_files)
    if history.former_version:  # also the version that customers see, without internal changes, is a later one
        version = max(version, history.former_version + len(internal) + 1)
    return {
        **column_values(case),
        **search_values(case),
        "answered_at": answered_at,
        "waiting_since": waiting_since,
        "internal_updated_at": max(internal, default=None),
        "version": version,
        "internal_changes": len(internal),
        "conversation_bytes": history.conversation_bytes,
    }


def _message_rows(history: CaseHistory) -> Iterator[dict[str, Any]]:
    """Return the rows of the messages, each of which gave the case a version."""
    notes = 0
    for version, message in enumerate(history.messages, 2):
        notes += message.visibility == "internal"
        yield to_message_row(message, version, notes)


def _search_documents(history: CaseHistory, seqs: dict[str, int]) -> list[dict[str, Any]]:
    """Return the search documents of the messages; the position of each is the version that it gave the case."""
    seq = seqs[history.case.id]
    return [
        {
            "document": (seq << POSITION_BITS) + version,
            "case_seq": seq,
            "is_internal": message.visibility == "internal",
            "document_words": search_text(message.message),
        }
        for version, message in enumerate(history.messages, 2)
    ]
