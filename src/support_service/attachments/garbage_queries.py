"""SQL of the garbage list: bytes that no attachment names, and when they are to be deleted."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from support_service.database import Reader, Row, Transaction
from support_service.database.compiled import compiled
from support_service.database.tables import attachment_leftovers as garbage

COLUMNS = (garbage.c.storage, garbage.c.storage_key, garbage.c.size_bytes)
INSERT_GARBAGE = compiled(garbage.insert().inline())


@dataclass(frozen=True, slots=True)
class GarbageEntry:
    """An entry of the garbage list: bytes that no attachment names. `size` is in bytes."""

    storage: str
    key: str
    size: int


async def add_garbage(
    tx: Transaction, storage: str, key: str, size: int, due_at: datetime, *, mover: str | None = None
) -> None:
    """Put bytes that no attachment names on the garbage list, to be deleted at `due_at`.

    `size` is in bytes. `mover` is the offload run that still writes these bytes, if any.
    """
    await tx.execute(
        INSERT_GARBAGE,
        {
            "storage": storage,
            "storage_key": key,
            "size_bytes": size,
            "due_at": due_at,
            "mover": mover,
            "removing": False,
        },
    )


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
    for entry in claimed:
        await tx.execute(garbage.update().where(_matches(entry)).values(removing=True, due_at=until))
    return claimed


async def delete_garbage_entries(tx: Transaction, deleted: Sequence[GarbageEntry]) -> None:
    """Delete entries from the garbage list after their bytes were deleted."""
    for entry in deleted:
        await tx.execute(garbage.delete().where(_matches(entry)))


async def postpone_garbage(tx: Transaction, failed: Sequence[GarbageEntry], until: datetime) -> None:
    """Postpone entries whose bytes could not be deleted to `until`."""
    for entry in failed:
        await tx.execute(garbage.update().where(_matches(entry)).values(due_at=until))


async def list_garbage(reader: Reader) -> list[GarbageEntry]:
    """Return the whole garbage list."""
    return [_to_entry(row) for row in await reader.fetch_all(sa.select(*COLUMNS))]


def _to_entry(row: Row) -> GarbageEntry:
    return GarbageEntry(row.storage, row.storage_key, row.size_bytes)


def _matches(entry: GarbageEntry) -> sa.ColumnElement[bool]:
    return sa.and_(garbage.c.storage == entry.storage, garbage.c.storage_key == entry.key)
