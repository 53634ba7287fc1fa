"""SQL of single cases, for SQLite and PostgreSQL; each read is one statement. For lists see case_list.py."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model.case import Case, CaseSummary, Message
from support_service.cases.model.requests import NewMessage
from support_service.cases.model.vocabulary import DUPLICATE_OF, SPLIT_FROM, length_without_exponents
from support_service.cases.sql import case_reading
from support_service.cases.sql.projections import IS_SYNTHETIC, LATEST_CHANGE, LOCKED_CASE_JSON
from support_service.cases.sql.search import ADD_DOCUMENT
from support_service.cases.sql.visibility import cases_before, has_duplicates
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.core.search_words import search_text
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime, insert_if_new, text_literal, time_after
from support_service.platform.database.single_rows import locked_read, row_change
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachments, case_links, messages, ticket_references, tickets


class OwnedCase(NamedTuple):
    """The id of a case that exists, and what decides who may see it."""

    id: str
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None


ADD_CASE_IF_NEW = compiled(insert_if_new(tickets).inline())
FIND_CASE = sa.select(*(tickets.c[name] for name in OwnedCase._fields)).where(
    tickets.c.channel == sa.bindparam("channel"), tickets.c.external_id == sa.bindparam("external_id")
)
_case_id = sa.bindparam("case_id", type_=sa.String)


def _places_of_messages() -> sa.CTE:
    """Return the `id` of each case in which a message that was sent to a case may be.

    It arrives in the case, or in a case that this is a duplicate of, directly or by others. A split may have moved it.
    """
    links, is_split = case_links.c, sa.literal_column("1", sa.Integer())
    start = sa.select(sa.cast(_case_id, sa.String).label("id"), sa.literal_column("0", sa.Integer()).label("is_split"))
    places = start.cte(recursive=True, nesting=True)  # the statement begins with SELECT, so that it needs no locks
    original = sa.and_(
        links.kind == text_literal(DUPLICATE_OF), links.case_id == places.c.id, places.c.is_split != is_split
    )
    split = sa.and_(links.kind == text_literal(SPLIT_FROM), links.other_case_id == places.c.id)
    following = sa.case((original, links.other_case_id), else_=links.case_id)
    step = sa.select(following, sa.case((original, places.c.is_split), else_=is_split)).where(sa.or_(original, split))
    return places.union(step)


FIND_MESSAGES = sa.select(*(messages.c[name] for name in Message.model_fields)).where(
    messages.c.ticket_id.in_(sa.select(_places_of_messages().c.id)),
    messages.c.external_id == sa.bindparam("external_id"),
    messages.c.visibility == sa.bindparam("visibility"),
)


async def add_case_if_new(tx: Transaction, row: Mapping[str, Any]) -> bool:
    """Insert a row of `tickets`. Return False if its channel has a case with its external id.

    On PostgreSQL this waits for a transaction that is inserting such a case.
    """
    return await tx.change_one(ADD_CASE_IF_NEW, row)


async def find_case_by_external_id(reader: RowReader, channel: str, external_id: str | None) -> OwnedCase | None:
    """Return the case of a channel with an external id, or None."""
    row = await reader.fetch_now(FIND_CASE, {"channel": channel, "external_id": external_id})
    return OwnedCase(**row._asdict()) if row else None


async def find_existing_messages(reader: RowReader, case_id: str, new: NewMessage) -> list[Message]:
    """Return the messages that have the external id and visibility of a new one that was sent to a case."""
    named = {"case_id": case_id, "external_id": new.external_id, "visibility": new.visibility}
    rows = await reader.fetch_all(FIND_MESSAGES, named)
    return [Message.model_validate(row._asdict(), by_name=True, by_alias=False) for row in rows]


class CaseState(NamedTuple):
    """What a change of a case goes by. `at` is the time of the last change, such as an added message.

    `internal_changes` is the number of changes that customers can't see. `files` are counted by `read_state` only.
    """

    at: datetime
    created_at: datetime
    answered_at: datetime | None
    synthetic: bool
    status: str
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    version: int
    internal_changes: int
    conversation_bytes: int
    sla_policy: int | None = None
    followers: Sequence[str] | None = None
    snoozed_until: datetime | None = None
    has_duplicates: bool = False
    files: int = 0


_BY_CASE_ID = tickets.c.id == sa.bindparam("case_id")
LOCK_CASE = locked_read(tickets, _BY_CASE_ID, LOCKED_CASE_JSON.label("document"))
# The UPDATE waits for the lock of the case, so the time that was taken before it may be too early by then.
_CHANGED_AT = time_after(sa.bindparam("at", type_=UtcDateTime()), LATEST_CHANGE)
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_AUTHOR_CHANGES: dict[str, dict[str, Any]] = {
    "customer": {"updated_at": _CHANGED_AT, "waiting_since": sa.func.coalesce(tickets.c.waiting_since, _CHANGED_AT)},
    "agent": {
        "updated_at": _CHANGED_AT,
        "waiting_since": sa.null(),
        "answered_at": sa.func.coalesce(tickets.c.answered_at, _CHANGED_AT),
    },
    "bot": {"updated_at": _CHANGED_AT},
    # An internal note is not an answer: a waiting customer is still waiting.
    "internal": {"internal_updated_at": _CHANGED_AT, "internal_changes": tickets.c.internal_changes + _ONE},
}
_NEXT_VERSION = tickets.c.version + _ONE
_COMPUTED_STATE: dict[str, sa.ColumnElement[Any]] = {
    "at": LATEST_CHANGE,
    "synthetic": IS_SYNTHETIC,
    "has_duplicates": has_duplicates(_case_id),  # in RETURNING, SQLite's columns have no names of tables
}
_MORE_BYTES = tickets.c.conversation_bytes + sa.bindparam("more_bytes")
_STATE = {
    name: _COMPUTED_STATE[name] if name in _COMPUTED_STATE else tickets.c[name]
    for name in CaseState._fields
    if name != "files"
}
_STATE_COLUMNS = [column.label(name) for name, column in _STATE.items()]
CHANGE_CASE_FOR_MESSAGE = {
    author: row_change(
        tickets, _BY_CASE_ID, {"version": _NEXT_VERSION, "conversation_bytes": _MORE_BYTES, **changes}, _STATE
    )
    for author, changes in _AUTHOR_CHANGES.items()
}
_NUMBER_OF_FILES = (
    sa.select(sa.func.count()).where(attachments.c.ticket_id == tickets.c.id).scalar_subquery().label("files")
)
READ_STATE = compiled(sa.select(*_STATE_COLUMNS, _NUMBER_OF_FILES).where(_BY_CASE_ID))
LOCK_CASE_SHARED = compiled(sa.select(*_STATE_COLUMNS).where(_BY_CASE_ID).with_for_update(read=True))
INCREMENT_VERSION = row_change(
    tickets,
    _BY_CASE_ID,
    {
        "version": _NEXT_VERSION,
        "internal_changes": tickets.c.internal_changes + sa.bindparam("internal", type_=sa.Integer()),
    },
    _STATE,
)
# `inline` leaves out the read of the generated row number, which is unused and costs a second cursor.
ADD_CASE = compiled(tickets.insert().inline())
ADD_MESSAGE = compiled(messages.insert().inline().values(has_document=sa.true()))  # with ADD_DOCUMENT
ADD_REFERENCE = compiled(ticket_references.insert().inline())
_MESSAGE_NAMES_ATTACHMENT = sa.or_(  # ids contain no LIKE wildcards
    messages.c.attachment_uri.contains(attachments.c.id),
    sa.cast(messages.c.attachment_ids, sa.Text).contains(attachments.c.id),
)
# Also by a message that a split has moved: a file that messages of both cases name stays in the case.
# A UNION, because with OR PostgreSQL reads the messages of all cases.
_CASES_SPLIT_FROM = cases_before(text_literal(SPLIT_FROM), _case_id)
_NAMED_BY_PUBLIC_MESSAGE = sa.exists().where(
    messages.c.ticket_id.in_(sa.union_all(sa.select(_case_id), sa.select(_CASES_SPLIT_FROM.c.id))),
    messages.c.visibility == "public",
    _MESSAGE_NAMES_ATTACHMENT,
)
_IS_NAMED_ATTACHMENT = (
    attachments.c.ticket_id == sa.bindparam("case_id"),
    sa.bindparam("named", type_=sa.Text()).contains(attachments.c.id),
)
HIDE_ATTACHMENT = (
    attachments.update()
    .where(*_IS_NAMED_ATTACHMENT, attachments.c.visibility == "public", ~_NAMED_BY_PUBLIC_MESSAGE)
    .values(visibility="internal")
)
SHOW_ATTACHMENT = (
    attachments.update()
    .where(*_IS_NAMED_ATTACHMENT, attachments.c.visibility == "internal")
    .values(visibility="public")
)
UPDATE_CASE_FOR_BOT_MESSAGE = compiled(
    tickets.update()
    .where(tickets.c.id == sa.bindparam("case_id"))
    .values(
        updated_at=sa.bindparam("at", type_=UtcDateTime()),
        version=_NEXT_VERSION,
        conversation_bytes=_MORE_BYTES,
        timeline_epoch=tickets.c.timeline_epoch + _ONE,
    )
)
COUNT_LAST_CHANGE_AS_PUBLIC = compiled(
    tickets.update()
    .where(tickets.c.id == sa.bindparam("case_id"))
    .values(internal_changes=tickets.c.internal_changes - _ONE)
)


MIN_MESSAGE_BYTES = 1024  # minimum size counted for a message: a shorter one costs each reader as much time
_STORED_FIELDS = [name for name in CaseSummary.model_fields if name in tickets.c]


async def get(reader: RowReader, case_id: str) -> Case | None:
    """Return a case with its conversation and attachments, or None; one statement."""
    stored = await case_reading.read(reader, case_id, any_size=True)
    return case_reading.to_case(stored) if stored else None


async def lock(tx: Transaction, case_id: str) -> CaseSummary | None:
    """Lock a case until the transaction ends; return it without its conversation, or None."""
    row = await tx.lock_row(LOCK_CASE, {"case_id": case_id})
    return CaseSummary.model_validate_json(row.document) if row else None


async def read_state(reader: RowReader, case_id: str) -> CaseState | None:
    """Return the state of a case with its number of files, or None."""
    row = await reader.fetch_now(READ_STATE, {"case_id": case_id})
    return _to_state(row, row.files) if row else None


async def lock_shared(tx: Transaction, case_id: str) -> CaseState | None:
    """Return the state of a case, which nobody else changes until the transaction ends, or None."""
    row = await tx.fetch_now(LOCK_CASE_SHARED, {"case_id": case_id})
    return _to_state(row) if row else None


async def increment_version(tx: Transaction, case_id: str, *, internal: bool = False) -> CaseState | None:
    """Give a case its next version, and lock it until the transaction ends; return its state, or None.

    `internal` if customers do not see the change. With locks, one statement locks the case and changes it.
    """
    row = await tx.change_row(INCREMENT_VERSION, {"case_id": case_id, "internal": int(internal)})
    return _to_state(row) if row else None


def _to_state(row: Row, files: int = 0) -> CaseState:
    return CaseState(
        row.at,
        row.created_at,
        row.answered_at,
        row.synthetic,
        row.status,
        row.customer_id,
        row.assigned_agent_id,
        row.team,
        row.version,
        row.internal_changes,
        row.conversation_bytes,
        row.sla_policy,
        row.followers,
        row.snoozed_until,
        row.has_duplicates,
        files,
    )


async def add_case(
    tx: Transaction,
    case: CaseSummary,
    references: Sequence[tuple[str, str]],
    first: Message | None = None,
    due_at: datetime | None = None,
) -> bool:
    """Insert a new case with its references (kind, value), its first message if it has one, and its first due time.

    Return False, without an insert, if its channel has a case with its external id.
    """
    author = first.author_type if first and first.visibility == "public" else None
    first_message_values = {
        "waiting_since": waiting_since_opening(case, first),
        "answered_at": case.created_at if author == "agent" else None,
        "conversation_bytes": message_size(first) if first else 0,
        "sla_due_at": due_at,
    }
    row = column_values(case) | search_values(case) | first_message_values
    if case.external_id is None:
        await tx.execute_later(ADD_CASE, row)
    elif not await add_case_if_new(tx, row):
        return False
    await _add_references(tx, case.id, references)
    if first:
        await _add_message(tx, to_message_row(first, case.version))
    return True


def waiting_since_opening(case: CaseSummary, first: Message | None) -> datetime | None:
    """Return since when the customer of a new case waits: a description is the customer's first message, too."""
    author = first.author_type if first and first.visibility == "public" else None
    is_waiting = author == "customer" or (author != "agent" and case.description)
    return case.created_at if is_waiting else None


