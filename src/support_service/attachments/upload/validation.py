"""Checks of a file's size and type while it is uploaded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from support_service.attachments.model import clean_content_type, clean_filename
from support_service.attachments.upload.detection import HEAD_BYTES, detect
from support_service.attachments.upload.mime_types import detected_type_allowed, type_allowed
from support_service.core.errors import RequestTooLarge, UnsupportedMediaType


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of uploads: the size of a file in bytes, its content types (None allows all), and the files of a case.

    A staged file waits for `staged_for`; an uploader has at most `max_staged_files` of them in all cases.
    """

    max_bytes: int
    types: tuple[str, ...] | None = None
    max_files_per_case: int = 1000
    staged_for: timedelta = timedelta(hours=24)
    max_staged_files: int = 100


class UploadValidator:
    """One upload being validated. A rejected file raises an error out of its stream, so that no storage keeps it."""

    def __init__(self, filename: str, content_type: str | None, limits: UploadLimits) -> None:
        self.filename = clean_filename(filename)
        self.content_type = clean_content_type(content_type)
        self.detected_type: str | None = None
        self._limits = limits
        self._head: bytearray | None = bytearray()

    async def validated(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks unchanged.

        Raises RequestTooLarge and UnsupportedMediaType. A file may be empty.
        """
        types = self._limits.types
        if types is not None and not type_allowed(types, self.content_type):
            raise _type_not_allowed(types, self.content_type, "declared")
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._limits.max_bytes:
                raise RequestTooLarge(
                    "attachment_too_large", f"A file may have at most {self._limits.max_bytes} bytes."
                )
            if self._head is not None:
                self._head += chunk[:HEAD_BYTES]
                if len(self._head) >= HEAD_BYTES:
                    self._detect()
            yield chunk
        if self._head is not None:
            self._detect()

    def _detect(self) -> None:
        head, self._head = bytes(self._head or b"")[:HEAD_BYTES], None
        self.detected_type = found = detect(head, self.filename)
        types = self._limits.types
        if types is not None and found is not None and not detected_type_allowed(types, self.content_type, found):
            raise _type_not_allowed(types, found, "detected")


def _type_not_allowed(types: tuple[str, ...], content_type: str, how: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        "type_not_allowed", f"Files of type {content_type} ({how}) are not allowed; send {', '.join(types)}."
    )
