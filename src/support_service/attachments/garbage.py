"""Garbage: bytes that no attachment names. The database lists them, and a job deletes them when they are due."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.attachments.storage.base import AttachmentStorage
from support_service.cases.model.files import FileTotals
from support_service.cases.sql.attachment_rows import GarbageEntry
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.platform.database import Database, RowReader, Transaction
from support_service.platform.database.statements import delete_in_batches
from support_service.platform.database.tables import garbage
from support_service.platform.database.tables import staged_attachments as staged

BATCH_SIZE = 100
LOOKUP_SIZE = 500  # keys per statement
BATCH_LEASE = timedelta(minutes=5)  # after it, others may take over the batch of a dead run
RETRY_DELAY = timedelta(minutes=1)  # for a storage that can't be reached
_IS_ENTRY = sa.and_(garbage.c.storage == sa.bindparam("of_storage"), garbage.c.storage_key == sa.bindparam("of_key"))
_CLAIM = garbage.update().where(_IS_ENTRY).values(removing=True, due_at=sa.bindparam("later"))
_POSTPONE = garbage.update().where(_IS_ENTRY).values(due_at=sa.bindparam("later"))
_DELETE = garbage.delete().where(_IS_ENTRY)
WallClock = Callable[[], datetime]
log = logging.getLogger(__name__)


class CollectedGarbage(NamedTuple):
    """What a run deleted, and how many entries that were due stay because their storage does not delete them now."""

    deleted: FileTotals
    failed: int


class GarbageCollector:
    """Deletes due bytes from their storage and from the list. If a run dies at any point, the next one continues."""

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        clock: WallClock = utc_now,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self._database = database
        self._batch_size = batch_size
        self._storages = storages
        self._clock = clock

    async def run(self) -> CollectedGarbage:
        """Delete all bytes that are due, and the rows of expired staged files.

        After the first failure of a storage, this run skips all other files on it, because each attempt may take many
        seconds. Entries that another process has claimed are not due.
        """
        batch = self._batch_size
        await delete_in_batches(self._database, lambda tx: delete_expired_staged(tx, self._clock(), batch), batch)
        files = size = left = 0
        failed_storages: set[str] = set()
        while True:
            at = self._clock()
            async with self._database.transaction() as tx:
                due = await claim_due_garbage(tx, at, batch, until=at + BATCH_LEASE, except_storages=failed_storages)
            if not due:
                if failed_storages:
                    left += await count_due_garbage(self._database, at, failed_storages)
                return CollectedGarbage(FileTotals(files, size), left)
            deleted: list[GarbageEntry] = []
            failed: list[GarbageEntry] = []
            untried: list[GarbageEntry] = []
            for entry in due:
                if entry.storage in failed_storages:
                    untried.append(entry)
                elif await self._delete_bytes(entry):
                    deleted.append(entry)
                else:
                    failed.append(entry)
                    failed_storages.add(entry.storage)
            async with self._database.transaction() as tx:
                await delete_garbage_entries(tx, deleted)
                await postpone_garbage(tx, untried, self._clock() + RETRY_DELAY)
                # Postpone for longer than the untried files, so that a file that always fails does not block them.
                await postpone_garbage(tx, failed, self._clock() + 2 * RETRY_DELAY)
            files += len(deleted)
            left += len(failed) + len(untried)
            size += sum(entry.size for entry in deleted)

    async def _delete_bytes(self, entry: GarbageEntry) -> bool:
        storage = self._storages.get(entry.storage)
        if storage is None:
            log.warning("Can't delete %s: its storage %s is not configured", entry.key, entry.storage)
            return False
        try:
            await storage.delete(entry.key)
        except Unavailable as failure:
            log.warning("Deleting %s from storage %s failed; retrying later: %s", entry.key, entry.storage, failure)
            return False
        return True


async def claim_due_garbage(
    tx: Transaction, now: datetime, limit: int, *, until: datetime, except_storages: Collection[str] = ()
) -> list[GarbageEntry]:
    """Claim at most `limit` due entries, except those on the storages `except_storages`.

    From now on no row can name these bytes again, and no other process can claim the entries before `until`.
    """
    due = (
        sa.select(garbage.c.storage, garbage.c.storage_key, garbage.c.size_bytes)
        .where(garbage.c.due_at <= now, garbage.c.storage.not_in(except_storages))
        .order_by(garbage.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = [GarbageEntry(row.storage, row.storage_key, row.size_bytes) for row in await tx.fetch_all(due)]
    await _execute_for_each(tx, _CLAIM, claimed, later=until)
    return claimed


async def count_due_garbage(reader: RowReader, now: datetime, storages: Collection[str]) -> int:
    """Return the number of due entries on these storages that no process has claimed."""
    due = sa.select(sa.func.count().label("number")).where(garbage.c.due_at <= now, garbage.c.storage.in_(storages))
    (row,) = await reader.fetch_all(due)
    return int(row.number)


async def find_garbage(reader: RowReader, entries: Collection[GarbageEntry]) -> list[GarbageEntry]:
    """Return those entries that are on the garbage list: their bytes are not deleted yet."""
    by_key, found = {(each.storage, each.key): each for each in entries}, list[GarbageEntry]()
    keys = [key for _, key in by_key]
    for start in range(0, len(keys), LOOKUP_SIZE):
        listed = garbage.c.storage_key.in_(keys[start : start + LOOKUP_SIZE])
        for row in await reader.fetch_all(sa.select(garbage.c.storage, garbage.c.storage_key).where(listed)):
            if entry := by_key.get((row.storage, row.storage_key)):
                found.append(entry)
    return found


async def delete_garbage_entries(tx: Transaction, deleted: Sequence[GarbageEntry]) -> None:
    """Delete entries from the garbage list after their bytes were deleted."""
    await _execute_for_each(tx, _DELETE, deleted)


async def postpone_garbage(tx: Transaction, failed: Sequence[GarbageEntry], until: datetime) -> None:
    """Postpone entries whose bytes could not be deleted to `until`."""
    await _execute_for_each(tx, _POSTPONE, failed, later=until)


async def delete_expired_staged(tx: Transaction, now: datetime, limit: int) -> int:
    """Delete at most `limit` expired rows and return their number. Their bytes are due on the garbage list."""
    expired = (
        sa.select(staged.c.id)
        .where(staged.c.staged_until <= now)
        .order_by(staged.c.staged_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return await tx.execute(staged.delete().where(staged.c.id.in_(expired)))


async def _execute_for_each(
    tx: Transaction, statement: Executable, entries: Sequence[GarbageEntry], **values: datetime
) -> None:
    """Run a statement for each entry, all in one round trip."""
    if entries:
        await tx.execute(statement, [{"of_storage": entry.storage, "of_key": entry.key, **values} for entry in entries])
