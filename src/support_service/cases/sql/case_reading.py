"""The statement that reads a case with its conversation and attachments, as JSON that the database writes.

What decides who may see the case stands in columns beside the JSON. A reader that already has the JSON of a version
names it. The database writes the JSON only if the case is at another version. The history, which only timelines need,
is read by the same statement if it is asked for.
"""

from collections.abc import Collection
from functools import cache
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model.case import Case
from support_service.cases.model.vocabulary import DUPLICATE_OF
from support_service.cases.sql.projections import (
    ATTACHMENTS_JSON,
    CASE_FIELDS_JSON,
    CLOCKS_JSON,
    CUSTOMER_NAME,
    HISTORY_JSON,
    HISTORY_LIMITS,
    MESSAGES_JSON,
    PUBLIC_CASE_FIELDS_JSON,
    PUBLIC_CLOCKS_JSON,
    PUBLIC_VERSION,
)
from support_service.cases.sql.visibility import has_readable_duplicates, readable_condition
from support_service.core.domain.principals import CaseOwnership
from support_service.platform.database import RowReader
from support_service.platform.database.dialect import octets
from support_service.platform.database.shared import VERSION_BASE
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachments, messages, tickets

# Cases of more bytes are neither read nor encoded on the event loop: SQLite needs 3 ms for 1 MiB.
MAX_INLINE_BYTES = 256 * 1024
NO_VERSION = 0  # versions start at 1
_NO_LIMIT = 2**62


class StoredCase(NamedTuple):
    """A case as it is stored: its version, what decides who may see it, and its JSON in three parts.

    The parts are None if the reader has this version already, or if the case is longer than allowed. The messages are
    also None if the case does not have the message from which on they were asked for.
    """

    version: int
    timeline_epoch: int
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    customer_name: str | None  # which changes without the version
    has_duplicates: bool  # that the reader may read with the case
    fields: str | None  # an object with the fields of the case
    messages: str | None  # a list, oldest first
    attachments: str | None  # a list, oldest first; without `uri`
    clocks: str | None = None  # a list of the clocks that the reader may see; see sql/projections.py
    more_messages: bool = False  # the case has messages after the requested ones
    history: str | None = None  # for `model.history.parse_history`; None unless asked for

    def to_objects(self) -> dict[str, Any]:
        """Return the case with its messages as Python objects, without its files."""
        case: dict[str, Any] = pydantic_core.from_json(self.fields or "{}")
        return case | {"messages": pydantic_core.from_json(self.messages or "[]"), "moreMessages": self.more_messages}

    @property
    def merged_into(self) -> str | None:
        """The case that this one was closed as a duplicate of, if the reader may know of it."""
        if self.fields is None or f'"{DUPLICATE_OF}"' not in self.fields:  # most JSON is not parsed
            return None
        case = pydantic_core.from_json(self.fields)
        linked = [link["caseId"] for link in case["links"] if link["kind"] == DUPLICATE_OF]
        return linked[0] if linked and case["status"] == "closed" else None

    @property
    def size(self) -> int:
        """The length of the JSON, approximately in bytes."""
        return sum(len(part) for part in (self.fields, self.messages, self.attachments, self.history) if part)


VERSION_COLUMN = {False: tickets.c.version, True: PUBLIC_VERSION}  # by public_only
OWNER_COLUMNS = (tickets.c.customer_id, tickets.c.assigned_agent_id, tickets.c.team)
_HAS_DUPLICATES = {
    public_only: has_readable_duplicates(sa.bindparam("id", type_=sa.String), public_only=public_only)
    for public_only in (False, True)
}
READ_OWNER = compiled(sa.select(*OWNER_COLUMNS).where(tickets.c.id == sa.bindparam("id")))
READ_CASES_OF_MESSAGES = sa.select(messages.c.id, messages.c.ticket_id).where(
    messages.c.id.in_(sa.bindparam("ids", expanding=True))
)
READ_OWNERS = sa.select(tickets.c.id, *OWNER_COLUMNS).where(tickets.c.id.in_(sa.bindparam("ids", expanding=True)))


