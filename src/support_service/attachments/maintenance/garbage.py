"""Garbage collection: delete bytes that no attachment names any more, as listed in the database, when they are due."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from support_service.attachments import garbage_queries, staged_store
from support_service.attachments.garbage_queries import GarbageEntry
from support_service.attachments.model import FileTotals
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.platform.database import Database
from support_service.platform.database.batches import delete_in_batches

log = logging.getLogger(__name__)
WallClock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class GarbageTimings:
    """Batch size, lease and retry delay of the garbage collection."""

    batch_size: int = 100
    retry_delay: timedelta = timedelta(minutes=1)  # for a storage that can't be reached
    batch_lease: timedelta = timedelta(minutes=5)  # after it, others may take over the batch of a dead run


class GarbageCollector:
    """Deletes due bytes from their storage and from the list. If a run dies at any point, the next one continues."""

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        clock: WallClock = utc_now,
        timings: GarbageTimings = GarbageTimings(),
    ) -> None:
        self._database = database
        self._timings = timings
        self._storages = storages
        self._clock = clock

    async def run(self) -> FileTotals:
        """Delete all bytes that are due, and the rows of expired staged files. Return the number of files and bytes.

        After the first failure of a storage, this run skips all other files on it, because each attempt may take many
        seconds.
        """
        batch = self._timings.batch_size
        await delete_in_batches(self._database, lambda tx: staged_store.delete_expired(tx, self._clock(), batch), batch)
        files = size = 0
        failed_storages: set[str] = set()
        while True:
            at = self._clock()
            async with self._database.transaction() as tx:
                due = await garbage_queries.claim_due_garbage(
                    tx,
                    at,
                    self._timings.batch_size,
                    until=at + self._timings.batch_lease,
                    except_storages=failed_storages,
                )
            if not due:
                return FileTotals(files, size)
            deleted: list[GarbageEntry] = []
            failed: list[GarbageEntry] = []
            untried: list[GarbageEntry] = []
            for entry in due:
                if entry.storage in failed_storages:
                    untried.append(entry)
                elif await self._delete(entry):
                    deleted.append(entry)
                else:
                    failed.append(entry)
                    failed_storages.add(entry.storage)
            async with self._database.transaction() as tx:
                await garbage_queries.delete_garbage_entries(tx, deleted)
                await garbage_queries.postpone_garbage(tx, untried, self._clock() + self._timings.retry_delay)
                # Postpone for longer than the untried files, so that a file that always fails does not block them.
                await garbage_queries.postpone_garbage(tx, failed, self._clock() + 2 * self._timings.retry_delay)
            files += len(deleted)
            size += sum(entry.size for entry in deleted)

    async def _delete(self, entry: GarbageEntry) -> bool:
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
