"""SQL of cases, for SQLite and PostgreSQL; each read is one statement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from itertools import accumulate
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model import (
    MAX_PAGE_BYTES,
    MAX_SEARCH_TEXT_BYTES,
    Case,
    CaseQuery,
    Message,
    Ticket,
    search_words,
)
from support_service.cases.vocabulary import length_without_exponents
from support_service.core.case_vocabulary import SYNTHETIC, UNSETTLED
from support_service.core.principals import SYSTEM, Principal
from support_service.database import Reader, Transaction
from support_service.database.compiled import compiled
from support_service.database.dialect import UtcDateTime, json_rows, octets, search_matches
from support_service.database.json_projections import CASE_COLUMNS, json_object_of, json_text
from support_service.database.pages import limit_by_bytes
from support_service.database.tables import attachments, messages, ticket_references, tickets


@dataclass(frozen=True, slots=True)
class TicketPage:
    """A page of (seq, ticket), newest first; `more` says whether older matching tickets follow."""

    tickets: list[tuple[int, Ticket]]
    more: bool


@dataclass(frozen=True, slots=True)
class CaseState:
    """The state of a case after a message was added to it."""

    created_at: datetime
    answered_at: datetime | None
    channel: str
    status: str
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    version: int
    conversation_bytes: int


def _rows_of_ticket(table: sa.Table, columns: dict[str, str]) -> sa.ScalarSelect[Any]:
    """Return a subquery for the JSON array of a ticket's rows in another table, oldest first."""
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


