"""SQL of links between cases, and of the conversations of a case's duplicates."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.model.case import CaseLink, CaseSummary
from support_service.cases.model.vocabulary import (
    DUPLICATE_OF,
    INVERSE_KINDS,
    MAX_DUPLICATES,
    MAX_DUPLICATES_BYTES,
    RELATED,
    SPLIT_FROM,
    ShownLinkKind,
    StoredLinkKind,
)
from support_service.cases.sql.case_reading import StoredCase, columns_without_json, json_columns
from support_service.cases.sql.projections import (
    ATTACHMENT_COLUMNS,
    HISTORY_JSON,
    HISTORY_LIMITS,
    LOCKED_CASE_JSON,
    MESSAGE_COLUMNS,
    json_object_of,
)
from support_service.cases.sql.visibility import cases_before, duplicates_of, readable_condition
from support_service.core.domain.case_vocabulary import Status
from support_service.core.domain.principals import CaseOwnership
from support_service.core.ids import is_valid_id, new_id
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import LockNumber, UtcDateTime, json_rows, take_lock, text_literal
from support_service.platform.database.statements import compiled, limit_by_bytes
from support_service.platform.database.tables import attachments, case_links, messages, tickets

LOCK_DIRECTED_LINKS = take_lock(LockNumber.DIRECTED_LINKS)


class StoredLink(NamedTuple):
    """A link as it is stored: `kind` says what `case_id` is to `other_case_id`."""

    id: str
    case_id: str
    kind: StoredLinkKind
    other_case_id: str
    previous_status: Status | None  # of a duplicate: its status before the link closed it; None once it is reopened
    created_at: datetime
    previous_snoozed_until: datetime | None = None

    @classmethod
    def new(cls, case_id: str, kind: ShownLinkKind, other_case_id: str, at: datetime) -> "StoredLink":
        """Return a new link as one of its cases sees it."""
        stored = next((each for each, inverse in INVERSE_KINDS.items() if kind in (each, inverse)), RELATED)
        ends = [case_id, other_case_id]
        if stored == RELATED:  # the same from both sides, so it is stored in one way only
            ends.sort()
        elif kind != stored:
            ends.reverse()
        return cls(new_id(), ends[0], stored, ends[1], None, at)

    def seen_from(self, case_id: str) -> CaseLink:
        """Return the link as one of its cases sees it."""
        first = case_id == self.case_id
        kind = self.kind if first else INVERSE_KINDS.get(self.kind, self.kind)
        other = self.other_case_id if first else self.case_id
        return CaseLink.model_construct(id=self.id, kind=kind, case_id=other, created_at=self.created_at)

    def is_same(self, other: "StoredLink") -> bool:
        """Return whether both links say the same of the same cases."""
        return (self.kind, self.case_id, self.other_case_id) == (other.kind, other.case_id, other.other_case_id)


_L = case_links.c
_COLUMNS = tuple(_L[name] for name in StoredLink._fields)
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
LINK_BY_ID = sa.select(*_COLUMNS).where(_L.id == sa.bindparam("id"))
LINKS_OF_CASES = sa.select(*_COLUMNS).where(sa.or_(_L.case_id.in_(_ids), _L.other_case_id.in_(_ids)))
ADD_LINK = compiled(case_links.insert().inline())
REMOVE_LINK = case_links.delete().where(_L.id == sa.bindparam("link")).returning(*_COLUMNS)
# By seq, as inbound events lock cases: two transactions that lock several cases never wait for each other.
LOCK_CASES = (
    sa.select(LOCKED_CASE_JSON.label("document"))
    .where(tickets.c.id.in_(_ids))
    .order_by(tickets.c.seq)
    .with_for_update()
)
_case_id = sa.bindparam("case_id", type_=sa.String)
_LINKED_CASE_IDS = (
    sa.select(_L.other_case_id).where(_L.case_id.in_(_ids)),
    sa.select(_L.case_id).where(_L.other_case_id.in_(_ids)),
)
_named = tickets.alias("named")
LOCK_WITH_LINKED = (
    sa.select(tickets.c.seq)
    .where(tickets.c.id.in_(sa.union_all(sa.select(_named.c.id).where(_named.c.id.in_(_ids)), *_LINKED_CASE_IDS)))
    .order_by(tickets.c.seq)
    .with_for_update()
)
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
INCREMENT_VERSIONS_OF_LINKED = (
    tickets.update().where(tickets.c.id.in_(sa.union_all(*_LINKED_CASE_IDS))).values(version=tickets.c.version + _ONE)
)
_at = sa.bindparam("at", type_=UtcDateTime())
# What customers don't see changes neither the version nor the time that they see.
_PUBLIC_CHANGE: dict[str, Any] = {"updated_at": _at}
_INTERNAL_CHANGE: dict[str, Any] = {"internal_updated_at": _at, "internal_changes": tickets.c.internal_changes + _ONE}
INCREMENT_VERSIONS = {
    public: tickets.update().where(tickets.c.id == _case_id).values(version=tickets.c.version + _ONE, **changes)
    for public, changes in ((True, _PUBLIC_CHANGE), (False, _INTERNAL_CHANGE))
}


def _path_statement() -> sa.Select[Any]:
    """Return the SELECT of `end`, if links of a kind lead from there to `start`."""
    before = cases_before(sa.bindparam("kind"), sa.bindparam("start"))
    return sa.select(before.c.id).where(before.c.id == sa.bindparam("end")).limit(1)


PATH_TO_START = _path_statement()
OWNER = [tickets.c[name] for name in ("customer_id", "assigned_agent_id", "team")]
# The case that a case is a duplicate of.
ORIGINAL_OF = (
    sa.select(tickets.c.id, tickets.c.status, *OWNER)
    .join(case_links, _L.other_case_id == tickets.c.id)
    .where(_L.case_id == sa.bindparam("duplicate"), _L.kind == text_literal(DUPLICATE_OF))
)
original_id: sa.BindParameter[str] = sa.bindparam("original", type_=sa.String)


async def find(reader: RowReader, link_id: str) -> StoredLink | None:
    """Return a link, or None."""
    row = await reader.fetch_now(LINK_BY_ID, {"id": link_id}) if is_valid_id(link_id) else None
    return StoredLink(**row._asdict()) if row else None


async def find_by_cases(reader: RowReader, case_ids: Collection[str]) -> list[StoredLink]:
    """Return the links that one of the cases has, in no order."""
    return [StoredLink(**row._asdict()) for row in await reader.fetch_all(LINKS_OF_CASES, {"ids": list(case_ids)})]


async def would_close_cycle(reader: RowReader, link: StoredLink) -> bool:
    """Return whether links of the same kind lead from the other case of a new link to its first case."""
    parameters = {"kind": link.kind, "start": link.case_id, "end": link.other_case_id}
    return await reader.fetch_now(PATH_TO_START, parameters) is not None


async def lock_directed_links(tx: Transaction) -> None:
    """Wait until no other transaction adds links that have a direction, and keep others from doing so.

    A cycle may come of two links that have no case in common, so the locks of their cases do not prevent it. Call this
    before cases are locked.
    """
    await tx.fetch_now(LOCK_DIRECTED_LINKS)


async def lock_cases(tx: Transaction, case_ids: Collection[str]) -> dict[str, CaseSummary]:
    """Lock cases until the transaction ends; return the existing cases, without their conversations, by id."""
    rows = await tx.fetch_all(LOCK_CASES, {"ids": [each for each in case_ids if is_valid_id(each)]})
    return {case.id: case for case in (CaseSummary.model_validate_json(row.document) for row in rows)}


async def lock_with_linked_cases(tx: Transaction, case_ids: Collection[str]) -> None:
    """Lock cases and all that are linked with them."""
    if ids := [each for each in case_ids if is_valid_id(each)]:
        await tx.fetch_all(LOCK_WITH_LINKED, {"ids": ids})


async def increment_versions_of_linked_cases(tx: Transaction, case_ids: Collection[str]) -> None:
    """Increment the versions of all cases that are linked with cases, which are deleted now, or were just added."""
    await tx.execute(INCREMENT_VERSIONS_OF_LINKED, {"ids": list(case_ids)})


async def increment_versions(tx: Transaction, case_ids: Collection[str], at: datetime, *, public: bool) -> None:
    """Increment the versions of locked cases; `public` if customers see the change."""
    await tx.execute_later(INCREMENT_VERSIONS[public], [{"case_id": each, "at": at} for each in case_ids])


async def add(tx: Transaction, link: StoredLink) -> None:
    """Insert a link of two cases that this transaction has locked."""
    await tx.execute_later(ADD_LINK, link._asdict())


async def remove(tx: Transaction, link_id: str) -> StoredLink | None:
    """Delete a link and return it, or None if there is none."""
    row = await tx.fetch_now(REMOVE_LINK, {"link": link_id})
    return StoredLink(**row._asdict()) if row else None


async def find_original(reader: RowReader, case_id: str) -> Row | None:
    """Return the id, the status and the owner of the case that a case is a duplicate of, or None."""
    return await reader.fetch_now(ORIGINAL_OF, {"duplicate": case_id})


async def read_owners_of_originals(reader: RowReader, case_id: str) -> list[CaseOwnership]:
    """Return the owners of the cases that a case is a duplicate of, directly or by other duplicates."""
    owners, original = list[CaseOwnership](), await find_original(reader, case_id)
    while original:
        owners.append(CaseOwnership(original.customer_id, original.assigned_agent_id, original.team))
        original = await find_original(reader, original.id)
    return owners


async def read_with_duplicates(
    reader: RowReader, case_id: str, *, public_only: bool, with_history: bool = False
) -> list[StoredCase]:
    """Return a case and its duplicates, oldest first, as staff or customers read them; nothing for an unknown case.

    Duplicates of duplicates are among them. Customers read the duplicates of the same customer only. There are at most
    `MAX_DUPLICATES`, and fewer if their conversations are long: then the case has `more_messages`.
    """
    parameters = {"original": case_id, "limit": MAX_DUPLICATES + 1, "bytes": MAX_DUPLICATES_BYTES}
    rows = await reader.fetch_all(
        _with_duplicates_statement(public_only=public_only, with_history=with_history),
        parameters | (HISTORY_LIMITS if with_history else {}),
    )
    found = [StoredCase(**{name: value for name, value in row._asdict().items() if name != "number"}) for row in rows]
    kept = found[: MAX_DUPLICATES + 1]
    if kept:
        kept[0] = kept[0]._replace(more_messages=rows[0].number >= len(kept))
    return kept


@cache
def _with_duplicates_statement(*, public_only: bool, with_history: bool) -> sa.Select[Any]:
    # Lists of keys: with joins, SQLite reads all cases.
    found = (
        sa.select(tickets.c.seq, tickets.c.conversation_bytes.label("size"))
        .where(tickets.c.id.in_(duplicates_of(original_id, public_only=public_only)))
        .order_by(tickets.c.seq)
        .limit(sa.bindparam("limit"))
    )
    page = sa.select(limit_by_bytes(found, "seq")).cte("page")
    itself = sa.select(tickets.c.seq).where(tickets.c.id == original_id)
    number = sa.select(sa.func.coalesce(sa.func.max(page.c.number), sa.literal_column("0"))).scalar_subquery()
    return (
        sa.select(
            *columns_without_json(public_only=public_only),
            *(part.label(name) for name, part in json_columns(public_only=public_only).items()),
            *([HISTORY_JSON[public_only].label("history")] if with_history else []),
            number.label("number"),
        )
        .where(tickets.c.seq.in_(sa.union_all(itself, sa.select(page.c.seq))))
        .order_by(tickets.c.id != original_id, tickets.c.seq)
    )


class MergedPage(NamedTuple):
    """A part of the conversation of a case and its duplicates, and their files, as JSON.

    `messages` is None if `after` is none of theirs.
    """

    messages: str | None
    more_messages: bool
    attachments: str


async def read_merged_page(
    reader: RowReader, case_id: str, after: str | None, limit: int, *, public_only: bool
) -> MergedPage:
    """Return at most `limit` messages of a case and its duplicates, in the order of time: the first, or those `after`.

    It sorts all their messages, which are limited in bytes for each case.
    """
    bounds = {"original": case_id, "limit": limit, "one_more": limit + 1} | ({"after": after} if after else {})
    (row,) = await reader.fetch_all(_merged_page_statement(public_only=public_only, after=after is not None), bounds)
    return MergedPage(row.messages, bool(row.more), row.attachments)


@cache
def _merged_page_statement(*, public_only: bool, after: bool) -> sa.Select[Any]:
    duplicates = duplicates_of(original_id, public_only=public_only)
    cases = sa.union_all(sa.select(sa.cast(original_id, sa.String).label("id")), duplicates).cte("cases")

    def placed(table: sa.FromClause) -> sa.Select[Any]:
        """Return the SELECT of the messages, or files, that the reader may read, with their place in the order."""
        condition = readable_condition(table, public_only=public_only)
        return sa.select(table.c.created_at, table.c.seq).join(cases, cases.c.id == table.c.ticket_id).where(condition)

    def json_of(
        table: sa.Table, columns: Mapping[str, sa.ColumnElement[Any]], places: sa.FromClause
    ) -> sa.ScalarSelect[Any]:
        """Return the subquery for the rows in these places, as JSON."""
        rows = (
            sa.select(*(column.label(name) for name, column in columns.items()))
            .join(places, places.c.seq == table.c.seq)
            .order_by(table.c.created_at, table.c.seq)
            .subquery()
        )
        members = {name: rows.c[name] for name in columns}
        return sa.select(sa.cast(json_rows(json_object_of(members)), sa.Text)).scalar_subquery()

    following, last = placed(messages), messages.alias("last")
    after_place = placed(last).where(last.c.id == sa.bindparam("after"))
    if after:
        following = following.where(
            sa.tuple_(messages.c.created_at, messages.c.seq) > after_place.limit(1).scalar_subquery()
        )
    places = following.order_by(messages.c.created_at, messages.c.seq).limit(sa.bindparam("one_more")).cte("places")
    page = sa.select(places).order_by(places.c.created_at, places.c.seq).limit(sa.bindparam("limit")).subquery()
    found = json_of(messages, MESSAGE_COLUMNS[public_only], page)
    number = sa.select(sa.func.count()).select_from(places).scalar_subquery()
    return sa.select(
        (sa.case((after_place.exists(), found)) if after else found).label("messages"),
        (number > sa.bindparam("limit")).label("more"),
        json_of(attachments, ATTACHMENT_COLUMNS, placed(attachments).subquery()).label("attachments"),
    )


CASES_SPLIT_FROM = cases_before(text_literal(SPLIT_FROM), sa.bindparam("case_id", type_=sa.String))
"""The `id` of each case that was split from a case, or from a case that was split from it."""
