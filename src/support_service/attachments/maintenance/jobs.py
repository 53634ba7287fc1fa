"""Maintenance of attachments: the jobs, as the service schedules them and as commands run them one at a time."""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from support_service.attachments.maintenance.garbage import GarbageCollector
from support_service.attachments.maintenance.offload import Offloader, OffloadResult
from support_service.attachments.maintenance.reconcile import Finding, Reconciler
from support_service.attachments.maintenance.retention import RetentionJob
from support_service.attachments.maintenance.scrub import Scrubber, ScrubResult
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.background import run_every, run_in_background
from support_service.core.clock import utc_now
from support_service.database import Database
from support_service.telemetry.instruments import Instruments, Observations
from support_service.telemetry.instruments.attachments import ATTACHMENT_UNREPAIRED

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MaintenanceTimings:
    """Times of the maintenance jobs in seconds."""

    garbage_collection_interval: float = 30.0
    offload_interval: float = 60.0
    reconcile_interval: float = 3600.0
    # From the start to the first run, so that a process that lives for less than an hour also runs it. Random, because
    # replicas start together.
    first_reconcile_delay: tuple[float, float] = (60.0, 300.0)


@dataclass(frozen=True, slots=True)
class MaintenanceOptions:
    """What the maintenance jobs do."""

    public_url: str = ""
    retention: timedelta | None = None  # age at which files of closed cases are deleted; None keeps them
    scrub_share: float = 0.0  # share of the files that each scrub hashes again
    offload_after: timedelta | None = None  # age at which local files are moved to S3; None keeps them
    offload_grace: timedelta = timedelta(0)  # for which a moved file's former copy remains


class AttachmentMaintenance:
    """The maintenance jobs: garbage collection, offload, reconcile, scrub and retention.

    Commands run them one at a time; the service schedules all of them with `by_itself`.
    """

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        instruments: Instruments,
        options: MaintenanceOptions = MaintenanceOptions(),
        timings: MaintenanceTimings = MaintenanceTimings(),
    ) -> None:
        self._options = options
        self._timings = timings
        self._storages = storages
        self.database = database
        self.instruments = instruments
        self.remover = GarbageCollector(database, storages)
        self.sweep = Reconciler(database, storages, self.remover, instruments)
        self.scrubber = Scrubber(database, storages, instruments)
        self.retention = RetentionJob(database, instruments, public_url=options.public_url)
        instruments.observe(ATTACHMENT_UNREPAIRED, self._unrepaired)

    def mover(self, *, reverse: bool = False) -> Offloader:
        """Return an Offloader from local storage to S3, or back with `reverse`. Raises KeyError if there is no S3."""
        names = ("s3", "local") if reverse else ("local", "s3")
        source, target = (self._storages[name] for name in names)
        return Offloader(self.database, source, target, self.instruments, grace=self._options.offload_grace)

    @asynccontextmanager
    async def by_itself(self) -> AsyncIterator[None]:
        """Run the jobs that the settings enable on their schedules, in the background, while the block runs."""
        options, timings = self._options, self._timings
        async with AsyncExitStack() as stack:
            work = [run_every(timings.garbage_collection_interval, self._collect_garbage, "Removing what is left over")]
            first = random.uniform(*timings.first_reconcile_delay)
            work.append(run_every(timings.reconcile_interval, self._run_hourly_jobs, "The sweep", first=first))
            after = options.offload_after
            if after is not None:
                work.append(run_every(timings.offload_interval, lambda: self._offload(after), "Moving files to S3"))
            for each in work:
                await stack.enter_async_context(run_in_background(each))
            yield

    async def _collect_garbage(self) -> None:
        await self.remover.run()

    async def _offload(self, after: timedelta) -> None:
        def report(moved: OffloadResult) -> None:
            if moved.outcome != "moved":
                log.warning("Attachment %s stays: %s", moved.attachment.id, moved.reason or moved.outcome)

        await self.mover().run(utc_now() - after, report=report)

    async def _run_hourly_jobs(self) -> None:
        def report(finding: Finding) -> None:
            log.warning("Sweep: %s %s %s", finding.kind, finding.storage, finding.name)

        async def retain() -> None:
            retention = self._options.retention
            if retention is None:
                return
            deleted = await self.retention.run(utc_now() - retention)
            if deleted.files:
                log.info("Retention deleted %d files of %d bytes", deleted.files, deleted.bytes)

        async def sweep() -> None:
            await self.sweep.run(report=report)

        async def scrub() -> None:
            await self.scrubber.run(self._options.scrub_share, _log_mismatch)

        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "Retention": retain,
            "The sweep": sweep,
            "The scrub": scrub,
        }
        for what, part in parts.items():
            try:
                await part()
            except Exception:  # the failure of one job must not stop the others
                log.exception("%s failed; it is tried again in %g s", what, self._timings.reconcile_interval)

    def _unrepaired(self) -> Observations:
        return [(number, {"kind": kind}) for kind, number in self.sweep.unrepaired().items()]


def _log_mismatch(scrubbed: ScrubResult) -> None:
    if scrubbed.outcome == "mismatch":
        log.error("Attachment %s is not what it was: %s", scrubbed.attachment.id, scrubbed.reason)
