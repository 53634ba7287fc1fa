"""The attachments component: the storages, the attachment service, and the maintenance jobs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from support_service.attachments.case_files import CaseFileLimits
from support_service.attachments.content import UploadLimits
from support_service.attachments.maintenance.jobs import AttachmentMaintenance, MaintenanceOptions, MaintenanceTimings
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.base import AttachmentStorage
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.guard.component import PUBLIC_URL
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.settings.resources import AttachmentSettings, ObjectStoreSettings
from support_service.platform.telemetry.component import INSTRUMENTS

ATTACHMENT_SERVICE = web.AppKey("attachment_service", AttachmentService)


@dataclass(frozen=True, slots=True)
class AttachmentTimings:
    """Intervals and limits of the attachments component."""

    files: CaseFileLimits = field(default_factory=CaseFileLimits)
    # Seconds between updates of the gauges, which include files of other replicas.
    backlog_refresh_interval: float = 10.0
    maintenance: MaintenanceTimings = field(default_factory=MaintenanceTimings)


def setup(
    app: web.Application, settings: AttachmentSettings, s3: ObjectStoreSettings, timings: AttachmentTimings
) -> None:
    """Add the attachment service, and run its maintenance jobs in the background."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        database, instruments, public_url = app[DATABASE], app[INSTRUMENTS], app[PUBLIC_URL]
        storages = configured_storages(settings, s3)
        for storage in storages.values():
            await storage.open()
        service = app[ATTACHMENT_SERVICE] = AttachmentService(
            database,
            storages,
            instruments,
            UploadLimits(settings.max_bytes, settings.types),
            settings.uploads,
            case_limits=timings.files,
            public_url=public_url,
        )
        maintenance = AttachmentMaintenance(
            database, storages, instruments, maintenance_options(settings, s3, public_url), timings.maintenance
        )
        await service.backlog.refresh()
        refresh = run_every(timings.backlog_refresh_interval, service.backlog.refresh, "Reading the attachment backlog")
        async with run_in_background(refresh), maintenance.scheduled():
            yield
        for storage in storages.values():
            await storage.close()

    app.cleanup_ctx.append(run)


def configured_storages(settings: AttachmentSettings, s3: ObjectStoreSettings) -> dict[str, AttachmentStorage]:
    """Return the configured storages by name; new files go to the first."""
    local = LocalAttachmentStorage(settings.directory, settings.disk_reserve)
    if s3.bucket is None:
        return {"local": local}
    from support_service.attachments.storage.s3 import S3AttachmentStorage

    objects = S3AttachmentStorage(s3.bucket, endpoint=s3.endpoint, region=s3.region)
    if settings.store == "s3":
        return {"s3": objects, "local": local}
    return {"local": local, "s3": objects}


def maintenance_options(settings: AttachmentSettings, s3: ObjectStoreSettings, public_url: str) -> MaintenanceOptions:
    """Return the options of the maintenance jobs."""
    return MaintenanceOptions(
        public_url=public_url,
        retention=settings.retention,
        scrub_share=settings.scrub,
        offload_after=s3.offload_after,
        offload_grace=s3.grace,
    )