def answer_times(
    opened_at: datetime | None, conversation: Iterable[Message | Row]
) -> tuple[datetime | None, datetime | None]:
    """Return when an agent first answered, and since when the customer waits, after messages in the order of time.

    `opened_at` is the time of the case's description, which is a message of the customer too, or None without one.
    """
    answered_at, waiting_since = None, opened_at
    for message in conversation:
        if message.visibility == "internal":
            continue
        if message.author_type == "agent":
            answered_at, waiting_since = answered_at or message.created_at, None
        elif message.author_type == "customer":
            waiting_since = waiting_since or message.created_at
    return answered_at, waiting_since


async def update(tx: Transaction, case: CaseSummary, fields: Iterable[str]) -> None:
    """Update the named fields, the version and `updated_at` of a case that this transaction has locked."""
    changed = set(fields)
    values = {name: value for name, value in column_values(case).items() if name in changed | {"updated_at", "version"}}
    if changed & {"subject", "description", "tags"}:
        values |= search_values(case)
    parameters = {f"new_{name}": value for name, value in values.items()} | {"case_id": case.id}
    await tx.execute_later(_update_columns(frozenset(values)), parameters)


@cache  # one statement for each set of fields: fields of CaseChange, `snoozed_until`, and `followers` alone
def _update_columns(names: frozenset[str]) -> sa.Update:
    """Return the statement that gives columns of a case new values, which are its parameters `new_…`."""
    values = {name: sa.bindparam(f"new_{name}", type_=tickets.c[name].type) for name in sorted(names)}
    return compiled(tickets.update().where(_BY_CASE_ID).values(values))


