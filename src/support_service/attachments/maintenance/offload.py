"""Offload: move files from one storage to another, several at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from support_service.attachments.garbage import WallClock
from support_service.attachments.maintenance.file_mover import (
    ClaimedFile,
    FileMover,
    OffloadResult,
    Throttle,
    read_movable_totals,
    read_waiting_totals,
)
from support_service.attachments.storage.base import AttachmentStorage
from support_service.cases.model.files import FileTotals
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, Unavailable
from support_service.core.ids import new_id
from support_service.platform.background import run_in_background
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments

# Delay before the old bytes are deleted: a download may have read the row but not opened the file yet.
DELETE_GRACE = timedelta(seconds=10)
log = logging.getLogger(__name__)
ReportOffload = Callable[[OffloadResult], None]

WORKERS = 8
CLAIM_BATCH = 32  # files claimed in one transaction
CLAIM_RENEWAL_INTERVAL = 30.0  # seconds
# Of a file at which the target failed: if the file is the cause, the other files are tried first.
RETRY_AFTER_TARGET_FAILURE = timedelta(minutes=5)


class Offloader:
    """Moves files from one storage to another. Several processes may run at once and never move the same file."""

    def __init__(
        self,
        database: Database,
        source: AttachmentStorage,
        target: AttachmentStorage,
        instruments: Instruments,
        clock: WallClock = utc_now,
        *,
        grace: timedelta | None = None,
    ) -> None:
        self._database, self._source, self._clock = database, source, clock
        self.files = FileMover(database, source, target, instruments, clock, grace=grace or DELETE_GRACE)

    async def pending_totals(self, before: datetime, limit: int | None = None) -> FileTotals:
        """Return the number and size of the files to move: unclaimed, created before `before`, at most `limit`."""
        return await read_movable_totals(self._database, self._source.name, before, self._clock(), limit)

    async def waiting_totals(self, before: datetime) -> FileTotals:
        """Return the number and size of the files that failed in an earlier run, and that are not tried again yet."""
        return await read_waiting_totals(self._database, self._source.name, before, self._clock())

    async def run(
        self,
        before: datetime,
        *,
        limit: int | None = None,
        rate: float | None = None,
        report: ReportOffload = lambda _: None,
    ) -> None:
        """Move at most `limit` files created before `before`, the oldest first, and report each.

        `rate` is the limit in bytes per second. Raises Unavailable if a storage or the database can't be reached, or
        if the target is full. Files moved before the error stay moved.
        """
        run = _OffloadRun(self.files, before, limit, throttle=Throttle(rate), report=report)
        async with run_in_background(run.renew_claims()):
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(WORKERS):
                        workers.create_task(run.work())
            except ExceptionGroup as failures:
                if all(isinstance(failure, SupportError | OSError) for failure in failures.exceptions):
                    raise failures.exceptions[0] from None  # the database is unavailable, or `report` failed to write
                raise
            finally:
                await run.release_unstarted()
        if run.failure is not None:
            raise run.failure


class _OffloadRun:
    """Workers that share the claimed files. The first that finds a storage unavailable or full stops all of them."""

    def __init__(
        self, files: FileMover, before: datetime, limit: int | None, *, throttle: Throttle, report: ReportOffload
    ) -> None:
        self._files, self._before, self._remaining = files, before, limit
        self._throttle, self._report = throttle, report
        self._id = new_id()
        self._claimed: deque[ClaimedFile] = deque()
        self._claim_lock = asyncio.Lock()
        self.failure: SupportError | None = None

    async def work(self) -> None:
        """Move files one at a time until none is left or a worker has failed."""
        while self.failure is None and (claimed := await self._next_file()):
            try:
                self._report(await self._files.move(claimed, self._id, self._throttle))
            except Unavailable as failure:
                self.failure = failure
                self._report(self._files.count_failed(claimed, str(failure)))
                await self._files.release(claimed, self._id, retry_after=RETRY_AFTER_TARGET_FAILURE)

    async def renew_claims(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_RENEWAL_INTERVAL)
            try:
                await self._files.renew_claims(self._id)
            except Unavailable:
                log.exception("Renewing the claims of an offload run failed; retrying in %g s", CLAIM_RENEWAL_INTERVAL)

    async def release_unstarted(self) -> None:
        """Release the claimed files that no worker has started."""
        with suppress(Unavailable):  # otherwise the claims expire
            while self._claimed:
                await self._files.release(self._claimed.popleft(), self._id)

    async def _next_file(self) -> ClaimedFile | None:
        async with self._claim_lock:
            if not self._claimed:
                batch = CLAIM_BATCH
                limit = batch if self._remaining is None else min(batch, self._remaining)
                if limit:
                    self._claimed.extend(await self._files.claim(self._before, self._id, limit))
                if self._remaining is not None:
                    self._remaining -= len(self._claimed)
            return self._claimed.popleft() if self._claimed else None
