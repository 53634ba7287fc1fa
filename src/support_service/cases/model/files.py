"""The attachment record, and the normalisation of client filenames and content types. No I/O."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

MAX_FILENAME_BYTES = 255  # bytes of UTF-8, the limit of most file systems on which clients save the file
UNKNOWN_CONTENT_TYPE = "application/octet-stream"
CONTENT_TYPE_PATTERN = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,127}")


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """A file of a case. Its bytes are in the storage named `storage` under `storage_key`; `sha256` is in hex.

    `content_type` is the type that the client declared. `detected_type` is the type found from the first bytes, or None
    if they have no known signature. Customers do not see files whose `visibility` is `internal`.
    """

    id: str
    ticket_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    storage: str
    storage_key: str
    created_at: datetime
    detected_type: str | None = None
    visibility: str = "public"


@dataclass(frozen=True, slots=True)
class FileTotals:
    """A number of files and their total size in bytes, such as the content of a storage."""

    files: int
    bytes: int


def attachment_url(public_url: str, case_id: str, attachment_id: str, filename: str) -> str:
    """Return the URL that serves the attachment's bytes."""
    return f"{public_url}/support/cases/{case_id}/attachments/{attachment_id}/{quote(filename, safe='')}"


def attachment_json(attachment: StoredAttachment, public_url: str) -> dict[str, Any]:
    """Return the JSON view of an attachment for clients and events: with its URL, without its storage location."""
    return {
        "id": attachment.id,
        "ticketId": attachment.ticket_id,
        "filename": attachment.filename,
        "contentType": attachment.content_type,
        "sizeBytes": attachment.size_bytes,
        "sha256": attachment.sha256,
        "visibility": attachment.visibility,
        "uri": attachment_url(public_url, attachment.ticket_id, attachment.id, attachment.filename),
        "createdAt": attachment.created_at,
    }


def audited_attachment_fields(attachment: StoredAttachment) -> dict[str, Any]:
    """Return the fields that the audit log records when an attachment is added or removed."""
    return {
        "attachmentId": attachment.id,
        "filename": attachment.filename,
        "contentType": attachment.content_type,
        "sizeBytes": attachment.size_bytes,
        "sha256": attachment.sha256,
        "visibility": attachment.visibility,
    }


def clean_filename(raw: str) -> str:
    """Return a filename that is safe to display and to save: no path, no control characters, 1 to 255 bytes of UTF-8.

    The bytes are stored under a generated key; this name is only returned to clients.
    """
    name = _percent_decoded(raw).replace("\\", "/").rpartition("/")[2]
    # Composed after the removal, because an invisible character may part a letter from its mark.
    name = unicodedata.normalize("NFC", "".join(filter(str.isprintable, name))).strip()
    name = name.encode(errors="ignore")[:MAX_FILENAME_BYTES].decode(errors="ignore")
    return name if name.strip(".") else "file"


def _percent_decoded(raw: str) -> str:
    """Undo the percent-encoding that some clients, such as aiohttp, apply to non-ASCII filenames.

    Return `raw` unchanged unless it is an ASCII name that decodes to valid UTF-8 with non-ASCII letters or spaces.
    """
    if not raw.isascii() or " " in raw:
        return raw
    try:
        decoded = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return raw
    return raw if decoded.isascii() and " " not in decoded else decoded


def clean_content_type(raw: str | None) -> str:
    """Return the declared type in lower case and without parameters, or UNKNOWN_TYPE if it is missing or invalid."""
    essence = (raw or "").partition(";")[0].strip().lower()
    return essence if CONTENT_TYPE_PATTERN.fullmatch(essence) else UNKNOWN_CONTENT_TYPE


def content_disposition(filename: str) -> str:
    """Return a Content-Disposition header that makes browsers save the file instead of displaying it.

    The plain `filename` is for clients that don't support the encoded `filename*`.
    """
    plain = "".join(character if character.isascii() and character not in '"\\%' else "_" for character in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
