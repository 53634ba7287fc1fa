"""Maintenance of attachments: the jobs, as the service schedules them and as commands run them one at a time."""

import logging
import random
from collections.abc import Mapping
from datetime import timedelta

from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.maintenance.file_mover import OffloadResult
from support_service.attachments.maintenance.offload import Offloader
from support_service.attachments.maintenance.reconcile import ATTACHMENT_UNREPAIRED, Finding, Reconciler
from support_service.attachments.maintenance.retention import RetentionJob
from support_service.attachments.maintenance.scrub import Scrubber, ScrubResult
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.clock import utc_now
from support_service.platform.background import Job
from support_service.platform.database import Database
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments, Observations
from support_service.platform.unit_of_work import SYSTEM_ORIGIN

log = logging.getLogger(__name__)

GARBAGE_COLLECTION_INTERVAL = 30.0  # these times are in seconds
OFFLOAD_INTERVAL = 60.0
RECONCILE_INTERVAL = 3600.0
# From the start to the first run, so that a process that lives for less than an hour also runs it. Random, because
# replicas start together.
FIRST_RECONCILE_DELAY = (60.0, 300.0)


class AttachmentMaintenance:
    """The maintenance jobs: garbage collection, offload, reconcile, scrub and retention.

    Commands run them one at a time; the service runs all of them: see `jobs`.
    """

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        instruments: Instruments,
        settings: Settings,
    ) -> None:
        self._settings = settings
        self.storages = storages
        self.database = database
        self.instruments = instruments
        self.garbage_collector = GarbageCollector(database, storages)
        self.reconciler = Reconciler(database, storages, self.garbage_collector, instruments)
        self.scrubber = Scrubber(database, storages, instruments)
        self.retention = RetentionJob(database, instruments, public_url=settings.server.url_prefix)
        instruments.observe(ATTACHMENT_UNREPAIRED, self._observe_unrepaired)

    def offloader(self) -> Offloader:
        """Return an Offloader from local storage to S3. Raises KeyError if there is no S3."""
        return Offloader(self.database, self.storages["local"], self.storages["s3"], self.instruments)

    def jobs(self) -> list[Job]:
        """Return the jobs that the settings enable."""
        first = random.uniform(*FIRST_RECONCILE_DELAY)
        jobs = [
            Job("Collecting garbage", GARBAGE_COLLECTION_INTERVAL, self._collect_garbage),
            Job("The sweep", RECONCILE_INTERVAL, self.run_hourly_jobs, first=first),
        ]
        if self._settings.s3.offload_after is not None:
            jobs.append(Job("Moving files to S3", OFFLOAD_INTERVAL, self.offload))
        return jobs

    async def offload(self) -> None:
        """Move the files that are due to S3."""
        await self.offloader().run(
            utc_now() - (self._settings.s3.offload_after or timedelta(0)), report=_log_failed_offload
        )

    async def run_hourly_jobs(self) -> None:
        """Run retention, sweep and scrub. A failure of one is logged."""
        for name, job in (
            ("Retention", self._run_retention),
            ("The sweep", self._run_reconcile),
            ("The scrub", self._run_scrub),
        ):
            try:
                await job()
            except Exception:  # the failure of one job must not stop the others
                log.exception("%s failed; retrying in %g s", name, RECONCILE_INTERVAL, extra={"job": name})

    async def _collect_garbage(self) -> None:
        await self.garbage_collector.run()

    async def _run_retention(self) -> None:
        retention = self._settings.attachments.retention
        if retention is None:
            return
        deleted = await self.retention.run(SYSTEM_ORIGIN, utc_now() - retention)
        if deleted.files:
            log.info("Retention deleted %d files of %d bytes", deleted.files, deleted.bytes)

    async def _run_reconcile(self) -> None:
        await self.reconciler.run(report=_log_finding)

    async def _run_scrub(self) -> None:
        await self.scrubber.run(self._settings.attachments.scrub, _log_mismatch)

    def _observe_unrepaired(self) -> Observations:
        return [(number, {"kind": kind}) for kind, number in self.reconciler.unrepaired().items()]


def _log_failed_offload(result: OffloadResult) -> None:
    if result.outcome != "moved":
        log.warning("Attachment %s was not moved: %s", result.attachment.id, result.reason or result.outcome)


def _log_finding(finding: Finding) -> None:
    log.warning("Sweep: %s %s %s", finding.kind, finding.storage, finding.name)


def _log_mismatch(scrubbed: ScrubResult) -> None:
    if scrubbed.outcome == "mismatch":
        log.error("Attachment %s does not match its recorded hash: %s", scrubbed.attachment.id, scrubbed.reason)
