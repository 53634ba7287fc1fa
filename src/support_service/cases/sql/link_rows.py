"""SQL of links between cases, and of the conversations of a case's duplicates."""

from collections.abc import Collection
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
    LinkKind,
)
from support_service.cases.sql.case_reading import StoredCase, columns_without_json, json_columns
from support_service.cases.sql.projections import (
    HISTORY_JSON,
    HISTORY_LIMITS,
    LOCKED_CASE_JSON,
    access_conditions,
    access_parameters,
)
from support_service.core.domain.case_vocabulary import Status
from support_service.core.domain.principals import Principal
from support_service.core.ids import is_valid_id
from support_service.platform.database import Reader, Transaction
from support_service.platform.database.dialect import UtcDateTime, transaction_lock
from support_service.platform.database.statements import limit_by_bytes
from support_service.platform.database.tables import case_links, tickets

# The number is any that no other lock has.
LOCK_DIRECTED_LINKS = sa.select(transaction_lock(sa.literal_column("7418002")).label("locked"))


class StoredLink(NamedTuple):
    """A link as it is stored: `kind` says what `case_id` is to `other_case_id`."""

    id: str
    case_id: str
    kind: LinkKind
    other_case_id: str
    previous_status: Status | None  # of a duplicate: its status before the link closed it
    created_at: datetime

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
REMOVE_LINK = case_links.delete().where(_L.id == sa.bindparam("link"))
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
    """Return the SELECT of `end`, if links of a kind lead from there to `start`, against their direction."""
    kind = _L.kind == sa.bindparam("kind")
    before = (
        sa.select(_L.case_id.label("id")).where(kind, _L.other_case_id == sa.bindparam("start")).cte(recursive=True)
    )
    # UNION leaves out what was found before, so the search ends.
    before = before.union(sa.select(_L.case_id).where(kind, _L.other_case_id == before.c.id))
    return sa.select(before.c.id).where(before.c.id == sa.bindparam("end")).limit(1)


PATH_TO_START = _path_statement()


async def find(reader: Reader, link_id: str) -> StoredLink | None:
    """Return a link, or None."""
    row = await reader.fetch_one(LINK_BY_ID, {"id": link_id}) if is_valid_id(link_id) else None
    return StoredLink(**row._asdict()) if row else None


async def find_by_cases(reader: Reader, case_ids: Collection[str]) -> list[StoredLink]:
    """Return the links that one of the cases has, in no order."""
    return [StoredLink(**row._asdict()) for row in await reader.fetch_all(LINKS_OF_CASES, {"ids": list(case_ids)})]


async def would_close_cycle(reader: Reader, link: StoredLink) -> bool:
    """Return whether links of the same kind lead from the other case of a new link to its first case."""
    parameters = {"kind": link.kind, "start": link.case_id, "end": link.other_case_id}
    return await reader.fetch_one(PATH_TO_START, parameters) is not None


async def lock_directed_links(tx: Transaction) -> None:
    """Wait until no other transaction adds links that have a direction, and keep others from doing so.

    A cycle may come of two links that have no case in common, so the locks of their cases do not prevent it. Call this
    before cases are locked.
    """
    await tx.fetch_one(LOCK_DIRECTED_LINKS)


async def lock_cases(tx: Transaction, case_ids: Collection[str]) -> dict[str, CaseSummary]:
    """Lock cases until the transaction ends; return the existing cases, without their conversations, by id."""
    rows = await tx.fetch_all(LOCK_CASES, {"ids": [each for each in case_ids if is_valid_id(each)]})
    return {case.id: case for case in (CaseSummary.model_validate_json(row.document) for row in rows)}


async def lock_with_linked_cases(tx: Transaction, case_ids: Collection[str]) -> None:
    """Lock cases and all that are linked with them."""
    if ids := [each for each in case_ids if is_valid_id(each)]:
        await tx.fetch_all(LOCK_WITH_LINKED, {"ids": ids})


async def increment_versions_of_linked_cases(tx: Transaction, case_ids: Collection[str]) -> None:
    """Increment the versions of all cases that are linked with cases, before these are deleted with their links."""
    await tx.execute(INCREMENT_VERSIONS_OF_LINKED, {"ids": list(case_ids)})


async def increment_versions(tx: Transaction, case_ids: Collection[str], at: datetime, *, public: bool) -> None:
    """Increment the versions of locked cases; `public` if customers see the change."""
    await tx.execute(INCREMENT_VERSIONS[public], [{"case_id": each, "at": at} for each in case_ids])


async def add(tx: Transaction, link: StoredLink) -> None:
    """Insert a link of two cases that this transaction has locked."""
    await tx.execute(case_links.insert(), link._asdict())


async def remove(tx: Transaction, link_id: str) -> bool:
    """Delete a link; return False if there is none."""
    return bool(await tx.execute(REMOVE_LINK, {"link": link_id}))


async def read_duplicates(
    reader: Reader, case_id: str, principal: Principal, *, with_history: bool = False
) -> list[StoredCase]:
    """Return the duplicates of a case, oldest case first, without their clocks; the history only if it is wanted.

    Only the duplicates, and of them the messages, files and changes, that the principal may see. There are at most
    `MAX_DUPLICATES`, and fewer if their conversations are long.
    """
    parameters = {"original": case_id, "limit": MAX_DUPLICATES, "bytes": MAX_DUPLICATES_BYTES}
    rows = await reader.fetch_all(
        _duplicates_statement(principal.role, with_history=with_history),
        parameters | access_parameters(principal) | (HISTORY_LIMITS if with_history else {}),
    )
    return [StoredCase(**row._asdict()) for row in rows]


@cache
def _duplicates_statement(role: str, *, with_history: bool) -> sa.Select[Any]:
    public_only = role == "customer"
    found = (
        sa.select(tickets.c.seq, tickets.c.conversation_bytes.label("size"))
        .join(case_links, _L.case_id == tickets.c.id)
        .where(_L.kind == DUPLICATE_OF, _L.other_case_id == sa.bindparam("original"), *access_conditions(role))
        .order_by(tickets.c.seq)
        .limit(sa.bindparam("limit"))
    )
    page = limit_by_bytes(found, "seq")
    return (
        sa.select(
            *columns_without_json(public_only=public_only),
            *(part.label(name) for name, part in json_columns(public_only=public_only).items() if name != "clocks"),
            *([HISTORY_JSON[public_only].label("history")] if with_history else []),
        )
        .where(tickets.c.seq == page.c.seq)
        .order_by(tickets.c.seq)
    )
