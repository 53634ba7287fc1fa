"""SQL of the garbage list: bytes that no attachment names, and when they are to be deleted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.tables import attachment_leftovers as garbage

COLUMNS = (garbage.c.storage, garbage.c.storage_key, garbage.c.size_bytes)
INSERT_GARBAGE = compiled(garbage.insert().inline())
_ENTRY = sa.and_(garbage.c.storage == sa.bindparam("of_storage"), garbage.c.storage_key == sa.bindparam("of_key"))
_CLAIM = garbage.update().where(_ENTRY).values(removing=True, due_at=sa.bindparam("later"))
_POSTPONE = garbage.update().where(_ENTRY).values(due_at=sa.bindparam("later"))
_DELETE = garbage.delete().where(_ENTRY)


@dataclass(frozen=True, slots=True)
class GarbageEntry:
    """An entry of the garbage list: bytes that no attachment names. `size` is in bytes."""

    storage: str
    key: str
    size: int


async def add_garbage(
    tx: Transaction, entries: Sequence[GarbageEntry], due_at: datetime, *, mover: str | None = None
) -> None:
    """Put bytes that no attachment names on the garbage list, to be deleted at `due_at`.

    `mover` is the offload run that still writes these bytes, if any.
    """
    rows = [
        {
            "storage": entry.storage,
            "storage_key": entry.key,
            "size_bytes": entry.size,
            "due_at": due_at,
            "mover": mover,
            "removing": False,
        }
        for entry in entries
    ]
    if rows:
        await tx.execute(INSERT_GARBAGE, rows)


async def take_from_garbage(tx: Transaction, entries: Sequence[GarbageEntry]) -> int:
    """Delete entries from the garbage list because a row names their bytes from now on.

    Return how many were deleted; an entry whose bytes are being deleted stays.
    """
    named = sa.or_(
        *(sa.and_(garbage.c.storage == entry.storage, garbage.c.storage_key == entry.key) for entry in entries)
    )
    return await tx.execute(garbage.delete().where(named, ~garbage.c.removing))


async def claim_due_garbage(
    tx: Transaction, now: datetime, limit: int, *, until: datetime, except_storages: Collection[str] = ()
) -> list[GarbageEntry]:
    """Claim at most `limit` due entries, except those on the storages `except_storages`.

    From now on no row can name these bytes again, and no other process can claim the entries before `until`.
    """
    due = (
        sa.select(*COLUMNS)
        .where(garbage.c.due_at <= now, garbage.c.storage.not_in(except_storages))
        .order_by(garbage.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = [_to_entry(row) for row in await tx.fetch_all(due)]
    await _execute_for_each(tx, _CLAIM, claimed, later=until)
    return claimed


async def delete_garbage_entries(tx: Transaction, deleted: Sequence[GarbageEntry]) -> None:
    """Delete entries from the garbage list after their bytes were deleted."""
    await _execute_for_each(tx, _DELETE, deleted)


async def postpone_garbage(tx: Transaction, failed: Sequence[GarbageEntry], until: datetime) -> None:
    """Postpone entries whose bytes could not be deleted to `until`."""
    await _execute_for_each(tx, _POSTPONE, failed, later=until)


async def list_garbage(reader: Reader) -> list[GarbageEntry]:
    """Return the whole garbage list."""
    return [_to_entry(row) for row in await reader.fetch_all(sa.select(*COLUMNS))]


def _to_entry(row: Row) -> GarbageEntry:
    return GarbageEntry(row.storage, row.storage_key, row.size_bytes)


async def _execute_for_each(
    tx: Transaction, statement: Executable, entries: Sequence[GarbageEntry], **values: datetime
) -> None:
    """Run a statement for each entry, all in one round trip."""
    if entries:
        await tx.execute(statement, [{"of_storage": entry.storage, "of_key": entry.key, **values} for entry in entries])
