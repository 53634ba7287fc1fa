"""FileMover: claim files of one storage, and move each to another.

1. Claim the file, and put the copy's key on the garbage list before its first byte is written.
2. Copy the file, read the copy back and compare its hash.
3. In one transaction, make the row name the copy and put the old bytes on the garbage list instead.

A crash at any point loses no file and leaves no orphan: when the claims of a dead run expire, other runs take over.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Literal, NamedTuple

import sqlalchemy as sa

from support_service.attachments.garbage import WallClock
from support_service.attachments.storage.base import (
    STORAGES,
    AttachmentStorage,
    ResponseHeaders,
    UnreadableFile,
    new_key,
    verify_file,
)
from support_service.cases.model.files import FileTotals, StoredAttachment, content_disposition
from support_service.cases.sql import attachment_rows
from support_service.cases.sql.attachment_rows import (
    ATTACHMENT_COLUMNS,
    GarbageEntry,
    add_garbage,
    add_to_ledger,
    garbage_entry_of,
    to_attachment,
)
from support_service.platform.database import Database, RowReader, Transaction
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachments, garbage
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

CLAIM_LEASE = timedelta(minutes=2)  # how long the claims of a dead run block its files
UNMOVABLE_RETRY_DELAY = timedelta(hours=1)  # of a file that could not be moved
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

OFFLOAD_OUTCOMES = ("moved", "mismatch", "unreadable", "gone", "failed")
ATTACHMENT_OFFLOADED = InstrumentSpec(
    "support.attachment.offloaded",
    "counter",
    "{file}",
    "Attempts to move a file between storages, by outcome; only moved moves the file",
    {"to": STORAGES, "outcome": OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOADED_BYTES = InstrumentSpec(
    "support.attachment.offloaded_bytes",
    "counter",
    "By",
    "Bytes of the moved files",
    {"to": STORAGES, "outcome": OFFLOAD_OUTCOMES},
)
ATTACHMENT_OFFLOAD = InstrumentSpec(
    "support.attachment.offload",
    "histogram",
    "s",
    "Time to copy a file, read it back and update its row",
    {"to": STORAGES},
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)


class ClaimedFile(NamedTuple):
    """A file that a run has claimed, and the key of its copy."""

    attachment: StoredAttachment
    copy_key: str


@dataclass(frozen=True, slots=True)
class OffloadResult:
    """The outcome for one file; `reason` explains why it was not moved."""

    attachment: StoredAttachment
    outcome: Literal["moved", "mismatch", "unreadable", "gone", "failed"]
    reason: str = ""


class Throttle:
    """Bandwidth limit in bytes per second, shared by all streams; None means no limit."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._until = 0.0

    async def limit(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the blocks unchanged, no faster than the limit."""
        loop = asyncio.get_running_loop()
        async for block in blocks:
            if self._rate:
                self._until = max(self._until, loop.time()) + len(block) / self._rate
                await asyncio.sleep(self._until - loop.time())
            yield block


class FileMover:
    """Moves single files from `source` to `target` for runs, which are named by an id."""

    def __init__(
        self,
        database: Database,
        source: AttachmentStorage,
        target: AttachmentStorage,
        instruments: Instruments,
        clock: WallClock,
        *,
        grace: timedelta,
    ) -> None:
        self._database = database
        self._source = source
        self._target = target
        self._instruments = instruments
        self._clock = clock
        self._grace = grace

    async def claim(self, before: datetime, run_id: str, limit: int) -> list[ClaimedFile]:
        """Claim at most `limit` files for a run. The copy of each is already on the garbage list."""
        at = self._clock()
        until = at + CLAIM_LEASE
        async with self._database.transaction() as tx:
            attachments = await claim_files(tx, self._source.name, before, at, mover=run_id, until=until, limit=limit)
            claimed = [ClaimedFile(attachment, new_key()) for attachment in attachments]
            copies = [GarbageEntry(self._target.name, key, attachment.size_bytes) for attachment, key in claimed]
            await add_garbage(tx, copies, until, mover=run_id)
        return claimed

    async def renew_claims(self, run_id: str) -> None:
        """Renew the claims of a run."""
        async with self._database.transaction() as tx:
            await renew_claims(tx, run_id, self._clock() + CLAIM_LEASE)

    async def release(self, claimed: ClaimedFile, run_id: str, *, retry_after: timedelta | None = None) -> None:
        """Release a claim and make its copy due for deletion. With `retry_after`, block new claims for that time."""
        at = self._clock()
        async with self._database.transaction() as tx:
            await make_copy_due(tx, self._target.name, claimed.copy_key, at)
            until = at + retry_after if retry_after else None
            await release_claim(tx, claimed.attachment.id, run_id, until)

    async def move(self, claimed: ClaimedFile, run_id: str, throttle: Throttle) -> OffloadResult:
        """Move one claimed file.

        Raises Unavailable if a storage can't be reached, or if the target is full.
        """
        started = perf_counter()
        attachment = claimed.attachment
        result = await self._copy(claimed, throttle)
        if result is None and await self._switch_row_to_copy(claimed, run_id):
            result = OffloadResult(attachment, "moved")
        elif result is not None and await attachment_rows.is_current(
            self._database, attachment.id, attachment.storage_key
        ):
            await self.release(claimed, run_id, retry_after=UNMOVABLE_RETRY_DELAY)
        else:
            await self.release(claimed, run_id)
            result = OffloadResult(attachment, "gone", "it was deleted, or another run has taken it over")
        self._count(result)
        self._instruments.record(ATTACHMENT_OFFLOAD, perf_counter() - started, {"to": self._target.name})
        return result

    def count_failed(self, claimed: ClaimedFile, reason: str) -> OffloadResult:
        """Count and return the outcome of a file that failed because a storage was unavailable or full."""
        result = OffloadResult(claimed.attachment, "failed", reason)
        self._count(result)
        return result

    async def _switch_row_to_copy(self, claimed: ClaimedFile, run_id: str) -> bool:
        async with self._database.transaction() as tx:
            return await switch_to_copy(
                tx,
                claimed.attachment,
                self._target.name,
                claimed.copy_key,
                mover=run_id,
                due_at=self._clock() + self._grace,
            )

    async def _copy(self, claimed: ClaimedFile, throttle: Throttle) -> OffloadResult | None:
        """Copy a file and read it back. Return None if both hashes equal the row's, otherwise what went wrong."""
        attachment, key = claimed
        response_headers = ResponseHeaders(attachment.content_type, content_disposition(attachment.filename))
        source = self._source.read(attachment.storage_key, 0, attachment.size_bytes, size=attachment.size_bytes)
        try:
            stored = await self._target.put(
                throttle.limit(source), key=key, size_hint=attachment.size_bytes, response_headers=response_headers
            )
        except UnreadableFile as failure:
            return OffloadResult(attachment, "unreadable", str(failure))
        if stored.sha256 != attachment.sha256:
            return OffloadResult(
                attachment, "mismatch", f"its bytes have SHA-256 {stored.sha256}, its row {attachment.sha256}"
            )
        try:
            await verify_file(self._target, key, attachment.size_bytes, attachment.sha256)
        except UnreadableFile as failure:
            return OffloadResult(attachment, "mismatch", f"the copy: {failure}")
        return None

    def _count(self, result: OffloadResult) -> None:
        series = {"to": self._target.name, "outcome": result.outcome}
        self._instruments.add(ATTACHMENT_OFFLOADED, 1, series)
        self._instruments.add(ATTACHMENT_OFFLOADED_BYTES, result.attachment.size_bytes, series)


async def read_movable_totals(
    reader: RowReader, source: str, before: datetime, now: datetime, limit: int | None = None
) -> FileTotals:
    """Return the number and size of the files that can be claimed on `source`, counting only the oldest `limit`."""
    free = sa.select(attachments.c.size_bytes).where(_is_claimable(source, before, now))
    return await _read_totals(reader, free.order_by(attachments.c.created_at).limit(limit))


async def read_waiting_totals(reader: RowReader, source: str, before: datetime, now: datetime) -> FileTotals:
    """Return the number and size of the files on `source` that failed, and that no run tries again yet."""
    failed = sa.and_(attachments.c.mover.is_(None), attachments.c.moving_until >= now)
    old = sa.and_(attachments.c.storage == source, attachments.c.created_at <= before)
    return await _read_totals(reader, sa.select(attachments.c.size_bytes).where(old, failed))


async def _read_totals(reader: RowReader, statement: sa.Select[int]) -> FileTotals:
    sizes = statement.subquery()
    row = await reader.fetch_now(
        sa.select(
            sa.func.count().label("files"), sa.func.coalesce(sa.func.sum(sizes.c.size_bytes), 0).label("bytes")
        ).select_from(sizes)
    )
    assert row is not None  # noqa: S101 - a count has a row
    return FileTotals(files=row.files, bytes=int(row.bytes))


async def claim_files(
    tx: Transaction, source: str, before: datetime, now: datetime, *, mover: str, until: datetime, limit: int
) -> list[StoredAttachment]:
    """Claim at most `limit` unclaimed files, the oldest first. No other run can claim them before `until`."""
    chosen = (
        sa.select(attachments.c.id)
        .where(_is_claimable(source, before, now))
        .order_by(attachments.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in await tx.fetch_all(chosen)]
    claimed = (
        attachments.update()
        .where(attachments.c.id.in_(ids))
        .values(mover=mover, moving_until=until)
        .returning(*ATTACHMENT_COLUMNS)
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
    await add_garbage(tx, [garbage_entry_of(moved)], due_at)
    for name, sign in sorted([(moved.storage, -1), (storage, 1)]):
        await add_to_ledger(tx, name, sign, sign * moved.size_bytes)
    return True


async def make_copy_due(tx: Transaction, storage: str, key: str, at: datetime) -> None:
    """Make a failed copy due for deletion at `at`."""
    copy = sa.and_(garbage.c.storage == storage, garbage.c.storage_key == key)
    await tx.execute(garbage.update().where(copy, ~garbage.c.removing).values(due_at=at, mover=None))


def _is_claimable(source: str, before: datetime, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        attachments.c.storage == source,
        attachments.c.created_at <= before,
        sa.or_(attachments.c.moving_until.is_(None), attachments.c.moving_until < now),
    )