async def set_followers(tx: Transaction, case_id: str, followers: Sequence[str]) -> None:
    """Replace the followers of a case that this transaction has locked. The case keeps its version."""
    parameters = {"new_followers": list(followers) or None, "case_id": case_id}
    await tx.execute_later(_update_columns(frozenset(["followers"])), parameters)


async def replace_references(tx: Transaction, case_id: str, references: Sequence[tuple[str, str]]) -> None:
    """Replace the references (kind, value) of a case."""
    await tx.execute(ticket_references.delete().where(ticket_references.c.ticket_id == case_id))
    await _add_references(tx, case_id, references)


async def add_message(tx: Transaction, message: Message) -> CaseState | None:
    """Append a message to its case; return the state of the case after it, or None for an unknown case.

    `created_at` of the message becomes later if the case's latest change is not before it. A customer's message without
    an author is the customer's of the case.
    """
    change = CHANGE_CASE_FOR_MESSAGE["internal" if message.visibility == "internal" else message.author_type]
    row = await tx.change_row(change, _message_parameters(message))
    if row is None:
        return None
    message.created_at = row.at
    if message.author_type == "customer":
        message.author_id = message.author_id or row.customer_id
    await _add_message(tx, to_message_row(message, row.version, row.internal_changes))
    return _to_state(row)


