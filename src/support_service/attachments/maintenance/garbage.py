"""Garbage collection: delete bytes that no attachment names any more, as listed in the database, when they are due."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from support_service.attachments.maintenance import offload_queries
from support_service.attachments.maintenance.offload_queries import Leftover
from support_service.attachments.model import Backlog
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.errors import Unavailable
from support_service.database import Database

BATCH = 100
AGAIN_AFTER = timedelta(minutes=1)  # retry delay for a storage that can't be reached
TAKEN_FOR = timedelta(minutes=5)  # lease of a batch: others may take it over after a run has died

log = logging.getLogger(__name__)
Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the current time in UTC, as in the database."""
    return datetime.now(UTC)


class Remover:
    """Deletes due bytes from their storage and from the list. If a run dies at any point, the next one continues."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], clock: Clock = now) -> None:
        self._database = database
        self._storages = storages
        self._clock = clock

    async def run(self) -> Backlog:
        """Delete all bytes that are due. Return the number of files and bytes deleted.

        After the first failure of a storage, this run skips all other files on it, because each attempt may take many
        seconds.
        """
        files = size = 0
        failed_storages: set[str] = set()
        while True:
            at = self._clock()
            async with self._database.transaction() as tx:
                due = await offload_queries.take_due(tx, at, BATCH, until=at + TAKEN_FOR, besides=failed_storages)
            if not due:
                return Backlog(files, size)
            removed: list[Leftover] = []
            failed: list[Leftover] = []
            untried: list[Leftover] = []
            for leftover in due:
                if leftover.storage in failed_storages:
                    untried.append(leftover)
                elif await self._remove(leftover):
                    removed.append(leftover)
                else:
                    failed.append(leftover)
                    failed_storages.add(leftover.storage)
            async with self._database.transaction() as tx:
                await offload_queries.forget(tx, removed)
                await offload_queries.postpone(tx, untried, self._clock() + AGAIN_AFTER)
                # Postpone for longer than the untried files, so that a file that always fails does not block them.
                await offload_queries.postpone(tx, failed, self._clock() + 2 * AGAIN_AFTER)
            files += len(removed)
            size += sum(leftover.size for leftover in removed)

    async def _remove(self, leftover: Leftover) -> bool:
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
