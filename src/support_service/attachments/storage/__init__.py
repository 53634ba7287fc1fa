"""Storages of attachment bytes: a local directory or an S3 bucket, behind one interface."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from support_service.attachments.storage.base import AttachmentStorage
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import AttachmentSettings, ObjectStoreSettings
from support_service.platform.telemetry.instruments import Instruments


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


DISK_RESERVE = 256 * 1024 * 1024  # bytes of the disk to keep free


def configured_storages(
    settings: AttachmentSettings, s3: ObjectStoreSettings, instruments: Instruments | None = None
) -> dict[str, AttachmentStorage]:
    """Return the configured storages by name; new files go to the first."""
    local = LocalAttachmentStorage(settings.directory, DISK_RESERVE)
    if s3.bucket is None:
        return {"local": local}
    from support_service.attachments.storage.s3 import S3AttachmentStorage

    objects = S3AttachmentStorage(
        s3.bucket, endpoint=s3.endpoint, region=s3.region, credentials=s3.credentials, instruments=instruments
    )
    if settings.store == "s3":
        return {"s3": objects, "local": local}
    return {"local": local, "s3": objects}
