"""AttachmentReader: the bytes of attachments, verified while they are read."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from support_service.attachments import rows
from support_service.attachments.case_files import attachment_not_found
from support_service.attachments.model import StoredAttachment
from support_service.attachments.storage.base import AttachmentStorage, UnreadableFile, read_verified
from support_service.core.errors import Unavailable
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments

PRESIGNED_URL_SECONDS = 300  # seconds in which a redirected download must start

log = logging.getLogger(__name__)


class AttachmentReader:
    """Reads each file from the storage that its row names, and counts files that are missing or damaged."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], instruments: Instruments) -> None:
        self._database = database
        self._storages = storages
        self._instruments = instruments

    async def read(self, attachment: StoredAttachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes of an attachment, starting at `offset`.

        The last block of a whole file is only yielded if its SHA-256 is that of the row; of a range, only the size of
        the file is compared. If the file was moved to another storage after its row was read, the bytes are read from
        there. Raises UnreadableFile, Unavailable, and NotFound if the attachment was deleted in the meantime.
        """
        yielded = 0
        while True:
            try:
                async with aclosing(self._blocks(attachment, offset, length)) as blocks:
                    async for block in blocks:
                        yielded += len(block)
                        yield block
                    return
            except Unavailable as failure:
                current = await rows.get_by_id(self._database, attachment.id) or await rows.get_staged(
                    self._database, attachment.id
                )
                if current is not None and current.storage_key == attachment.storage_key:
                    if isinstance(failure, UnreadableFile):
                        self._count(attachment, failure)
                    raise
                if yielded:
                    raise
                if current is None:
                    raise attachment_not_found(attachment.id) from failure
                attachment = current  # the file was moved after its row was read

    async def presigned_url(self, attachment: StoredAttachment) -> str | None:
        """Return a URL that serves the bytes directly for some minutes.

        None if the storage has no URLs, or not this file in its size.
        """
        storage = self._storages.get(attachment.storage)
        if storage is None:
            return None
        return await storage.presigned_url(attachment.storage_key, attachment.size_bytes, PRESIGNED_URL_SECONDS)

    def _blocks(self, attachment: StoredAttachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        storage, key, size = self._storages.get(attachment.storage), attachment.storage_key, attachment.size_bytes
        if storage is None:
            raise Unavailable(
                "attachment_unreadable",
                f"The file is on the storage {attachment.storage}, which is not configured here.",
            )
        if (offset, length) == (0, size):
            return read_verified(storage, key, size, attachment.sha256)
        return storage.read(key, offset, length, size=size)

    def _count(self, attachment: StoredAttachment, failure: UnreadableFile) -> None:
        log.error(
            "A download failed: attachment %s on %s is %s: %s",
            attachment.id,
            attachment.storage,
            failure.fault,
            failure,
        )
        self._instruments.attachment_unreadable.add(1, {"storage": attachment.storage, "kind": failure.fault})
