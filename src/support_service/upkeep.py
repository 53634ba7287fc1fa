"""Maintenance of attachments: the jobs, as the service schedules them and as commands run them one at a time."""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from support_service import database as databases
from support_service.attachments.maintenance.garbage import GarbageCollector, utc_now
from support_service.attachments.maintenance.offload import Offloader, OffloadResult
from support_service.attachments.maintenance.reconcile import Finding, Reconciler
from support_service.attachments.maintenance.retention import RetentionJob
from support_service.attachments.maintenance.scrub import Scrubber, ScrubResult
from support_service.attachments.storage.base import AttachmentStorage
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.core.background import run_every, run_in_background
from support_service.database import Database
from support_service.settings import Settings, WrongSetting
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Observations
from support_service.telemetry.provider import Metrics, build_resource

GARBAGE_COLLECTION_INTERVAL = 30.0  # seconds
OFFLOAD_INTERVAL = 60.0
RECONCILE_INTERVAL = 3600.0
# Seconds from the start to the first run, so that a process that lives for less than an hour also runs it. Random,
# because replicas start together.
FIRST_RECONCILE_DELAY = (60.0, 300.0)

log = logging.getLogger(__name__)


def configured_storages(settings: Settings) -> dict[str, AttachmentStorage]:
    """Return the configured storages by name; new files go to the first."""
    local = LocalAttachmentStorage(settings.attachments.directory, settings.attachments.disk_reserve)
    s3 = settings.s3
    if s3.bucket is None:
        return {"local": local}
    from support_service.attachments.storage.s3 import S3AttachmentStorage

    objects = S3AttachmentStorage(s3.bucket, endpoint=s3.endpoint, region=s3.region)
    if settings.attachments.store == "s3":
        return {"s3": objects, "local": local}
    return {"local": local, "s3": objects}


class AttachmentMaintenance:
    """The maintenance jobs: garbage collection, offload, reconcile, scrub and retention.

    Commands run them one at a time; the service schedules all of them with `by_itself`.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        kept_in: Mapping[str, AttachmentStorage],
        instruments: Instruments,
    ) -> None:
        self._settings = settings
        self._storages = kept_in
        self.database = database
        self.instruments = instruments
        self.remover = GarbageCollector(database, kept_in)
        self.sweep = Reconciler(database, kept_in, self.remover, instruments)
        self.scrubber = Scrubber(database, kept_in, instruments)
        self.retention = RetentionJob(database, instruments, public_url=settings.server.public_url or "")
        instruments.observe(rows.ATTACHMENT_UNREPAIRED, self._unrepaired)

    def mover(self, *, reverse: bool = False) -> Offloader:
        """Return a Offloader from local storage to S3, or back with `reverse`.

        Raises WrongSetting if there is no S3.
        """
        if "s3" not in self._storages:
            raise WrongSetting("There is nowhere to move files to: set SUPPORT_S3_BUCKET")
        names = ("s3", "local") if reverse else ("local", "s3")
        source, target = (self._storages[name] for name in names)
        return Offloader(self.database, source, target, self.instruments, grace=self._settings.s3.grace)

    @asynccontextmanager
    async def by_itself(self) -> AsyncIterator[None]:
        """Run the jobs that the settings enable on their schedules, in the background, while the block runs."""
        async with AsyncExitStack() as stack:
            work = [run_every(GARBAGE_COLLECTION_INTERVAL, self._collect_garbage, "Removing what is left over")]
            first = random.uniform(*FIRST_RECONCILE_DELAY)
            work.append(run_every(RECONCILE_INTERVAL, self._run_hourly_jobs, "The sweep", first=first))
            after = self._settings.s3.offload_after
            if after is not None:
                work.append(run_every(OFFLOAD_INTERVAL, lambda: self._offload(after), "Moving files to S3"))
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
            retention = self._settings.attachments.retention
            if retention is None:
                return
            deleted = await self.retention.run(utc_now() - retention)
            if deleted.files:
                log.info("Retention deleted %d files of %d bytes", deleted.files, deleted.bytes)

        async def sweep() -> None:
            await self.sweep.run(report=report)

        async def scrub() -> None:
            await self.scrubber.run(self._settings.attachments.scrub, _log_mismatch)

        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "Retention": retain,
            "The sweep": sweep,
            "The scrub": scrub,
        }
        for what, part in parts.items():
            try:
                await part()
            except Exception:  # the failure of one job must not stop the others
                log.exception("%s failed; it is tried again in %g s", what, RECONCILE_INTERVAL)

    def _unrepaired(self) -> Observations:
        return [(number, {"kind": kind}) for kind, number in self.sweep.unrepaired().items()]


def _log_mismatch(scrubbed: ScrubResult) -> None:
    if scrubbed.outcome == "mismatch":
        log.error("Attachment %s is not what it was: %s", scrubbed.attachment.id, scrubbed.reason)


@asynccontextmanager
async def open_maintenance(settings: Settings) -> AsyncIterator[AttachmentMaintenance]:
    """Open the database and the storages for one command and yield the jobs. Metrics are sent by OTLP if configured."""
    metrics = Metrics([name for name in settings.telemetry.metrics if name != "prometheus"], build_resource())
    database = databases.connect(settings.database.url, synchronous=settings.database.synchronous, pool_size=4)
    async with AsyncExitStack() as stack:
        stack.callback(metrics.close)
        stack.push_async_callback(database.close)
        await database.open()
        kept_in = configured_storages(settings)
        for storage in kept_in.values():
            stack.push_async_callback(storage.close)
            await storage.open()
        yield AttachmentMaintenance(settings, database, kept_in, Instruments(metrics.meter))
