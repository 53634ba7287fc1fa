"""SQL that finds cases without all of their search documents, and makes the documents of a case again.

A replica of a release that knows no documents adds messages without one: while an upgrade rolls, or after a rollback.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from support_service.cases.store import search
from support_service.cases.store.case_import import ADD_DOCUMENTS
from support_service.core.search_words import search_text
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.search_dialect import POSITION_BITS, search_vector
from support_service.platform.database.tables import messages, search_documents, tickets

MAX_POSITION = (1 << POSITION_BITS) - 1
_NO_DOCUMENT = sa.text("NOT has_document")  # the same text as in the partial index
_oldest = (
    sa.select(messages.c.seq, messages.c.ticket_id)
    .where(_NO_DOCUMENT)
    .order_by(messages.c.seq)
    .limit(sa.bindparam("count"))
    .subquery()
)
CASES_TO_INDEX = sa.select(_oldest.c.ticket_id).group_by(_oldest.c.ticket_id).order_by(sa.func.min(_oldest.c.seq))
_LOCK = (
    sa.select(tickets.c.seq, tickets.c.version)
    .where(tickets.c.id == sa.bindparam("case_id"))
    .with_for_update(skip_locked=True)  # a later run has the case
)
_OF_CASE = messages.c.ticket_id == sa.bindparam("case_id")
_MESSAGES = sa.select(messages.c.message, messages.c.visibility).where(_OF_CASE).order_by(messages.c.seq.desc())
_MARK = messages.update().where(_OF_CASE, _NO_DOCUMENT).values(has_document=sa.true())
_FIRST = tickets.c.seq.bitwise_lshift(sa.literal_column(str(POSITION_BITS)))
_ADD_CASE_DOCUMENT = insert_if_new(search_documents).from_select(
    ["id", "internal", "words"],
    sa.select(_FIRST, sa.false(), search_vector(tickets.c.search_text, tickets.c.seq)).where(
        tickets.c.id == sa.bindparam("case_id")
    ),
)
_own = sa.select(sa.func.count()).where(search_documents.c.id == _FIRST)
_of_messages = sa.select(sa.func.count()).where(search_documents.c.id.between(_FIRST + 1, _FIRST + MAX_POSITION))
_searchable = sa.select(sa.func.count()).where(
    messages.c.ticket_id == tickets.c.id, messages.c.message != sa.bindparam("erased")
)
_counted = (
    sa.select(
        tickets.c.id,
        _own.correlate(tickets).scalar_subquery().label("own"),
        _of_messages.correlate(tickets).scalar_subquery().label("documents"),
        _searchable.correlate(tickets).scalar_subquery().label("messages"),
    )
    .where(tickets.c.seq.between(sa.bindparam("first"), sa.bindparam("last")))
    .subquery()
)
INCOMPLETE = sa.select(
    _counted.c.id, (1 - _counted.c.own).label("own"), (_counted.c.messages - _counted.c.documents).label("messages")
).where(sa.or_(_counted.c.own == 0, _counted.c.documents < _counted.c.messages))


class Incomplete(NamedTuple):
    """A case that lacks its own document, or the documents of some messages."""

    id: str
    lacks_own: bool
    messages: int  # without a document


async def cases_to_index(reader: Reader, count: int) -> list[str]:
    """Return the cases of the `count` oldest messages that are marked as having no document."""
    return [row.ticket_id for row in await reader.fetch_all(CASES_TO_INDEX, {"count": count})]


async def newest_seq(reader: Reader) -> int:
    """Return the seq of the newest case, or 0."""
    (row,) = await reader.fetch_all(sa.select(sa.func.coalesce(sa.func.max(tickets.c.seq), 0).label("seq")))
    return int(row.seq)


async def count_cases(reader: Reader) -> int:
    """Return the number of cases. Their seqs may have gaps."""
    (row,) = await reader.fetch_all(sa.select(sa.func.count().label("number")).select_from(tickets))
    return int(row.number)


async def incomplete_cases(reader: Reader, first: int, last: int, erased: str) -> list[Incomplete]:
    """Return the incomplete cases from seq `first` to `last`. Messages with the text `erased` need no document."""
    rows = await reader.fetch_all(INCOMPLETE, {"first": first, "last": last, "erased": erased})
    return [Incomplete(row.id, bool(row.own), max(row.messages, 0)) for row in rows]


async def index_case(tx: Transaction, case_id: str, erased: str) -> bool:
    """Make all documents of a case again. Return False if the case is deleted, or locked by another transaction.

    Messages with the text `erased` get none. The lock of the case keeps an erasure from running in between.
    """
    case = await tx.fetch_one(_LOCK, {"case_id": case_id})
    if case is None:
        return False
    newest_first = await tx.fetch_all(_MESSAGES, {"case_id": case_id})
    await search.remove_messages(tx, case_id)
    await tx.execute(_ADD_CASE_DOCUMENT, {"case_id": case_id})
    if documents := await asyncio.to_thread(_documents, case.seq, case.version, newest_first, erased):
        await tx.execute(ADD_DOCUMENTS, documents)
    await tx.execute(_MARK, {"case_id": case_id})
    return True


def _documents(seq: int, version: int, newest_first: Sequence[Row], erased: str) -> list[dict[str, object]]:
    """Return documents at the latest positions that the messages may have had: each gave the case a version."""
    latest = (seq << POSITION_BITS) + min(version, MAX_POSITION)
    return [
        {
            "document": latest - place,
            "case_seq": seq,
            "is_internal": message.visibility == "internal",
            "document_words": search_text(message.message),
        }
        for place, message in enumerate(newest_first)
        if message.message != erased
    ]