async def update_attachment_visibility(tx: Transaction, message: Message) -> bool:
    """Give the attachments that a message names the message's visibility. Return True if one changed.

    An internal note does not hide an attachment that a public message has named. A customer's message does not show an
    internal attachment.
    """
    if message.attachment_uri is None or (message.visibility == "public" and message.author_type == "customer"):
        return False
    statement = SHOW_ATTACHMENT if message.visibility == "public" else HIDE_ATTACHMENT
    named = " ".join(message.attachment_ids) or message.attachment_uri
    return bool(await tx.execute(statement, {"case_id": message.ticket_id, "named": named}))


async def count_last_change_as_public(tx: Transaction, case_id: str) -> None:
    """Count the last internal change of a case that this transaction has locked as one that customers see."""
    await tx.execute(COUNT_LAST_CHANGE_AS_PUBLIC, {"case_id": case_id})


async def lock_cases_with_references(
    tx: Transaction, references: Sequence[tuple[str, str]], after: int, count: int
) -> Sequence[Row]:
    """Lock the unsettled cases with one of the references; return them ordered by seq.

    Rows have seq, id, synthetic, version, internal_changes, and the time of the last change as `latest`. There are at
    most `count`, with a seq greater than `after`.
    """
    named = sa.or_(
        *(sa.and_(ticket_references.c.kind == kind, ticket_references.c.value == value) for kind, value in references)
    )
    # Materialized, so that the references are looked up once: without statistics, as in a new database, PostgreSQL
    # would look them up for each open case.
    matching = sa.select(ticket_references.c.ticket_id).where(named).distinct().cte("matching")
    statement = (
        sa.select(
            tickets.c.seq,
            tickets.c.id,
            IS_SYNTHETIC.label("synthetic"),
            tickets.c.version,
            tickets.c.internal_changes,
            LATEST_CHANGE.label("latest"),
        )
        .join(matching.prefix_with("MATERIALIZED"), matching.c.ticket_id == tickets.c.id)
        .where(tickets.c.status.in_(ACTIVE_STATUSES), tickets.c.seq > after)
        .order_by(tickets.c.seq)
        .limit(count)
        .with_for_update(of=tickets)
    )
    return await tx.fetch_all(statement)