def columns_without_json(
    *, public_only: bool, duplicates: sa.ColumnElement[bool] | None = None
) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the columns of a `StoredCase` beside its JSON. `duplicates`: whether it has some, False if not given."""
    version, name = VERSION_COLUMN[public_only].label("version"), CUSTOMER_NAME[public_only].label("customer_name")
    has_duplicates = (sa.false() if duplicates is None else duplicates).label("has_duplicates")
    return version, tickets.c.timeline_epoch, *OWNER_COLUMNS, name, has_duplicates


def json_columns(*, public_only: bool) -> dict[str, sa.ColumnElement[Any]]:
    """Return the parts of a `StoredCase` that staff or customers may read, each as JSON."""
    return {
        "fields": PUBLIC_CASE_FIELDS_JSON if public_only else CASE_FIELDS_JSON,
        "messages": MESSAGES_JSON[public_only](readable_condition(messages, public_only=public_only)),
        "attachments": ATTACHMENTS_JSON(readable_condition(attachments, public_only=public_only)),
        "clocks": sa.cast(PUBLIC_CLOCKS_JSON if public_only else CLOCKS_JSON, sa.Text),
    }


# Bytes that a case needs as JSON, approximately. A message counts for 1 KiB at least, and so does a file.
_NUMBER_OF_FILES = (
    sa.select(sa.func.count())
    .select_from(attachments)
    .where(attachments.c.ticket_id == tickets.c.id)
    .correlate(tickets)
    .scalar_subquery()
)
_JSON_SIZE = (
    tickets.c.conversation_bytes
    + sa.func.coalesce(octets(tickets.c.description), sa.literal_column("0"))
    + octets(sa.cast(tickets.c.context, sa.Text))
    + _NUMBER_OF_FILES * sa.literal_column("1024")
)


def _read_statement(*, public_only: bool, with_history: bool) -> sa.Select[Any]:
    version = VERSION_COLUMN[public_only]
    known: sa.BindParameter[int] = sa.bindparam("known_version")
    is_short = sa.bindparam("max_bytes", type_=sa.BigInteger()) >= _JSON_SIZE
    wanted = sa.and_(version != known, is_short)
    read = [sa.case((wanted, part)).label(name) for name, part in json_columns(public_only=public_only).items()]
    if with_history:  # of a long case with the JSON, which another statement reads
        known_history: sa.BindParameter[int] = sa.bindparam("known_history")
        history_wanted = sa.and_(version != known_history, sa.or_(version == known, is_short))
        history = sa.case((history_wanted, HISTORY_JSON[public_only]))
        read += [sa.false().label("more_messages"), history.label("history")]
    return compiled(
        sa.select(*columns_without_json(public_only=public_only, duplicates=_HAS_DUPLICATES[public_only]), *read).where(
            tickets.c.id == sa.bindparam("id")
        )
    )


READ = {public_only: _read_statement(public_only=public_only, with_history=False) for public_only in (False, True)}
READ_WITH_HISTORY = {
    public_only: _read_statement(public_only=public_only, with_history=True) for public_only in (False, True)
}


@cache
def _page_statement(*, public_only: bool, after: bool) -> sa.Select[Any]:
    last = messages.alias("last")
    after_seq = (
        sa.select(last.c.seq)
        .where(
            last.c.ticket_id == tickets.c.id,
            last.c.id == sa.bindparam("after"),
            readable_condition(last, public_only=public_only),
        )
        .correlate(tickets)
        .scalar_subquery()
    )
    following = readable_condition(messages, public_only=public_only)
    if after:
        following = sa.and_(following, messages.c.seq > after_seq)
    one_more = (
        sa.select(sa.literal_column("1"))
        .select_from(messages)
        .where(messages.c.ticket_id == tickets.c.id, following)
        .correlate(tickets)
        .limit(sa.bindparam("one_more"))
        .subquery()
    )
    more = sa.select(sa.func.count()).select_from(one_more).scalar_subquery() > sa.bindparam("limit")
    page = MESSAGES_JSON[public_only](following, sa.bindparam("limit"))
    read = json_columns(public_only=public_only) | {
        "messages": sa.case((after_seq.is_not(None), page)) if after else page
    }
    return sa.select(
        *columns_without_json(public_only=public_only, duplicates=_HAS_DUPLICATES[public_only]),
        *(part.label(name) for name, part in read.items()),
        more.label("more_messages"),
    ).where(tickets.c.id == sa.bindparam("id"))


async def read_owner(reader: RowReader, case_id: str) -> CaseOwnership | None:
    """Return what decides who may see a case, or None for an unknown case."""
    row = await reader.fetch_now(READ_OWNER, {"id": case_id})
    return CaseOwnership(*row) if row else None  # type: ignore[misc]  # a row is a tuple


async def read_owners(reader: RowReader, case_ids: Collection[str]) -> dict[str, CaseOwnership]:
    """Return what decides who may see each case by its id, without unknown cases."""
    rows = await reader.fetch_all(READ_OWNERS, {"ids": list(case_ids)}) if case_ids else ()
    return {row.id: CaseOwnership(row.customer_id, row.assigned_agent_id, row.team) for row in rows}


async def read_cases_of_messages(reader: RowReader, message_ids: Collection[str]) -> dict[str, str]:
    """Return the id of the case of each message by its id, without unknown messages."""
    rows = await reader.fetch_all(READ_CASES_OF_MESSAGES, {"ids": list(message_ids)})
    return {row.id: row.ticket_id for row in rows}


async def read(
    reader: RowReader,
    case_id: str,
    *,
    public_only: bool = False,
    known_version: int = NO_VERSION,
    known_history: int | None = None,
    any_size: bool = False,
) -> StoredCase | None:
    """Return a case, or None; its JSON only if it is not at `known_version` and has at most `MAX_INLINE_BYTES`.

    `known_history` asks for the history, unless the case is at that version: `NO_VERSION` if no history is known. The
    history of a long case is left out together with its JSON.

    With `any_size` the JSON of a long case is read, too: SQLite reads it in a thread.
    """
    bounds = {"id": case_id, "known_version": known_version, "max_bytes": _NO_LIMIT if any_size else MAX_INLINE_BYTES}
    statement = READ[public_only]
    if known_history is not None:
        statement, bounds = READ_WITH_HISTORY[public_only], bounds | HISTORY_LIMITS | {"known_history": known_history}
    if any_size:
        rows = await reader.fetch_all(statement, bounds)
        row = rows[0] if rows else None
    else:
        row = await reader.fetch_now(statement, bounds)
    return StoredCase(*row) if row else None  # type: ignore[misc]  # a row is a tuple


async def read_page(
    reader: RowReader, case_id: str, after: str | None, limit: int, *, public_only: bool = False
) -> StoredCase | None:
    """Return a case with at most `limit` messages: the first ones, or those after the message with the id `after`.

    Return None for an unknown case. `messages` is None if the case has no message `after`.
    """
    bounds = {"id": case_id, "limit": limit, "one_more": limit + 1} | ({"after": after} if after else {})
    statement = _page_statement(public_only=public_only, after=after is not None)
    rows = await reader.fetch_all(statement, bounds)
    return StoredCase(*rows[0]) if rows else None  # type: ignore[misc]  # a row is a tuple


def to_case(stored: StoredCase) -> Case:
    """Return the model of a case that was read with its JSON."""
    case = Case.model_validate(
        stored.to_objects() | {"attachments": pydantic_core.from_json(stored.attachments or "[]")}
    )
    case.version, case.timeline_epoch = stored.version, stored.timeline_epoch
    case.customer_name = stored.customer_name
    return case


class NewMessages(NamedTuple):
    """The version of a case, and the JSON of its newest messages, oldest first."""

    version: int
    messages: str


def _messages_since_statement(*, public_only: bool) -> sa.Select[Any]:
    found = messages.alias("found")
    made = found.c.public_version if public_only else found.c.version
    newest = (
        sa.select(found.c.seq)
        .where(found.c.ticket_id == sa.bindparam("id"), made > sa.bindparam("since"))
        .order_by(found.c.seq.desc())
        .limit(sa.bindparam("most"))
        .subquery()
    )
    return sa.select(
        (VERSION_COLUMN[public_only] + VERSION_BASE).label("version"),
        MESSAGES_JSON[public_only](messages.c.seq.in_(sa.select(newest.c.seq))).label("messages"),
    ).where(tickets.c.id == sa.bindparam("id"))


_READ_MESSAGES_SINCE = {
    public_only: _messages_since_statement(public_only=public_only) for public_only in (False, True)
}


async def read_messages_since(
    reader: RowReader, case_id: str, version: int, max_messages: int, *, public_only: bool
) -> NewMessages | None:
    """Return at most `max_messages` messages that a case got after a version, or None for an unknown case.

    Messages of earlier releases are left out. With `public_only` the version is one that customers see, and internal
    notes are left out.
    """
    rows = await reader.fetch_all(
        _READ_MESSAGES_SINCE[public_only], {"id": case_id, "since": version, "most": max_messages}
    )
    return NewMessages(rows[0].version, rows[0].messages) if rows else None
