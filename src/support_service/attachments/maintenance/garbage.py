"""Garbage collection: delete bytes that no attachment names any more, as listed in the database, when they are due."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from support_service.attachments.maintenance import offload_queries
from support_service.attachments.maintenance.offload_queries import GarbageEntry
from support_service.attachments.model import FileTotals
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.database import Database

GARBAGE_BATCH = 100
RETRY_DELAY = timedelta(minutes=1)  # retry delay for a storage that can't be reached
BATCH_LEASE = timedelta(minutes=5)  # lease of a batch: others may take it over after a run has died

log = logging.getLogger(__name__)
Clock = Callable[[], datetime]


class GarbageCollector:
    """Deletes due bytes from their storage and from the list. If a run dies at any point, the next one continues."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], clock: Clock = utc_now) -> None:
        self._database = database
        self._storages = storages
        self._clock = clock

    async def run(self) -> FileTotals:
        """Delete all bytes that are due. Return the number of files and bytes deleted.

        After the first failure of a storage, this run skips all other files on it, because each attempt may take many
        seconds.
        """
        files = size = 0
        failed_storages: set[str] = set()
        while True:
            at = self._clock()
            async with self._database.transaction() as tx:
                due = await offload_queries.claim_due_garbage(
                    tx, at, GARBAGE_BATCH, until=at + BATCH_LEASE, besides=failed_storages
                )
            if not due:
                return FileTotals(files, size)
            removed: list[GarbageEntry] = []
            failed: list[GarbageEntry] = []
            untried: list[GarbageEntry] = []
            for leftover in due:
                if leftover.storage in failed_storages:
                    untried.append(leftover)
                elif await self._remove(leftover):
                    removed.append(leftover)
                else:
                    failed.append(leftover)
                    failed_storages.add(leftover.storage)
            async with self._database.transaction() as tx:
                await offload_queries.delete_garbage_entries(tx, removed)
                await offload_queries.postpone_garbage(tx, untried, self._clock() + RETRY_DELAY)
                # Postpone for longer than the untried files, so that a file that always fails does not block them.
                await offload_queries.postpone_garbage(tx, failed, self._clock() + 2 * RETRY_DELAY)
            files += len(removed)
            size += sum(leftover.size for leftover in removed)

    async def _remove(self, leftover: GarbageEntry) -> bool:
        storage = self._storages.get(leftover.storage)
        if storage is None:
            log.warning(
                "%s of storage %s waits to be removed: that storage is not set up", leftover.key, leftover.storage
            )
            return False
        try:
            await storage.delete(leftover.key)
        except Unavailable as failure:
            log.warning("%s of storage %s waits to be removed: %s", leftover.key, leftover.storage, failure)
            return False
        return True