async def add_bot_messages(tx: Transaction, cases: Sequence[Row], messages: Sequence[Message]) -> None:
    """Append a bot message to each of the cases that `lock_cases_with_references` has locked, after its last change.

    The cached snapshots of the cases become outdated.
    """
    if messages:
        await tx.execute(UPDATE_CASE_FOR_BOT_MESSAGE, [_message_parameters(each) for each in messages])
        added = [
            to_message_row(message, case.version + 1, case.internal_changes)
            for case, message in zip(cases, messages, strict=True)
        ]
        await tx.execute(ADD_MESSAGE, added)
        await tx.execute(ADD_DOCUMENT, [_document_parameters(row) for row in added])


async def delete(tx: Transaction, case_ids: Collection[str]) -> None:
    """Delete cases with their conversations, references, links, clocks and search documents."""
    await tx.execute(tickets.delete().where(tickets.c.id.in_(case_ids)))


def to_message_row(message: Message, version: int, internal_changes: int = 0) -> dict[str, Any]:
    """Return the row of a message that gave its case a version, after `internal_changes` that customers do not see."""
    public_version = None if message.visibility == "internal" else version - internal_changes
    return message.__dict__ | {"version": version, "public_version": public_version}


async def _add_message(tx: Transaction, row: dict[str, Any]) -> None:
    """Insert the row of a message, and its words into the search index, after the row of its case was changed."""
    await tx.execute_later(ADD_MESSAGE, row)
    await tx.execute_later(ADD_DOCUMENT, _document_parameters(row))


def _document_parameters(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "case_id": row["ticket_id"],
        "is_internal": row["visibility"] == "internal",
        "document_words": search_text(row["message"]),
    }


async def _add_references(tx: Transaction, case_id: str, references: Sequence[tuple[str, str]]) -> None:
    if references:
        rows = [{"ticket_id": case_id, "kind": kind, "value": value} for kind, value in references]
        await tx.execute_later(ADD_REFERENCE, rows)


def column_values(case: CaseSummary) -> dict[str, Any]:
    """Return the values of a case's fields by their columns."""
    attributes = case.__dict__  # iterating over the model takes three times as long
    return {name: attributes[name] for name in _STORED_FIELDS}


def _message_parameters(message: Message) -> dict[str, Any]:
    """Return the statement parameters by which a message changes its case."""
    return {"case_id": message.ticket_id, "at": message.created_at, "more_bytes": message_size(message)}


def message_size(message: Message) -> int:
    """Return the size counted for a message, in bytes of JSON."""
    text = pydantic_core.to_json(message, by_alias=True, inf_nan_mode="null")
    # Only the metadata can hold numbers.
    return max(MIN_MESSAGE_BYTES, len(text) if message.metadata is None else length_without_exponents(text))


def search_values(case: CaseSummary) -> dict[str, str]:
    """Return the value of the column by which a case is searched."""
    return {"search_text": search_text(case.subject, case.description, case.customer_id, *case.tags)}
