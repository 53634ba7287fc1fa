"""SQL of moving files between storages, and of the garbage list."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments import store
from support_service.attachments.model import Attachment, FileTotals
from support_service.database import Reader, Transaction
from support_service.database.compiled import compiled
from support_service.database.tables import attachment_leftovers as leftovers
from support_service.database.tables import attachments

GARBAGE_COLUMNS = (leftovers.c.storage, leftovers.c.storage_key, leftovers.c.size_bytes)
DELETE_COPY_FROM_GARBAGE = compiled(
    leftovers.delete().where(
        leftovers.c.storage == sa.bindparam("new_storage"),
        leftovers.c.storage_key == sa.bindparam("new_key"),
        leftovers.c.mover == sa.bindparam("by"),
        ~leftovers.c.removing,
    )
)
SWITCH_TO_COPY = compiled(
    attachments.update()
    .where(
        attachments.c.id == sa.bindparam("moved"),
        attachments.c.mover == sa.bindparam("by"),
        attachments.c.storage_key == sa.bindparam("old_key"),
    )
    .values(storage=sa.bindparam("new_storage"), storage_key=sa.bindparam("new_key"), mover=None, moving_until=None)
)


@dataclass(frozen=True, slots=True)
class GarbageEntry:
    """An entry of the garbage list: bytes that no attachment names. `size` is in bytes."""

    storage: str
    key: str
    size: int


def _claimable(source: str, before: datetime, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        attachments.c.storage == source,
        attachments.c.created_at <= before,
        sa.or_(attachments.c.moving_until.is_(None), attachments.c.moving_until < now),
    )


async def movable_totals(
    reader: Reader, source: str, before: datetime, now: datetime, limit: int | None = None
) -> FileTotals:
    """Return the number and size of the files that can be claimed on `source`, counting only the oldest `limit`."""
    free = sa.select(attachments.c.size_bytes).where(_claimable(source, before, now))
    sizes = free.order_by(attachments.c.created_at).limit(limit).subquery()
    row = await reader.fetch_one(
        sa.select(
            sa.func.count().label("files"), sa.func.coalesce(sa.func.sum(sizes.c.size_bytes), 0).label("bytes")
        ).select_from(sizes)
    )
    assert row is not None  # noqa: S101 - a count has a row
    return FileTotals(files=row.files, bytes=int(row.bytes))


async def claim(
    tx: Transaction, source: str, before: datetime, now: datetime, *, mover: str, until: datetime, limit: int
) -> list[Attachment]:
    """Claim at most `limit` unclaimed files, the oldest first. No other run can claim them before `until`."""
    chosen = (
        sa.select(attachments.c.id)
        .where(_claimable(source, before, now))
        .order_by(attachments.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in await tx.fetch_all(chosen)]
    claimed = (
        attachments.update()
        .where(attachments.c.id.in_(ids))
        .values(mover=mover, moving_until=until)
        .returning(*store.COLUMNS)
    )
    return [store.to_attachment(row) for row in await tx.fetch_all(claimed)] if ids else []


async def renew_claims(tx: Transaction, mover: str, until: datetime) -> None:
    """Extend the claims of a run, and its entries on the garbage list, to `until`."""
    # Lock order: the garbage list before the attachments, as in every transaction that changes both. Otherwise two
    # transactions may deadlock.
    await tx.execute(leftovers.update().where(leftovers.c.mover == mover, ~leftovers.c.removing).values(due_at=until))
    await tx.execute(attachments.update().where(attachments.c.mover == mover).values(moving_until=until))


async def release_claim(tx: Transaction, attachment_id: str, mover: str, until: datetime | None = None) -> None:
    """Release the claim of a run on a file. With `until`, no run can claim it before that time."""
    await tx.execute(
        attachments.update()
        .where(attachments.c.id == attachment_id, attachments.c.mover == mover)
        .values(mover=None, moving_until=until)
    )


async def switch_to_copy(
    tx: Transaction, moved: Attachment, storage: str, key: str, *, mover: str, due_at: datetime
) -> bool:
    """Make an attachment name its copy, and put its old bytes on the garbage list, due at `due_at`.

    Return False and leave the attachment unchanged if it was deleted in the meantime, or if the claim or the copy was
    lost.
    """
    copy = {"new_storage": storage, "new_key": key, "by": mover}
    if not await tx.execute(DELETE_COPY_FROM_GARBAGE, copy):
        return False
    if not await tx.execute(SWITCH_TO_COPY, {**copy, "moved": moved.id, "old_key": moved.storage_key}):
        await store.add_garbage(tx, storage, key, moved.size_bytes, due_at)
        return False
    await store.add_garbage(tx, moved.storage, moved.storage_key, moved.size_bytes, due_at)
    for name, sign in sorted([(moved.storage, -1), (storage, 1)]):
        await store.add_to_ledger(tx, name, sign, sign * moved.size_bytes)
    return True


async def make_copy_due(tx: Transaction, storage: str, key: str, at: datetime) -> None:
    """Make a failed copy due for deletion at `at`."""
    copy = sa.and_(leftovers.c.storage == storage, leftovers.c.storage_key == key)
    await tx.execute(leftovers.update().where(copy, ~leftovers.c.removing).values(due_at=at, mover=None))


async def claim_due_garbage(
    tx: Transaction, now: datetime, limit: int, *, until: datetime, besides: Collection[str] = ()
) -> list[GarbageEntry]:
    """Take at most `limit` due entries off the garbage list's queue, except those on the storages `besides`.

    From now on no row can name these bytes again, and no other process can take the entries before `until`.
    """
    due = (
        sa.select(*GARBAGE_COLUMNS)
        .where(leftovers.c.due_at <= now, leftovers.c.storage.not_in(besides))
        .order_by(leftovers.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [GarbageEntry(row.storage, row.storage_key, row.size_bytes) for row in await tx.fetch_all(due)]
    for leftover in found:
        await tx.execute(leftovers.update().where(_matches(leftover)).values(removing=True, due_at=until))
    return found


async def delete_garbage_entries(tx: Transaction, removed: Sequence[GarbageEntry]) -> None:
    """Delete entries from the garbage list after their bytes were deleted."""
    for leftover in removed:
        await tx.execute(leftovers.delete().where(_matches(leftover)))


async def postpone_garbage(tx: Transaction, failed: Sequence[GarbageEntry], until: datetime) -> None:
    """Postpone entries whose bytes could not be deleted to `until`."""
    for leftover in failed:
        await tx.execute(leftovers.update().where(_matches(leftover)).values(due_at=until))


async def list_garbage(reader: Reader) -> list[GarbageEntry]:
    """Return the whole garbage list."""
    rows = await reader.fetch_all(sa.select(*GARBAGE_COLUMNS))
    return [GarbageEntry(row.storage, row.storage_key, row.size_bytes) for row in rows]


def _matches(leftover: GarbageEntry) -> sa.ColumnElement[bool]:
    return sa.and_(leftovers.c.storage == leftover.storage, leftovers.c.storage_key == leftover.key)
