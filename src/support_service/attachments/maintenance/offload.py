"""Offload: move files from one storage to another. A crash at any point loses no file and leaves no orphan.

1. Claim the file, and put the copy's key on the garbage list before its first byte is written.
2. Copy the file, read the copy back and compare its hash.
3. In one transaction, make the row name the copy and put the old bytes on the garbage list instead.

If a run ends early, other runs take over its files when its claims expire.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Literal

from support_service.attachments import store
from support_service.attachments.maintenance import garbage_queries, offload_queries
from support_service.attachments.maintenance.garbage import Clock
from support_service.attachments.maintenance.throttle import Throttle
from support_service.attachments.model import Attachment, FileTotals, content_disposition
from support_service.attachments.storage.base import AttachmentStorage, ResponseHeaders, new_key, sha256_of
from support_service.core.background import run_in_background
from support_service.core.clock import utc_now
from support_service.core.errors import InsufficientStorage, SupportError, Unavailable
from support_service.core.ids import new_id
from support_service.database import Database
from support_service.telemetry.instruments import Instruments

OFFLOAD_WORKERS = 8
CLAIM_BATCH = 32  # files claimed in one transaction
CLAIM_LEASE = timedelta(minutes=2)  # how long the claims of a dead run block its files
CLAIM_RENEWAL_INTERVAL = 30.0  # seconds between renewals of the claims
UNMOVABLE_RETRY_DELAY = timedelta(hours=1)  # retry delay of a file that could not be moved
# Retry delay of a file at which the target failed: if the file is the cause, the other files are tried first.
TARGET_FAILURE_RETRY_DELAY = timedelta(minutes=5)
# Delay before the old bytes are deleted: a download may have read the row but not opened the file yet.
DELETE_GRACE = timedelta(seconds=10)

OffloadOutcome = Literal["moved", "mismatch", "unreadable", "gone", "failed"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OffloadResult:
    """The outcome for one file; `reason` explains why it was not moved."""

    attachment: Attachment
    outcome: OffloadOutcome
    reason: str = ""


ReportOffload = Callable[[OffloadResult], None]


class Offloader:
    """Moves files from one storage to another. Several processes may run at once and never move the same file."""

    def __init__(
        self,
        database: Database,
        source: AttachmentStorage,
        target: AttachmentStorage,
        instruments: Instruments,
        clock: Clock = utc_now,
        *,
        grace: timedelta = DELETE_GRACE,
    ) -> None:
        self._database = database
        self._source = source
        self._target = target
        self._instruments = instruments
        self._clock = clock
        self._grace = grace

    async def waiting(self, before: datetime, limit: int | None = None) -> FileTotals:
        """Return the number and size of the files to move: unclaimed, created before `before`, at most `limit`."""
        return await offload_queries.movable_totals(self._database, self._source.name, before, self._clock(), limit)

    async def run(
        self,
        before: datetime,
        *,
        limit: int | None = None,
        rate: float | None = None,
        report: ReportOffload = lambda _: None,
    ) -> None:
        """Move at most `limit` files created before `before`, the oldest first, and report each.

        `rate` is the limit in bytes per second. Raises Unavailable if a storage or the database can't be reached, and
        InsufficientStorage if the target is full; files moved before the error stay moved.
        """
        run = _Run(self, before, limit, Throttle(rate), report)
        async with run_in_background(run.hold()):
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(OFFLOAD_WORKERS):
                        workers.create_task(run.work())
            except ExceptionGroup as failures:
                if all(isinstance(failure, SupportError | OSError) for failure in failures.exceptions):
                    raise failures.exceptions[0] from None  # the database is unavailable, or `report` failed to write
                raise
            finally:
                await run.give_back()
        if run.failure is not None:
            raise run.failure

    async def claim(self, before: datetime, mover: str, limit: int) -> list[tuple[Attachment, str]]:
        """Claim at most `limit` files for a run.

        Return each file with the key of its copy, which is already on the garbage list.
        """
        at = self._clock()
        until = at + CLAIM_LEASE
        async with self._database.transaction() as tx:
            claimed = await offload_queries.claim(
                tx, self._source.name, before, at, mover=mover, until=until, limit=limit
            )
            taken = [(attachment, new_key()) for attachment in claimed]
            for attachment, key in taken:
                await store.add_garbage(tx, self._target.name, key, attachment.size_bytes, until, mover=mover)
        return taken

    async def hold(self, mover: str) -> None:
        """Renew the claims of a run."""
        async with self._database.transaction() as tx:
            await offload_queries.renew_claims(tx, mover, self._clock() + CLAIM_LEASE)

    async def give_back(
        self, attachment: Attachment, key: str, mover: str, *, not_for: timedelta | None = None
    ) -> None:
        """Release a claim and make its copy due for deletion. With `not_for`, block new claims for that time."""
        at = self._clock()
        async with self._database.transaction() as tx:
            await offload_queries.make_copy_due(tx, self._target.name, key, at)
            await offload_queries.release_claim(tx, attachment.id, mover, at + not_for if not_for else None)

    async def move(self, attachment: Attachment, key: str, mover: str, pace: Throttle) -> OffloadResult:
        """Move one claimed file.

        Raises Unavailable if a storage can't be reached, InsufficientStorage if the target is full.
        """
        started = perf_counter()
        moved = await self._copy(attachment, key, pace)
        if moved is None and await self._switch(attachment, key, mover):
            moved = OffloadResult(attachment, "moved")
        elif moved is not None and await self._is_current(attachment):
            await self.give_back(attachment, key, mover, not_for=UNMOVABLE_RETRY_DELAY)
        else:
            await self.give_back(attachment, key, mover)
            moved = OffloadResult(attachment, "gone", "it was deleted meanwhile, or another run has taken it over")
        self._record_metrics(moved, perf_counter() - started)
        return moved

    async def _switch(self, attachment: Attachment, key: str, mover: str) -> bool:
        async with self._database.transaction() as tx:
            return await offload_queries.switch_to_copy(
                tx, attachment, self._target.name, key, mover=mover, due_at=self._clock() + self._grace
            )

    async def _is_current(self, attachment: Attachment) -> bool:
        """Return whether the row still names these bytes. The bytes of a deleted attachment may already be gone."""
        current = await garbage_queries.get_by_id(self._database, attachment.id)
        return current is not None and current.storage_key == attachment.storage_key

    async def _copy(self, attachment: Attachment, key: str, pace: Throttle) -> OffloadResult | None:
        """Copy a file and read it back. Return None if both hashes equal the row's, otherwise what went wrong."""
        label = ResponseHeaders(attachment.content_type, content_disposition(attachment.filename))
        blocks = pace.over(self._source.read(attachment.storage_key, 0, attachment.size_bytes))
        try:
            stored = await self._target.put(blocks, key=key, expected=attachment.size_bytes, label=label)
        except Unavailable as failure:
            if failure.code == "attachment_unreadable":
                return OffloadResult(attachment, "unreadable", str(failure))
            raise
        if stored.sha256 != attachment.sha256:
            return OffloadResult(
                attachment, "mismatch", f"its bytes have SHA-256 {stored.sha256}, its row {attachment.sha256}"
            )
        try:
            copied = await sha256_of(self._target, key, attachment.size_bytes)
        except Unavailable as failure:
            if failure.code == "attachment_unreadable":
                return OffloadResult(attachment, "mismatch", f"the copy: {failure}")
            raise
        if copied != attachment.sha256:
            return OffloadResult(attachment, "mismatch", f"its copy reads back with SHA-256 {copied}")
        return None

    def _record_metrics(self, moved: OffloadResult, seconds: float) -> None:
        series = {"to": self._target.name, "outcome": moved.outcome}
        self._instruments.attachment_offloaded.add(1, series)
        self._instruments.attachment_offloaded_bytes.add(moved.attachment.size_bytes, series)
        self._instruments.attachment_offload.record(seconds, {"to": self._target.name})

    def failed(self, attachment: Attachment, reason: str) -> OffloadResult:
        """Count and return the outcome of a file that failed because a storage was unavailable or full."""
        moved = OffloadResult(attachment, "failed", reason)
        series = {"to": self._target.name, "outcome": moved.outcome}
        self._instruments.attachment_offloaded.add(1, series)
        self._instruments.attachment_offloaded_bytes.add(attachment.size_bytes, series)
        return moved