_COLUMNS = CASE_COLUMNS | {"version": tickets.c.version}
TICKET_JSON = json_text(_COLUMNS)
TICKET_BY_ID = sa.select(TICKET_JSON).where(tickets.c.id == sa.bindparam("id"))
CASE_BY_ID = compiled(
    sa.select(
        json_text(
            _COLUMNS
            | {
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
        )
    ).where(tickets.c.id == sa.bindparam("id"))
)
AT_PARAMETER = sa.bindparam("at", type_=UtcDateTime())
_AUTHOR_CHANGES: dict[str, dict[str, Any]] = {
    "customer": {"waiting_since": sa.func.coalesce(tickets.c.waiting_since, AT_PARAMETER)},
    "agent": {"waiting_since": sa.null(), "answered_at": sa.func.coalesce(tickets.c.answered_at, AT_PARAMETER)},
    "bot": {},
    "internal": {},  # an internal note is not an answer: a waiting customer is still waiting
}
_NEXT_VERSION = tickets.c.version + sa.literal_column("1")
_MORE_BYTES = tickets.c.conversation_bytes + sa.bindparam("more_bytes")
UPDATE_CASE_FOR_MESSAGE = {
    author: compiled(
        tickets.update()
        .where(tickets.c.id == sa.bindparam("case_id"))
        .values(updated_at=AT_PARAMETER, version=_NEXT_VERSION, conversation_bytes=_MORE_BYTES, **more)
        .returning(*(tickets.c[field.name] for field in fields(CaseState)))
    )
    for author, more in _AUTHOR_CHANGES.items()
}
# `inline` leaves out the read of the generated row number, which is unused and costs a second cursor.
ADD_TICKET = compiled(tickets.insert().inline())
ADD_MESSAGE = compiled(messages.insert().inline())
ADD_REFERENCE = compiled(ticket_references.insert())
_NAMES_ATTACHMENT = messages.c.attachment_uri.contains(attachments.c.id)  # ids contain no LIKE wildcards
_NAMED_BY_PUBLIC_MESSAGE = sa.exists().where(
    messages.c.ticket_id == attachments.c.ticket_id, messages.c.visibility == "public", _NAMES_ATTACHMENT
)
_ATTACHMENT_NAMED = (
    attachments.c.ticket_id == sa.bindparam("case_id"),
    sa.bindparam("uri", type_=sa.Text()).contains(attachments.c.id),
)
HIDE_ATTACHMENT = (
    attachments.update()
    .where(*_ATTACHMENT_NAMED, attachments.c.visibility == "public", ~_NAMED_BY_PUBLIC_MESSAGE)
    .values(visibility="internal")
)
SHOW_ATTACHMENT = (
    attachments.update().where(*_ATTACHMENT_NAMED, attachments.c.visibility == "internal").values(visibility="public")
)
UPDATE_CASE_FOR_BOT_MESSAGE = compiled(
    tickets.update()
    .where(tickets.c.id == sa.bindparam("case_id"))
    .values(
        updated_at=AT_PARAMETER,
        version=_NEXT_VERSION,
        conversation_bytes=_MORE_BYTES,
        timeline_epoch=tickets.c.timeline_epoch + sa.literal_column("1"),
    )
)
NOT_SYNTHETIC = tickets.c.channel != SYNTHETIC
OPEN_CASES = (
    sa.select(tickets.c.status, tickets.c.priority, sa.func.count())
    .where(tickets.c.status.in_(UNSETTLED), NOT_SYNTHETIC)
    .group_by(tickets.c.status, tickets.c.priority)
)
OLDEST_WAITING = sa.select(sa.func.min(tickets.c.waiting_since)).where(tickets.c.status.in_(UNSETTLED), NOT_SYNTHETIC)
WORKLOAD = (
    sa.select(tickets.c.status, sa.func.count())
    .where(tickets.c.assigned_agent_id == sa.bindparam("agent_id"), NOT_SYNTHETIC)
    .group_by(tickets.c.status)
)


MIN_MESSAGE_BYTES = 1024  # minimum size counted for a message: a shorter one costs each reader as much time
FILTER_COLUMNS = ("status", "customer_id", "assigned_agent_id", "team", "priority", "channel")
# Size in bytes of the columns that may be long.
_SIZE = octets(sa.cast(tickets.c.context, sa.Text)) + sa.func.coalesce(octets(tickets.c.description), 0)
_STORED_FIELDS = [name for name in Ticket.model_fields if name in tickets.c]


async def get(reader: Reader, case_id: str) -> Case | None:
    """Return a case with its conversation and attachments, or None; one statement."""
    row = await reader.fetch_one(CASE_BY_ID, {"id": case_id})
    return Case.model_validate_json(row[0]) if row else None


async def lock(tx: Transaction, case_id: str) -> Ticket | None:
    """Lock a case until the transaction ends; return it without its conversation, or None."""
    row = await tx.fetch_one(TICKET_BY_ID.with_for_update(), {"id": case_id})
    return Ticket.model_validate_json(row[0]) if row else None


async def find(reader: Reader, query: CaseQuery, after: int | None, caller: Principal = SYSTEM) -> TicketPage:
    """Return a page of the tickets that match the query and that the caller sees, older than the seq `after`.

    The page has at most `query.limit` tickets, and ends early when its tickets reach `MAX_PAGE_BYTES` bytes.
    """
    wanted: dict[str, Any] = {name: value for name in FILTER_COLUMNS if (value := getattr(query, name)) is not None}
    if query.q is not None:
        words = search_words(query.q)
        if not words:
            return TicketPage([], more=False)
        wanted["words"] = " ".join(f"{word}*" for word in words)
    if after is not None:
        wanted["after"] = after
    # A missing subject becomes an empty string, which is never an id: it must not match cases without a customer.
    caller_values = {"subject": caller.subject or "", "teams": list(caller.teams)}
    bounds = {"limit": query.limit, "one_more": query.limit + 1, "bytes": MAX_PAGE_BYTES}
    rows = await reader.fetch_all(_page_statement(frozenset(wanted), caller.role), wanted | caller_values | bounds)
    # The database bounds the page by the stored sizes. JSON may write one character of a description as six bytes,
    # and the database could only count those by reading every text, so the JSON is measured here too.
    before = accumulate((len(ticket) for _, ticket, _ in rows), initial=0)
    page = [
        (seq, Ticket.model_validate_json(ticket))
        for (seq, ticket, _), size in zip(rows, before, strict=False)
        if size < MAX_PAGE_BYTES
    ]
    return TicketPage(page, bool(rows) and rows[0][2] > len(page))


async def workload(reader: Reader, agent_id: str) -> dict[str, int]:
    """Return the number of an agent's cases by status; statuses without a case are left out."""
    return dict(tuple(row) for row in await reader.fetch_all(WORKLOAD, {"agent_id": agent_id}))


async def add_case(
    tx: Transaction, ticket: Ticket, references: Sequence[tuple[str, str]], first: Message | None = None
) -> None:
    """Insert a new ticket with its references (kind, value), and its first message if it has one."""
    author = first.author_type if first and first.visibility == "public" else None
    first_message_values = {
        "waiting_since": ticket.created_at if author == "customer" else None,
        "answered_at": ticket.created_at if author == "agent" else None,
        "conversation_bytes": _message_size(first) if first else 0,
    }
    await tx.execute(ADD_TICKET, _column_values(ticket) | _search_values(ticket) | first_message_values)
    await _add_references(tx, ticket.id, references)
    if first:
        await tx.execute(ADD_MESSAGE, first.__dict__)


async def update(tx: Transaction, ticket: Ticket, fields: Iterable[str]) -> None:
    """Update the named fields, the version and `updated_at` of a ticket that this transaction has locked."""
    changed = set(fields)
    values = {
        name: value for name, value in _column_values(ticket).items() if name in changed | {"updated_at", "version"}
    }
    if changed & {"subject", "description"}:
        values |= _search_values(ticket)
    await tx.execute(tickets.update().where(tickets.c.id == ticket.id).values(values))


async def replace_references(tx: Transaction, case_id: str, references: Sequence[tuple[str, str]]) -> None:
    """Replace the references (kind, value) of a case."""
    await tx.execute(ticket_references.delete().where(ticket_references.c.ticket_id == case_id))
    await _add_references(tx, case_id, references)


async def add_message(tx: Transaction, message: Message) -> CaseState | None:
    """Append a message to its case; return the state of the case after it, or None for an unknown case."""
    statement = UPDATE_CASE_FOR_MESSAGE["internal" if message.visibility == "internal" else message.author_type]
    row = await tx.fetch_one(statement, _message_parameters(message))
    if row is None:
        return None
    await tx.execute(ADD_MESSAGE, message.__dict__)
    return CaseState(*row)


async def update_attachment_visibility(tx: Transaction, message: Message) -> bool:
    """Give the attachment that a message names the message's visibility. Return True if it changed.

    An internal note does not hide an attachment that a public message has named. A customer's message does not show an
    internal attachment.
    """
    if message.attachment_uri is None or (message.visibility == "public" and message.author_type == "customer"):
        return False
    statement = SHOW_ATTACHMENT if message.visibility == "public" else HIDE_ATTACHMENT
    return bool(await tx.execute(statement, {"case_id": message.ticket_id, "uri": message.attachment_uri}))


async def lock_cases_with_references(
    tx: Transaction, references: Sequence[tuple[str, str]], after: int, count: int
) -> list[tuple[int, str, str]]:
    """Lock the unsettled cases with one of the references; return their (seq, id, channel), ordered by seq.

    Returns at most `count` cases, with a seq greater than `after`.
    """
    named = sa.or_(
        *(sa.and_(ticket_references.c.kind == kind, ticket_references.c.value == value) for kind, value in references)
    )
    # Materialized, so that the references are looked up once: without statistics, as in a new database, PostgreSQL
    # would look them up for each open case.
    matching = sa.select(ticket_references.c.ticket_id).where(named).distinct().cte("concern")
    statement = (
        sa.select(tickets.c.seq, tickets.c.id, tickets.c.channel)
        .join(matching.prefix_with("MATERIALIZED"), matching.c.ticket_id == tickets.c.id)
        .where(tickets.c.status.in_(UNSETTLED), tickets.c.seq > after)
        .order_by(tickets.c.seq)
        .limit(count)
        .with_for_update(of=tickets)
    )
    return [(row[0], row[1], row[2]) for row in await tx.fetch_all(statement)]


async def add_bot_messages(tx: Transaction, messages: Sequence[Message]) -> None:
    """Append bot messages to cases that this transaction has locked; their cached snapshots become outdated."""
    if messages:
        await tx.execute(UPDATE_CASE_FOR_BOT_MESSAGE, [_message_parameters(each) for each in messages])
        await tx.execute(ADD_MESSAGE, [each.__dict__ for each in messages])


async def delete(tx: Transaction, case_id: str) -> None:
    """Delete a case with its conversation and references."""
    await tx.execute(tickets.delete().where(tickets.c.id == case_id))


async def count_unsettled(reader: Reader) -> tuple[dict[tuple[str, str], int], datetime | None]:
    """Return the number of unsettled cases by (status, priority), and since when the longest waiting customer waits.

    The time is None if no customer waits.
    """
    cases = {(status, priority): number for status, priority, number in await reader.fetch_all(OPEN_CASES)}
    oldest = await reader.fetch_one(OLDEST_WAITING)
    return cases, oldest[0] if oldest else None


async def _add_references(tx: Transaction, case_id: str, references: Sequence[tuple[str, str]]) -> None:
    if references:
        rows = [{"ticket_id": case_id, "kind": kind, "value": value} for kind, value in references]
        await tx.execute(ADD_REFERENCE, rows)


@cache
def _page_statement(wanted: frozenset[str], role: str) -> sa.Select[Any]:
    """Return the statement of a page: (seq, ticket as JSON, number of rows found, at most the limit and one).

    The database writes JSON for the tickets of the page only. The statement is cached for each set of filters, because
    building it takes SQLAlchemy longer than SQLite needs for the page.
    """
    conditions = [tickets.c[name] == sa.bindparam(name) for name in FILTER_COLUMNS if name in wanted]
    if "channel" not in wanted:
        conditions.append(NOT_SYNTHETIC)
    if "words" in wanted:
        words = sa.bindparam("words", type_=sa.Text())
        conditions.append(search_matches(tickets.c.seq, tickets.c.search_text, words))
    if "after" in wanted:
        conditions.append(tickets.c.seq < sa.bindparam("after"))
    found = (
        sa.select(tickets.c.seq, _SIZE.label("size"))
        .where(*conditions, *_access_conditions(role))
        .order_by(tickets.c.seq.desc())
        .limit(sa.bindparam("one_more"))
    )
    page = limit_by_bytes(found, "seq", sa.desc)
    return (
        sa.select(
            page.c.seq, sa.select(TICKET_JSON).where(tickets.c.seq == page.c.seq).scalar_subquery(), page.c.number
        )
        .order_by(page.c.seq.desc())
        .limit(sa.bindparam("limit"))
    )


def _access_conditions(role: str) -> list[sa.ColumnElement[bool]]:
    """Return `Principal.may_see` as SQL conditions; an empty list for roles that see all cases."""
    subject: sa.BindParameter[str] = sa.bindparam("subject")
    if role == "customer":
        return [tickets.c.customer_id == subject]
    if role == "agent":
        of_agent = sa.or_(
            tickets.c.assigned_agent_id == subject,
            sa.and_(tickets.c.assigned_agent_id.is_(None), tickets.c.team.is_(None)),
            tickets.c.team.in_(sa.bindparam("teams", expanding=True)),
        )
        return [of_agent]
    return []


def _column_values(ticket: Ticket) -> dict[str, Any]:
    attributes = ticket.__dict__  # iterating over the model takes three times as long
    return {name: attributes[name] for name in _STORED_FIELDS}


def _message_parameters(message: Message) -> dict[str, Any]:
    """Return the statement parameters by which a message changes its case."""
    return {"case_id": message.ticket_id, "at": message.created_at, "more_bytes": _message_size(message)}


def _message_size(message: Message) -> int:
    return max(
        MIN_MESSAGE_BYTES, length_without_exponents(pydantic_core.to_json(message, by_alias=True, inf_nan_mode="null"))
    )


def _search_values(ticket: Ticket) -> dict[str, str]:
    words = " ".join(search_words(ticket.subject, ticket.description, ticket.customer_id))
    return {"search_text": words.encode()[:MAX_SEARCH_TEXT_BYTES].decode(errors="ignore")}
