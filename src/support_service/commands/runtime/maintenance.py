"""The database, the storages and the maintenance jobs of attachments, opened for one command."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from support_service.attachments.component import configured_storages, maintenance_options
from support_service.attachments.maintenance.jobs import AttachmentMaintenance
from support_service.platform.database import connect
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource


@asynccontextmanager
async def open_maintenance(settings: Settings) -> AsyncIterator[AttachmentMaintenance]:
    """Open the database and the storages for one command and yield the jobs. Metrics are sent by OTLP if configured."""
    metrics = Metrics([name for name in settings.telemetry.metrics if name != "prometheus"], build_resource())
    database = connect(settings.database.url, synchronous=settings.database.synchronous, pool_size=4)
    options = maintenance_options(settings.attachments, settings.s3, settings.server.public_url or "")
    async with AsyncExitStack() as stack:
        stack.callback(metrics.close)
        stack.push_async_callback(database.close)
        await database.open()
        storages = configured_storages(settings.attachments, settings.s3)
        for storage in storages.values():
            stack.push_async_callback(storage.close)
            await storage.open()
        yield AttachmentMaintenance(database, storages, Instruments(metrics.meter), options)