class _Run:
    """Workers that share the claimed files. The first that finds a storage unavailable or full stops all of them."""

    def __init__(
        self, mover: Offloader, before: datetime, limit: int | None, pace: Throttle, report: ReportOffload
    ) -> None:
        self._mover, self._before, self._remaining, self._pace, self._report = mover, before, limit, pace, report
        self._name = new_id()
        self._claimed: deque[tuple[Attachment, str]] = deque()
        self._claim_lock = asyncio.Lock()
        self.failure: SupportError | None = None

    async def work(self) -> None:
        """Move files one at a time until none is left or a worker has failed."""
        while self.failure is None and (taken := await self._next_file()):
            attachment, key = taken
            try:
                self._report(await self._mover.move(attachment, key, self._name, self._pace))
            except (Unavailable, InsufficientStorage) as failure:
                self.failure = failure
                self._report(self._mover.failed(attachment, str(failure)))
                await self._mover.give_back(attachment, key, self._name, not_for=TARGET_FAILURE_RETRY_DELAY)

    async def hold(self) -> None:
        """Renew the claims every HOLD_EVERY seconds while the run lasts."""
        while True:
            await asyncio.sleep(CLAIM_RENEWAL_INTERVAL)
            try:
                await self._mover.hold(self._name)
            except Unavailable:
                log.exception(
                    "The claims of a run could not be kept; it is tried again in %g s", CLAIM_RENEWAL_INTERVAL
                )

    async def give_back(self) -> None:
        """Release the claimed files that no worker has started."""
        with suppress(Unavailable):  # the claims expire without it
            while self._claimed:
                attachment, key = self._claimed.popleft()
                await self._mover.give_back(attachment, key, self._name)

    async def _next_file(self) -> tuple[Attachment, str] | None:
        async with self._claim_lock:
            if not self._claimed:
                limit = CLAIM_BATCH if self._remaining is None else min(CLAIM_BATCH, self._remaining)
                if limit:
                    self._claimed.extend(await self._mover.claim(self._before, self._name, limit))
                if self._remaining is not None:
                    self._remaining -= len(self._claimed)
            return self._claimed.popleft() if self._claimed else None
