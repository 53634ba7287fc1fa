"""Removes bytes that no attachment names any more, once they are due: a list in the database says which."""

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
AGAIN_AFTER = timedelta(minutes=1)  # where a storage is out of reach
TAKEN_FOR = timedelta(minutes=5)  # how long a turn that died keeps others from its batch

log = logging.getLogger(__name__)
Clock = Callable[[], datetime]


def now() -> datetime:
    """The time, as rows have it."""
    return datetime.now(UTC)


class Remover:
    """Takes what is due off the list and off its storage; killed anywhere, the next turn goes on."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], clock: Clock = now) -> None:
        self._database = database
        self._storages = storages
        self._clock = clock

    async def run(self) -> Backlog:
        """Remove all that is due; returns how much that was.

        The first failure of a storage ends the turn for all that lies on it, since each may have taken many seconds.
        """
        files = size = 0
        lost: set[str] = set()
        while True:
            at = self._clock()
            async with self._database.transaction() as tx:
                due = await offload_queries.take_due(tx, at, BATCH, until=at + TAKEN_FOR, besides=lost)
            if not due:
                return Backlog(files, size)
            removed: list[Leftover] = []
            failed: list[Leftover] = []
            untried: list[Leftover] = []
            for leftover in due:
                if leftover.storage in lost:
                    untried.append(leftover)
                elif await self._remove(leftover):
                    removed.append(leftover)
                else:
                    failed.append(leftover)
                    lost.add(leftover.storage)
            async with self._database.transaction() as tx:
                await offload_queries.forget(tx, removed)
                await offload_queries.postpone(tx, untried, self._clock() + AGAIN_AFTER)
                # Behind the others, so that one that is always refused does not keep them from their turn.
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
