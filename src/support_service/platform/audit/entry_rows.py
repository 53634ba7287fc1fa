"""All SQL for the audit log: changes add entries, the sealer assigns positions, and only detached ones are deleted.

Searches across cases are in the order of the times of the changes, because each filter has an index in this order. See
the indexes of the table. `seq` decides between entries of the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.core.units import MAX_INTEGER
from support_service.platform.audit.chain import (
    CASE_ERASED,
    FORMER_ACTION_NAMES,
    GENESIS,
    Action,
    ChainHead,
    StoredAuditEntry,
)
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime, octets
from support_service.platform.database.statements import Direction, compiled, limit_by_bytes, planned_by_values
from support_service.platform.database.tables import audit_head, audit_log, tickets

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of changes read at once, plus the last entry, which may have 1 MiB

_L = audit_log.c
ENTRY_COLUMNS = [_L[name] for name in StoredAuditEntry._fields]
_DETACHED = ("detached_position", "detached_hash")


def select_page(
    condition: sa.ColumnElement[bool] | sa.TextClause, *order: sa.Column[Any], direction: Direction = sa.asc
) -> sa.Select[Any]:
    """Select the first `count` entries that meet a condition, until their changes have at least `bytes` bytes.

    Each row also has the number of entries without the limit of bytes.
    """
    # The column `changes` is read only for the entries within the limit.
    kept = [column for column in ENTRY_COLUMNS if column is not _L.changes]
    size = sa.func.coalesce(octets(_L.changes), sa.literal_column("0")).label("size")
    found = sa.select(*kept, size).where(condition).order_by(*map(direction, order)).limit(sa.bindparam("count"))
    page = limit_by_bytes(found, *(column.name for column in order), direction=direction)
    changes = sa.select(_L.changes).where(_L.seq == page.c.seq).scalar_subquery().label("changes")
    columns = (changes if column is _L.changes else page.c[column.name] for column in ENTRY_COLUMNS)
    return sa.select(*columns, page.c.number).order_by(*(direction(page.c[column.name]) for column in order))


def select_newest(condition: sa.ColumnElement[bool], *order: sa.Column[Any]) -> sa.Select[Any]:
    """Select a page in descending order, and the last detached entry: also if the page has no entry, in one row."""
    page = select_page(condition, *order, direction=sa.desc).subquery()
    one = sa.select(sa.literal_column("1")).subquery()
    detached = (sa.select(audit_head.c[name]).scalar_subquery().label(name) for name in _DETACHED)
    newest = sa.select(*page.c, *detached).select_from(one.outerjoin(page, sa.true()))
    return newest.order_by(*(sa.desc(page.c[column.name]) for column in order))


IS_UNSEALED = sa.text("position IS NULL")  # spelled as in the partial index
INSERT_ENTRY = compiled(audit_log.insert().inline())
_OLDEST_UNSEALED_AT = (
    sa.select(_L.at).where(IS_UNSEALED).order_by(_L.seq).limit(sa.literal_column("1")).scalar_subquery()
)
HEAD_AND_OLDEST_UNSEALED = compiled(
    sa.select(audit_head.c.position, audit_head.c.hash, _OLDEST_UNSEALED_AT.label("oldest"))
)
LOCK_HEAD = compiled(sa.select(audit_head.c.position, audit_head.c.hash).with_for_update())
SELECT_UNSEALED = compiled(select_page(IS_UNSEALED, _L.seq))
SEAL_ENTRY = compiled(
    audit_log.update()
    .where(_L.seq == sa.bindparam("entry"))
    .values({name: sa.bindparam(f"new_{name}", type_=_L[name].type) for name in ("position", "salt", "digest", "hash")})
)
UPDATE_HEAD = compiled(
    audit_head.update().values(
        position=sa.bindparam("new_position"), hash=sa.bindparam("new_hash", type_=audit_head.c.hash.type)
    )
)
POSITIONS_PER_QUERY = 1000
READ_DETACHED = sa.select(*(audit_head.c[name] for name in _DETACHED))
DETACH = audit_head.update().values(
    detached_position=sa.bindparam("new_position"),
    detached_hash=sa.bindparam("new_hash", type_=audit_head.c.detached_hash.type),
)
READ_VERIFIED = sa.select(audit_head.c.verified_position)
STORE_VERIFIED = (
    audit_head.update()
    .where(audit_head.c.verified_position.is_distinct_from(sa.bindparam("new_position", type_=sa.BigInteger)))
    .values(verified_position=sa.bindparam("new_position"))
)
SELECT_FIRST_WITH_CHANGES = sa.select(sa.func.min(_L.position).label("first")).where(
    _L.position.in_(sa.bindparam("positions", expanding=True)), _L.changes.is_not(None)
)
SELECT_ERASURES = sa.select(*ENTRY_COLUMNS).where(
    _L.case_id.in_(sa.bindparam("cases", expanding=True)), _L.action == CASE_ERASED, _L.position.is_not(None)
)
DELETE_BETWEEN = audit_log.delete().where(
    _L.position > sa.bindparam("after", type_=sa.BigInteger), _L.position <= sa.bindparam("last", type_=sa.BigInteger)
)
SELECT_SEALED_AFTER = select_page(_L.position > sa.bindparam("after"), _L.position)
SELECT_ENTRIES_OF_CASE = select_newest(
    sa.and_(_L.case_id == sa.bindparam("case"), _L.seq < sa.bindparam("before", type_=sa.BigInteger)), _L.seq
)
SELECT_STRAY_POSITION = sa.select(_L.position).where(_L.position < sa.literal_column("1")).limit(sa.literal_column("1"))
_HAS_ERASABLE_CHANGES = sa.and_(
    _L.case_id.in_(sa.bindparam("cases", expanding=True)),
    _L.position.is_not(None),
    _L.action != CASE_ERASED,
    _L.changes.is_not(None),
)
SELECT_ERASABLE = sa.select(_L.case_id, _L.position).where(_HAS_ERASABLE_CHANGES).order_by(_L.position)
ERASE_CHANGES = audit_log.update().where(_HAS_ERASABLE_CHANGES).values(changes=sa.null(), salt=sa.null())


async def add_entries(tx: Transaction, entries: Sequence[Mapping[str, Any]]) -> None:
    """Store entries, in the transaction of their changes."""
    await tx.execute_later(INSERT_ENTRY, entries)


async def read_head_and_oldest_unsealed(reader: RowReader) -> tuple[ChainHead, datetime | None]:
    """Return the head, and the time of the oldest unsealed entry. Raises LookupError if the head is lost."""
    row = await reader.fetch_now(HEAD_AND_OLDEST_UNSEALED)
    return _head_of_row(row), row.oldest if row else None


async def lock_head(tx: Transaction) -> ChainHead:
    """Return the head, locked until this transaction ends. Raises LookupError if the head is lost."""
    return _head_of_row(await tx.fetch_now(LOCK_HEAD))


def _head_of_row(row: Row | None) -> ChainHead:
    if row is None:
        raise LookupError("the audit log has lost the row of its head; the migrations make it")
    return ChainHead(row.position, row.hash)


async def read_unsealed(tx: Transaction, count: int, max_bytes: int = MAX_PAGE_BYTES) -> list[StoredAuditEntry]:
    """Return the first `count` unsealed entries, in the order in which they were added."""
    return (await read_entry_page(tx, SELECT_UNSEALED, count=count, bytes=max_bytes))[0]


async def store_seals(tx: Transaction, sealed: Sequence[StoredAuditEntry]) -> None:
    """Store the seals of entries, and move the head to the last of them."""
    names = ("position", "salt", "digest", "hash")
    await tx.execute_later(
        SEAL_ENTRY, [{"entry": each.seq} | {f"new_{name}": getattr(each, name) for name in names} for each in sealed]
    )
    await tx.execute_later(UPDATE_HEAD, {"new_position": sealed[-1].position, "new_hash": sealed[-1].hash})


async def read_sealed(
    reader: RowReader, after: int, count: int, max_bytes: int = MAX_PAGE_BYTES
) -> list[StoredAuditEntry]:
    """Return up to `count` entries after a position, in the order of the chain."""
    return (await read_entry_page(reader, SELECT_SEALED_AFTER, after=after, count=count, bytes=max_bytes))[0]


async def read_detached(reader: RowReader) -> ChainHead:
    """Return the last detached entry as a head: the chain goes on from there. It is the genesis if there is none."""
    row = await reader.fetch_now(READ_DETACHED)
    return _detached_of_row(row) if row else ChainHead(0, GENESIS)


def _detached_of_row(row: Row) -> ChainHead:
    return ChainHead(row.detached_position, row.detached_hash) if row.detached_hash else ChainHead(0, GENESIS)


async def read_verified_position(reader: RowReader) -> int:
    """Return the position up to which the regular verification has come in its pass."""
    row = await reader.fetch_now(READ_VERIFIED)
    return (row.verified_position if row else None) or 0


async def store_verified_position(tx: Transaction, position: int) -> None:
    """Store the position up to which the regular verification has come, unless it is known."""
    await tx.execute(STORE_VERIFIED, {"new_position": position})


async def read_erased_positions(reader: RowReader, cases: Sequence[str]) -> set[int]:
    """Return the positions whose changes were erased according to the entries of cases."""
    rows = await reader.fetch_all(SELECT_ERASURES, {"cases": list(cases)})
    return {position for row in rows for position in _entry_of_row(row).erased_positions()}


async def find_changes(reader: RowReader, positions: Sequence[int]) -> int | None:
    for start in range(0, len(positions), POSITIONS_PER_QUERY):
        chosen = list(positions[start : start + POSITIONS_PER_QUERY])
        (row,) = await reader.fetch_all(SELECT_FIRST_WITH_CHANGES, {"positions": chosen})
        if row.first is not None:
            return int(row.first)
    return None


async def detach(tx: Transaction, head: ChainHead) -> None:
    """Let the chain go on from a head whose row is locked; from now on the entries up to it may be deleted."""
    await tx.execute(DETACH, {"new_position": head.position, "new_hash": head.hash})


async def delete_between(tx: Transaction, after: int, last: int) -> int:
    """Delete detached entries after a position up to a last one; return their number."""
    return await tx.execute(DELETE_BETWEEN, {"after": after, "last": last})


async def find_stray_position(reader: RowReader) -> int | None:
    """Return the position of an entry before the start of the chain, which the sealer never assigns, or None."""
    row = await reader.fetch_now(SELECT_STRAY_POSITION)
    return row.position if row else None


async def erase_changes_of_cases(tx: Transaction, cases: Sequence[str]) -> dict[str, list[int]]:
    """Erase the changes of the sealed entries of cases. Return the erased positions by case."""
    found: dict[str, list[int]] = {}
    for row in await tx.fetch_all(SELECT_ERASABLE, {"cases": list(cases)}):
        found.setdefault(row.case_id, []).append(row.position)
    await tx.execute(ERASE_CHANGES, {"cases": list(cases)})
    return found


class NewestEntries(NamedTuple):
    """A page of entries, newest first, whether there are older ones, and the last detached entry as a head."""

    entries: list[StoredAuditEntry]
    more: bool
    detached: ChainHead


async def read_case_entries(reader: RowReader, case_id: str, before: int | None, limit: int) -> NewestEntries:
    parameters = {"case": case_id, "before": MAX_INTEGER if before is None else before}
    rows = await reader.fetch_all(SELECT_ENTRIES_OF_CASE, parameters | _limits_of_page(limit))
    return _newest_of_rows(rows, limit)


def _limits_of_page(limit: int) -> dict[str, int]:
    return {"count": limit + 1, "bytes": MAX_PAGE_BYTES}


def _newest_of_rows(rows: Sequence[Row], limit: int) -> NewestEntries:
    """Return the page in the rows of a statement of `select_newest`."""
    page = [_entry_of_row(row) for row in rows[:limit] if row.seq is not None]
    return NewestEntries(page, (rows[0].number or 0) > len(page), _detached_of_row(rows[0]))


async def read_entry_page(
    reader: RowReader, statement: sa.Select[Any], **parameters: Any
) -> tuple[list[StoredAuditEntry], int]:
    """Run a statement of `select_page`. Return its entries, and their number without the limit of bytes."""
    rows = await reader.fetch_all(statement, parameters)
    return [_entry_of_row(row) for row in rows], rows[0].number if rows else 0


def _entry_of_row(row: Row) -> StoredAuditEntry:
    return StoredAuditEntry._make(tuple(row)[: len(ENTRY_COLUMNS)])  # type: ignore[arg-type]  # a row is a tuple


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """Which entries to find; `start` is inclusive and `end` exclusive. None does not restrict."""

    actor: str | None = None
    action: Action | None = None
    case_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None


async def find_entries(
    reader: RowReader, filters: AuditFilters, before: tuple[datetime, int] | None, limit: int
) -> tuple[NewestEntries, dict[str, str]]:
    """Return a page of entries, and the subjects of their cases by case id, without deleted cases.

    `before` is time and seq of the last entry of the page before.
    """
    conditions: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in ((_L.actor, filters.actor), (_L.case_id, filters.case_id))
        if value is not None
    ]
    if filters.start is not None:
        conditions.append(_L.at >= filters.start)
    if filters.end is not None:
        conditions.append(_L.at < filters.end)
    # The entries of one case have an index in their own order, and are in the order of their times anyway.
    order = (_L.at, _L.seq) if filters.case_id is None else (_L.seq,)
    if before is not None:
        at, seq = sa.literal(before[0], UtcDateTime()), sa.literal(before[1], sa.BigInteger())
        conditions.append(sa.tuple_(_L.at, _L.seq) < sa.tuple_(at, seq) if filters.case_id is None else _L.seq < seq)
    condition = sa.and_(sa.true(), *conditions)
    if filters.action is not None:
        condition = _with_action(filters.action, condition, order)
    newest = select_newest(condition, *order)
    subject = sa.select(tickets.c.subject).where(tickets.c.id == newest.selected_columns.case_id).scalar_subquery()
    statement = planned_by_values(newest.add_columns(subject.label("subject")))
    rows = await reader.fetch_all(statement, _limits_of_page(limit))
    subjects = {row.case_id: row.subject for row in rows[:limit] if row.subject is not None}
    return _newest_of_rows(rows, limit), subjects


async def count_by_actor(reader: RowReader, since: datetime, count: int) -> Sequence[Row]:
    """Return who made most entries since a time: rows with entries, action, actor, role, and the times of both ends."""
    number = sa.func.count()
    statement = (
        sa.select(
            number.label("entries"),
            _L.action,
            _L.actor,
            _L.role,
            sa.func.min(_L.at).label("first"),
            sa.func.max(_L.at).label("last"),
        )
        .where(_L.at >= sa.bindparam("since", type_=UtcDateTime()))
        .group_by(_L.action, _L.actor, _L.role)
        .order_by(number.desc(), _L.action, _L.actor)
        .limit(sa.bindparam("count"))
    )
    return await reader.fetch_all(statement, {"since": since, "count": count})


def _with_action(
    action: Action, condition: sa.ColumnElement[bool], order: tuple[sa.Column[Any], ...]
) -> sa.ColumnElement[bool]:
    """Restrict a condition to an action, also under its former name: then to the newest entries of each name.

    For `action IN (…)` SQLite would read the whole log in the order of time.
    """
    if action not in FORMER_ACTION_NAMES:
        return sa.and_(_L.action == action, condition)
    count: sa.BindParameter[int] = sa.bindparam("count")
    newest = [
        sa.select(_L.seq).where(_L.action == name, condition).order_by(*map(sa.desc, order)).limit(count).subquery()
        for name in (action, FORMER_ACTION_NAMES[action])
    ]
    return _L.seq.in_(sa.union_all(*(sa.select(each.c.seq) for each in newest)))
