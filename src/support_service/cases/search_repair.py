"""Repair of missing search documents: of marked messages in the background, and of all cases on request."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from support_service.cases.sql import search
from support_service.cases.sql.import_rows import ADD_DOCUMENTS
from support_service.core.search_words import search_text
from support_service.platform.database import Database, Reader, Row, Transaction
from support_service.platform.database.dialect import POSITION_BITS, insert_if_new, search_vector
from support_service.platform.database.tables import ERASED_TEXT, messages, search_documents, tickets

MAX_POSITION = (1 << POSITION_BITS) - 1
_NO_DOCUMENT = sa.text("NOT has_document")  # the same text as in the partial index
_oldest_without_document = (
    sa.select(messages.c.seq, messages.c.ticket_id)
    .where(_NO_DOCUMENT)
    .order_by(messages.c.seq)
    .limit(sa.bindparam("count"))
    .subquery()
)
CASES_TO_INDEX = (
    sa.select(_oldest_without_document.c.ticket_id)
    .group_by(_oldest_without_document.c.ticket_id)
    .order_by(sa.func.min(_oldest_without_document.c.seq))
)
_ids: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)
_LOCK_CASES = (
    sa.select(tickets.c.id, tickets.c.seq, tickets.c.version)
    .where(tickets.c.id.in_(_ids))
    .order_by(tickets.c.seq)
    .with_for_update(skip_locked=True)  # a later run has the case
)
_MESSAGES_NEWEST_FIRST = (
    sa.select(messages.c.ticket_id, messages.c.message, messages.c.visibility)
    .where(messages.c.ticket_id.in_(_ids))
    .order_by(messages.c.seq.desc())
)
_MARK_AS_DOCUMENTED = (
    messages.update()
    .where(messages.c.ticket_id == sa.bindparam("case_id"), _NO_DOCUMENT)
    .values(has_document=sa.true())
)
_CASE_DOCUMENT_ID = tickets.c.seq.bitwise_lshift(sa.literal_column(str(POSITION_BITS)))
_ADD_CASE_DOCUMENT = insert_if_new(search_documents).from_select(
    ["id", "internal", "words"],
    sa.select(_CASE_DOCUMENT_ID, sa.false(), search_vector(tickets.c.search_text, tickets.c.seq)).where(
        tickets.c.id == sa.bindparam("case_id")
    ),
)
_own_documents = sa.select(sa.func.count()).where(search_documents.c.id == _CASE_DOCUMENT_ID)
_documents_of_messages = sa.select(sa.func.count()).where(
    search_documents.c.id.between(_CASE_DOCUMENT_ID + 1, _CASE_DOCUMENT_ID + MAX_POSITION)
)
_searchable_messages = sa.select(sa.func.count()).where(
    messages.c.ticket_id == tickets.c.id, messages.c.message != sa.bindparam("erased")
)
_counts_by_case = (
    sa.select(
        tickets.c.id,
        _own_documents.correlate(tickets).scalar_subquery().label("own"),
        _documents_of_messages.correlate(tickets).scalar_subquery().label("documents"),
        _searchable_messages.correlate(tickets).scalar_subquery().label("messages"),
    )
    .where(tickets.c.seq.between(sa.bindparam("first"), sa.bindparam("last")))
    .subquery()
)
INCOMPLETE_CASES = sa.select(
    _counts_by_case.c.id,
    (1 - _counts_by_case.c.own).label("own"),
    (_counts_by_case.c.messages - _counts_by_case.c.documents).label("messages"),
).where(sa.or_(_counts_by_case.c.own == 0, _counts_by_case.c.documents < _counts_by_case.c.messages))


class IncompleteCase(NamedTuple):
    """A case that lacks its own document, or the documents of some messages."""

    id: str
    lacks_own: bool
    messages: int  # without a document


async def read_cases_to_index(reader: Reader, count: int) -> list[str]:
    """Return the cases of the `count` oldest messages that are marked as having no document."""
    return [row.ticket_id for row in await reader.fetch_all(CASES_TO_INDEX, {"count": count})]


async def read_newest_seq(reader: Reader) -> int:
    """Return the seq of the newest case, or 0."""
    (row,) = await reader.fetch_all(sa.select(sa.func.coalesce(sa.func.max(tickets.c.seq), 0).label("seq")))
    return int(row.seq)


async def count_cases(reader: Reader) -> int:
    """Return the number of cases. Their seqs may have gaps."""
    (row,) = await reader.fetch_all(sa.select(sa.func.count().label("number")).select_from(tickets))
    return int(row.number)


async def read_incomplete_cases(reader: Reader, first: int, last: int, erased_text: str) -> list[IncompleteCase]:
    """Return the incomplete cases from seq `first` to `last`. Messages with the text `erased_text` need no document."""
    rows = await reader.fetch_all(INCOMPLETE_CASES, {"first": first, "last": last, "erased": erased_text})
    return [IncompleteCase(row.id, bool(row.own), max(row.messages, 0)) for row in rows]


async def index_cases(tx: Transaction, case_ids: Sequence[str], erased_text: str) -> int:
    """Make all documents of cases again; return the number of those neither deleted nor locked by another transaction.

    Messages with the text `erased_text` get none. The lock of a case keeps an erasure from running in between.
    """
    cases = await tx.fetch_all(_LOCK_CASES, {"ids": case_ids})
    found = [{"case_id": case.id} for case in cases]
    if not found:
        return 0
    newest_first = await tx.fetch_all(_MESSAGES_NEWEST_FIRST, {"ids": [case.id for case in cases]})
    for case in cases:
        await search.remove_message_documents(tx, case.id)
    await tx.execute_later(_ADD_CASE_DOCUMENT, found)
    if documents := await asyncio.to_thread(_documents_to_insert, cases, newest_first, erased_text):
        await tx.execute_later(ADD_DOCUMENTS, documents)
    await tx.execute_later(_MARK_AS_DOCUMENTED, found)
    return len(found)


def _documents_to_insert(
    cases: Sequence[Row], newest_first: Sequence[Row], erased_text: str
) -> list[dict[str, object]]:
    """Return documents at the latest positions that the messages may have had: each gave its case a version."""
    return [
        {
            "document": (case.seq << POSITION_BITS) + min(case.version, MAX_POSITION) - place,
            "case_seq": case.seq,
            "is_internal": message.visibility == "internal",
            "document_words": search_text(message.message),
        }
        for case in cases
        for place, message in enumerate(each for each in newest_first if each.ticket_id == case.id)
        if message.message != erased_text
    ]


SEQS_PER_CHECK = 500  # cases that one statement compares with their documents


@dataclass(frozen=True, slots=True)
class SearchRepairTimings:
    """The interval of the background job in seconds, and the size of its batches."""

    interval: float = 5.0
    batch_size: int = 100  # messages whose cases are indexed, each in a transaction of its own


@dataclass(slots=True)
class SearchTotals:
    """Numbers that a check has found."""

    cases: int = 0
    incomplete_cases: int = 0
    cases_without_document: int = 0
    messages_without_document: int = 0
    repaired_cases: int = 0


class SearchRepair:
    """Makes missing search documents. A case that another replica has locked is left to that replica."""

    def __init__(self, database: Database, timings: SearchRepairTimings = SearchRepairTimings()) -> None:
        self._database = database
        self._timings = timings

    async def run(self) -> None:
        """Index the cases of all messages that are marked as having no document."""
        while found := await read_cases_to_index(self._database, self._timings.batch_size):
            if not any([await self._index_case(case_id) for case_id in found]):
                return

    async def check(self, *, repair: bool, progress: Callable[[int], None] = lambda _: None) -> SearchTotals:
        """Compare all cases with their documents. If `repair` is true, make the documents of incomplete cases."""
        totals = SearchTotals(await count_cases(self._database))
        newest = await read_newest_seq(self._database)
        for first in range(1, newest + 1, SEQS_PER_CHECK):
            last = min(first + SEQS_PER_CHECK - 1, newest)
            for case in await read_incomplete_cases(self._database, first, last, ERASED_TEXT):
                totals.incomplete_cases += 1
                totals.cases_without_document += case.lacks_own
                totals.messages_without_document += case.messages
                if repair:
                    totals.repaired_cases += await self._index_case(case.id)
            progress(last - first + 1)
        return totals

    async def _index_case(self, case_id: str) -> int:
        async with self._database.transaction() as tx:
            return await index_cases(tx, [case_id], ERASED_TEXT)
