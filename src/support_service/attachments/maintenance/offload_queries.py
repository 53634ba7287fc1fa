"""SQL of moving files between storages."""

from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.garbage import GarbageEntry, add_garbage
from support_service.attachments.model import FileTotals, StoredAttachment
from support_service.attachments.rows import COLUMNS, add_to_ledger, bytes_of, to_attachment
from support_service.platform.database import Reader, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.tables import attachment_leftovers as garbage
from support_service.platform.database.tables import attachments

DELETE_COPY_FROM_GARBAGE = compiled(
    garbage.delete().where(
        garbage.c.storage == sa.bindparam("new_storage"),
        garbage.c.storage_key == sa.bindparam("new_key"),
        garbage.c.mover == sa.bindparam("by"),
        ~garbage.c.removing,
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
) -> list[StoredAttachment]:
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
        .returning(*COLUMNS)
    )
    return [to_attachment(row) for row in await tx.fetch_all(claimed)] if ids else []


async def renew_claims(tx: Transaction, mover: str, until: datetime) -> None:
    """Extend the claims of a run, and its entries on the garbage list, to `until`."""
    # Lock order: the garbage list before the attachments, as in every transaction that changes both. Otherwise two
    # transactions may deadlock.
    await tx.execute(garbage.update().where(garbage.c.mover == mover, ~garbage.c.removing).values(due_at=until))
    await tx.execute(attachments.update().where(attachments.c.mover == mover).values(moving_until=until))


async def release_claim(tx: Transaction, attachment_id: str, mover: str, until: datetime | None = None) -> None:
    """Release the claim of a run on a file. With `until`, no run can claim it before that time."""
    await tx.execute(
        attachments.update()
        .where(attachments.c.id == attachment_id, attachments.c.mover == mover)
        .values(mover=None, moving_until=until)
    )


async def switch_to_copy(
    tx: Transaction, moved: StoredAttachment, storage: str, key: str, *, mover: str, due_at: datetime
) -> bool:
    """Make an attachment name its copy, and put its old bytes on the garbage list, due at `due_at`.

    Return False and leave the attachment unchanged if it was deleted in the meantime, or if the claim or the copy was
    lost.
    """
    copy = {"new_storage": storage, "new_key": key, "by": mover}
    if not await tx.execute(DELETE_COPY_FROM_GARBAGE, copy):
        return False
    if not await tx.execute(SWITCH_TO_COPY, {**copy, "moved": moved.id, "old_key": moved.storage_key}):
        await add_garbage(tx, [GarbageEntry(storage, key, moved.size_bytes)], due_at)
        return False
    await add_garbage(tx, [bytes_of(moved)], due_at)
    for name, sign in sorted([(moved.storage, -1), (storage, 1)]):
        await add_to_ledger(tx, name, sign, sign * moved.size_bytes)
    return True


async def make_copy_due(tx: Transaction, storage: str, key: str, at: datetime) -> None:
    """Make a failed copy due for deletion at `at`."""
    copy = sa.and_(garbage.c.storage == storage, garbage.c.storage_key == key)
    await tx.execute(garbage.update().where(copy, ~garbage.c.removing).values(due_at=at, mover=None))
