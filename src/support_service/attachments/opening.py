"""Opens the storages, the attachment service and its maintenance jobs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from support_service.attachments.maintenance.jobs import AttachmentMaintenance, MaintenanceTimings
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.base import AttachmentStorage
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.cases.case_files import CaseFiles
from support_service.platform.background import Job, run_in_background
from support_service.platform.database import Database
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import AttachmentSettings, ObjectStoreSettings
from support_service.platform.telemetry.instruments import Instruments


@dataclass(frozen=True, slots=True)
class AttachmentTimings:
    """Intervals and limits of attachments."""

    # Seconds between updates of the gauges, which include files of other replicas, and merges of the ledger.
    backlog_refresh_interval: float = 10.0
    maintenance: MaintenanceTimings = field(default_factory=MaintenanceTimings)


@asynccontextmanager
async def open_attachments(
    settings: Settings, database: Database, instruments: Instruments, files: CaseFiles, timings: AttachmentTimings
) -> AsyncIterator[AttachmentService]:
    """Open the storages and run the maintenance jobs during a `with` block.

    Raises Unavailable if the directory can't be used. The bucket is first asked when it is used.
    """
    async with open_storages(settings, instruments) as storages:
        service = AttachmentService(database, storages, instruments, settings.attachments, files=files)
        maintenance = AttachmentMaintenance(database, storages, instruments, settings, timings.maintenance)
        await service.backlog.refresh()
        refresh = Job(
            "Reading the attachment backlog", timings.backlog_refresh_interval, service.backlog.refresh_and_merge
        )
        async with run_in_background(refresh), maintenance.scheduled():
            yield service


@asynccontextmanager
async def open_storages(
    settings: Settings, instruments: Instruments | None = None
) -> AsyncIterator[dict[str, AttachmentStorage]]:
    """Open the configured storages during a `with` block, and yield them by name; new files go to the first."""
    storages = configured_storages(settings.attachments, settings.s3, instruments)
    async with AsyncExitStack() as stack:
        for storage in storages.values():
            stack.push_async_callback(storage.close)
            await storage.open()
        yield storages


def configured_storages(
    settings: AttachmentSettings, s3: ObjectStoreSettings, instruments: Instruments | None = None
) -> dict[str, AttachmentStorage]:
    """Return the configured storages by name; new files go to the first."""
    local = LocalAttachmentStorage(settings.directory, settings.disk_reserve)
    if s3.bucket is None:
        return {"local": local}
    from support_service.attachments.storage.s3 import S3AttachmentStorage

    objects = S3AttachmentStorage(
        s3.bucket, endpoint=s3.endpoint, region=s3.region, credentials=s3.credentials, instruments=instruments
    )
    if settings.store == "s3":
        return {"s3": objects, "local": local}
    return {"local": local, "s3": objects}
