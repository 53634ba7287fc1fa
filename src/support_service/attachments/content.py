"""The content of a new file: its size and type are checked while it is sent, then it is stored and verified.

The type of a file is detected from its first bytes, by puremagic's table of signatures. The patterns in OWN_SIGNATURES
are checked before that table. They match types that are dangerous under another name (executables, SVG, HTML). The
table has no type for some of them, and a filename can hide them. They also match still images in the MPEG-4 container
(HEIC, AVIF), because the table reports some of these as videos.
"""

import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache

import puremagic

from support_service.attachments.storage.base import (
    AttachmentStorage,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    storage_unavailable,
    verify_file,
)
from support_service.cases.model.files import StoredAttachment, clean_content_type, clean_filename, content_disposition
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.ids import new_id
from support_service.platform.settings.resources import AttachmentSettings

HEAD_BYTES = 2048  # bytes that are examined
# Minimum length of a signature in bytes: MIN_TEXT_SIGNATURE for text, MIN_BINARY_SIGNATURE for data with a NUL byte.
# Shorter signatures also match words of plain text, or the first letter of any text.
MIN_TEXT_SIGNATURE, MIN_BINARY_SIGNATURE = 4, 2
# Allowed before the first element of markup: a byte order mark, spaces, comments and processing instructions.
_PROLOG = rb"(?:\xef\xbb\xbf)?(?>\s+|<!--.*?-->|<\?.*?\?>)*+"
OWN_SIGNATURES = (
    (re.compile(rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1)", re.DOTALL), "image/heic"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "image/avif"),
    (re.compile(rb"MZ.*\0", re.DOTALL), "application/vnd.microsoft.portable-executable"),
    (re.compile(rb"\x7fELF"), "application/x-executable"),
    (re.compile(rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe"), "application/x-mach-binary"),
    (
        re.compile(_PROLOG + rb"(?:<!DOCTYPE\s+svg\b[^\[>]*(?:\[[^\]]*\]\s*)?>\s*)?<(?:svg:)?svg[\s/>]", re.DOTALL),
        "image/svg+xml",
    ),
    (re.compile(_PROLOG + rb"<(?:!doctype\s+)?html[\s/>]", re.DOTALL | re.IGNORECASE), "text/html"),
    (re.compile(rb"\s*<(?:head|body|script|style|iframe|div|img|meta|h1)[\s/>]", re.IGNORECASE), "text/html"),
)
ZIP_SIGNATURE = re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)")
SCRIPT_SIGNATURE = re.compile(rb"#!\s*/")
# Names of one type. The first is the registered name, if there is one; clients and puremagic's table use the others.
CONTENT_TYPE_ALIASES = (
    ("application/gzip", "application/x-gzip"),
    ("application/rtf", "text/rtf"),
    ("application/vnd.ms-excel", "application/excel"),
    ("application/vnd.ms-powerpoint", "application/mspowerpoint"),
    ("application/vnd.rar", "application/x-rar-compressed", "application/x-rar"),
    ("application/xml", "text/xml"),
    ("application/zip", "application/x-zip-compressed"),
    ("audio/aac", "audio/x-aac"),
    ("audio/flac", "audio/x-flac"),
    ("audio/mp4", "audio/m4a", "audio/x-m4a"),
    ("audio/mpeg", "audio/mp3"),
    ("audio/vnd.wave", "audio/wav", "audio/wave", "audio/x-wav"),
    ("image/bmp", "image/x-bmp", "image/x-ms-bmp"),
    ("image/heic", "image/heif"),
    ("image/jpeg", "image/jpg", "image/pjpeg"),
    ("image/vnd.microsoft.icon", "image/x-icon"),
    ("text/javascript", "application/javascript"),
    ("video/matroska", "video/x-matroska"),
    ("video/mp4", "video/x-m4v"),
    ("video/x-msvideo", "video/avi", "video/msvideo"),
)
# Types that share a container format. The first bytes can't distinguish them, so the declared type is trusted.
TYPES_WITH_SHARED_CONTAINER = (
    ("application/msword", "application/vnd.ms-excel", "application/vnd.ms-outlook", "application/vnd.ms-powerpoint"),
    (
        "application/epub+zip",
        "application/vnd.android.package-archive",
        "application/vnd.oasis.opendocument.presentation",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/zip",
    ),
    ("application/ogg", "audio/ogg", "audio/opus", "video/ogg"),
    ("application/xhtml+xml", "text/html"),
    ("audio/3gpp", "audio/mp4", "video/3gpp", "video/mp4", "video/quicktime"),
    ("audio/webm", "video/matroska", "video/webm"),
    ("image/avif", "image/heic"),
)
log = logging.getLogger(__name__)


class UploadValidator:
    """One upload being validated. A rejected file raises an error out of its stream, so that no storage keeps it."""

    def __init__(self, filename: str, content_type: str | None, settings: AttachmentSettings) -> None:
        self.filename = clean_filename(filename)
        self.content_type = clean_content_type(content_type)
        self.detected_type: str | None = None
        self._settings = settings
        self._head: bytearray | None = bytearray()

    async def validated(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks unchanged.

        Raises ValidationFailed. A file may be empty.
        """
        types = self._settings.types
        if types is not None and not is_type_allowed(types, self.content_type):
            raise _type_not_allowed(types, self.content_type, "declared")
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._settings.max_bytes:
                limit = self._settings.max_bytes
                raise problem("attachment_too_large", f"A file may have at most {limit} bytes.", limit_bytes=limit)
            if self._head is not None:
                self._head += chunk[:HEAD_BYTES]
                if len(self._head) >= HEAD_BYTES:
                    self._check_detected_type()
            yield chunk
        if self._head is not None:
            self._check_detected_type()

    def _check_detected_type(self) -> None:
        head, self._head = bytes(self._head or b"")[:HEAD_BYTES], None
        self.detected_type = found = detect_content_type(head, self.filename)
        types = self._settings.types
        if types is not None and found is not None and not is_detected_type_allowed(types, self.content_type, found):
            raise _type_not_allowed(types, found, "detected")


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

    Raises ValidationFailed and Unavailable; then nothing is stored.
    """
    response_headers = ResponseHeaders(upload.content_type, content_disposition(upload.filename))
    stored = await storage.put(upload.validated(chunks), size_hint=size_hint, response_headers=response_headers)
    try:
        await _check_reads_back(storage, stored)
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


def detect_content_type(head: bytes, filename: str) -> str | None:
    """Return the content type that the first bytes indicate; None if they have no signature, as in plain text.

    The filename decides between types with the same signature, such as the formats of one office suite.
    """
    certain = next((kind for pattern, kind in OWN_SIGNATURES if pattern.match(head)), None)
    if certain is not None:
        return certain
    found = _detect_by_table(head, filename)
    if ZIP_SIGNATURE.match(head):
        if found == "application/java-archive" and not filename.lower().endswith(".jar"):
            return "application/zip"  # many archivers write ZIP files that start like Java archives
        return found if found and found.startswith("application/") else "application/zip"
    return found or ("text/x-shellscript" if SCRIPT_SIGNATURE.match(head) else None)


def is_type_allowed(types: tuple[str, ...], content_type: str) -> bool:
    """Return whether a list of types, which may contain patterns such as `image/*`, has this type under any name."""
    return any(name in types or f"{_top_level_type(name)}/*" in types for name in _aliases(content_type))


def is_detected_type_allowed(types: tuple[str, ...], declared: str, detected: str) -> bool:
    """Return whether a list of types accepts a file whose detected type may differ from its declared type.

    The declared type must already be in the list.
    """
    if is_type_allowed(types, detected) or any(
        _aliases(declared)[0] in each and _aliases(detected)[0] in each for each in TYPES_WITH_SHARED_CONTAINER
    ):
        return True
    # Plain text may start like a patch, an email or a script and is still text.
    return _top_level_type(declared) == "text" and any(
        _top_level_type(name) in ("text", "message") for name in _aliases(detected)
    )


async def _check_reads_back(storage: AttachmentStorage, stored: StoredFile) -> None:
    """Raise Unavailable if a new file reads back otherwise than it was sent."""
    if not storage.reads_back:
        return
    try:
        await verify_file(storage, stored.key, stored.size, stored.sha256)
    except UnreadableFile as failure:
        log.error("The storage %s did not keep %s as it was sent: %s", storage.name, stored.key, failure)  # noqa: TRY400 - the message suffices
        raise storage_unavailable(
            "wrong_bytes", "The storage did not keep the file as it was sent; send it again."
        ) from failure


def _type_not_allowed(types: tuple[str, ...], content_type: str, how: str) -> SupportError:
    return problem(
        "type_not_allowed", f"Files of type {content_type} ({how}) are not allowed; send {', '.join(types)}."
    )


def _detect_by_table(head: bytes, filename: str) -> str | None:
    least = MIN_BINARY_SIGNATURE if b"\0" in head else MIN_TEXT_SIGNATURE
    if not any(
        len(signature) >= least and head.startswith(signature, offset)
        for offset, by_start in _signatures()
        for signature in by_start.get(head[offset : offset + MIN_BINARY_SIGNATURE], ())
    ):
        return None  # this check takes 4 us; puremagic's own search takes 220 us
    try:
        found = puremagic.from_string(head, mime=True, filename=filename)
    except (puremagic.PureError, ValueError):
        return None
    return clean_content_type(found) if found else None


@cache
def _signatures() -> list[tuple[int, dict[bytes, list[bytes]]]]:
    """Return puremagic's signatures by their offset in bytes, and there by their first MIN_BINARY_SIGNATURE bytes."""
    found: defaultdict[int, defaultdict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for entry in puremagic.magic_header_array:
        if entry.offset + len(entry.byte_match) <= HEAD_BYTES:  # others are not in the bytes that are examined
            found[entry.offset][entry.byte_match[:MIN_BINARY_SIGNATURE]].append(entry.byte_match)
    return [(offset, dict(by_start)) for offset, by_start in found.items()]


def _aliases(content_type: str) -> tuple[str, ...]:
    return next((names for names in CONTENT_TYPE_ALIASES if content_type in names), (content_type,))


def _top_level_type(content_type: str) -> str:
    return content_type.partition("/")[0]
