"""All SQL of moving bytes between storages and of removing what is left over."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments import store
from support_service.attachments.model import Attachment, Backlog
from support_service.database import Reader, Transaction
from support_service.database.compiled import hot
from support_service.database.tables import attachment_leftovers as leftovers
from support_service.database.tables import attachments

COLUMNS = (leftovers.c.storage, leftovers.c.storage_key, leftovers.c.size_bytes)
TAKE_COPY = hot(
    leftovers.delete().where(
        leftovers.c.storage == sa.bindparam("new_storage"),
        leftovers.c.storage_key == sa.bindparam("new_key"),
        leftovers.c.mover == sa.bindparam("by"),
        ~leftovers.c.removing,
    )
)
SWITCH = hot(
    attachments.update()
    .where(
        attachments.c.id == sa.bindparam("moved"),
        attachments.c.mover == sa.bindparam("by"),
        attachments.c.storage_key == sa.bindparam("old_key"),
    )
    .values(storage=sa.bindparam("new_storage"), storage_key=sa.bindparam("new_key"), mover=None, moving_until=None)
)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Bytes that no attachment names."""

    storage: str
    key: str
    size: int


def _free_to_move(source: str, before: datetime, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        attachments.c.storage == source,
        attachments.c.created_at <= before,
        sa.or_(attachments.c.moving_until.is_(None), attachments.c.moving_until < now),
    )


async def waiting(reader: Reader, source: str, before: datetime, now: datetime, limit: int | None = None) -> Backlog:
    """How much there is to move away from a storage, of the oldest so many."""
    free = sa.select(attachments.c.size_bytes).where(_free_to_move(source, before, now))
    sizes = free.order_by(attachments.c.created_at).limit(limit).subquery()
    row = await reader.fetch_one(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sizes.c.size_bytes), 0)).select_from(sizes)
    )
    assert row is not None  # noqa: S101 - a count has a row
    return Backlog(files=row[0], bytes=int(row[1]))


async def claim(
    tx: Transaction, source: str, before: datetime, now: datetime, *, mover: str, until: datetime, limit: int
) -> list[Attachment]:
    """Take files that nobody moves, the oldest first; no other mover gets them until then."""
    chosen = (
        sa.select(attachments.c.id)
        .where(_free_to_move(source, before, now))
        .order_by(attachments.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row[0] for row in await tx.fetch_all(chosen)]
    claimed = (
        attachments.update()
        .where(attachments.c.id.in_(ids))
        .values(mover=mover, moving_until=until)
        .returning(*store.COLUMNS)
    )
    return [Attachment(*row) for row in await tx.fetch_all(claimed)] if ids else []


async def hold(tx: Transaction, mover: str, until: datetime) -> None:
    """Keep what a run has taken for longer."""
    # Leftovers first, as whatever changes both tables does: the other way round two of them may wait for each other.
    await tx.execute(leftovers.update().where(leftovers.c.mover == mover, ~leftovers.c.removing).values(due_at=until))
    await tx.execute(attachments.update().where(attachments.c.mover == mover).values(moving_until=until))


async def release(tx: Transaction, attachment_id: str, mover: str, until: datetime | None = None) -> None:
    """Give a file back: to everyone, or to nobody until then."""
    await tx.execute(
        attachments.update()
        .where(attachments.c.id == attachment_id, attachments.c.mover == mover)
        .values(mover=None, moving_until=until)
    )


async def switch(tx: Transaction, moved: Attachment, storage: str, key: str, *, mover: str, due_at: datetime) -> bool:
    """Let an attachment name its copy, and list its old bytes as left over.

    False, with nothing changed, where the file was deleted meanwhile, or the claim or the copy were lost.
    """
    copy = {"new_storage": storage, "new_key": key, "by": mover}
    if not await tx.execute(TAKE_COPY, copy):
        return False
    if not await tx.execute(SWITCH, {**copy, "moved": moved.id, "old_key": moved.storage_key}):
        await store.leave(tx, storage, key, moved.size_bytes, due_at)
        return False
    await store.leave(tx, moved.storage, moved.storage_key, moved.size_bytes, due_at)
    for name, sign in sorted([(moved.storage, -1), (storage, 1)]):
        await store.count(tx, name, sign, sign * moved.size_bytes)
    return True


async def drop(tx: Transaction, storage: str, key: str, at: datetime) -> None:
    """Let a copy that failed be removed at once."""
    copy = sa.and_(leftovers.c.storage == storage, leftovers.c.storage_key == key)
    await tx.execute(leftovers.update().where(copy, ~leftovers.c.removing).values(due_at=at, mover=None))


async def take_due(
    tx: Transaction, now: datetime, limit: int, *, until: datetime, besides: Collection[str] = ()
) -> list[Leftover]:
    """Left over bytes that are due, besides those of some storages.

    From here on no row can name them again, and no one else takes them until then.
    """
    due = (
        sa.select(*COLUMNS)
        .where(leftovers.c.due_at <= now, leftovers.c.storage.not_in(besides))
        .order_by(leftovers.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [Leftover(*row) for row in await tx.fetch_all(due)]
    for leftover in found:
        await tx.execute(leftovers.update().where(_is(leftover)).values(removing=True, due_at=until))
    return found


async def forget(tx: Transaction, removed: Sequence[Leftover]) -> None:
    """Take bytes off the list that are removed."""
    for leftover in removed:
        await tx.execute(leftovers.delete().where(_is(leftover)))


async def postpone(tx: Transaction, failed: Sequence[Leftover], until: datetime) -> None:
    """Let bytes wait that could not be removed."""
    for leftover in failed:
        await tx.execute(leftovers.update().where(_is(leftover)).values(due_at=until))


async def left(reader: Reader) -> list[Leftover]:
    """All that is left over."""
    rows = await reader.fetch_all(sa.select(*COLUMNS))
    return [Leftover(*row) for row in rows]


def _is(leftover: Leftover) -> sa.ColumnElement[bool]:
    return sa.and_(leftovers.c.storage == leftover.storage, leftovers.c.storage_key == leftover.key)
