"""The bytes of a new attachment: validated, stored and verified before its row is inserted."""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from support_service.attachments.model import StoredAttachment, content_disposition
from support_service.attachments.storage.base import (
    AttachmentStorage,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    verify,
)
from support_service.attachments.upload.validation import UploadValidator
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.core.ids import new_id

log = logging.getLogger(__name__)


async def store_file(
    storage: AttachmentStorage,
    upload: UploadValidator,
    case_id: str,
    chunks: AsyncIterator[bytes],
    *,
    size_hint: int = 0,
    visibility: str = "public",
) -> StoredAttachment:
    """Store the bytes of a file and return its attachment, which has no row yet. `size_hint` is in bytes, 0 if unknown.

    Raises RequestTooLarge, UnsupportedMediaType, InsufficientStorage and Unavailable; then nothing is stored.
    """
    response_headers = ResponseHeaders(upload.content_type, content_disposition(upload.filename))
    stored = await storage.put(upload.validated(chunks), size_hint=size_hint, response_headers=response_headers)
    try:
        await _expect_kept(storage, stored)
    except BaseException:
        await discard_bytes(storage, stored.key)
        raise
    return StoredAttachment(
        id=new_id(),
        ticket_id=case_id,
        filename=upload.filename,
        content_type=upload.content_type,
        size_bytes=stored.size,
        sha256=stored.sha256,
        storage=storage.name,
        storage_key=stored.key,
        created_at=utc_now(),
        detected_type=upload.detected_type,
        visibility=visibility,
    )


async def discard_bytes(storage: AttachmentStorage, key: str) -> None:
    """Delete bytes that got no row. If the storage can't be reached, the sweep deletes them later."""
    with suppress(Unavailable):
        await storage.delete(key)


async def _expect_kept(storage: AttachmentStorage, stored: StoredFile) -> None:
    """Raise Unavailable if a new file reads back otherwise than it was sent."""
    if not storage.reads_back:
        return
    try:
        await verify(storage, stored.key, stored.size, stored.sha256)
    except UnreadableFile as failure:
        log.error("The storage %s did not keep %s as it was sent: %s", storage.name, stored.key, failure)  # noqa: TRY400 - the message suffices
        raise Unavailable(
            "storage_unavailable", "The storage did not keep the file as it was sent; send it again."
        ) from failure
