"""An attachment as the service keeps it, and what a client's filename and content type become. Pure."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

MAX_FILENAME = 255  # bytes of UTF-8, as most file systems have it where the file will be saved
MAX_FILES = 1000  # of a case: whoever reads it reads them all
UNKNOWN_TYPE = "application/octet-stream"
CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,127}")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a case. Its bytes lie in `storage` under `storage_key`; `sha256` is in hex.

    `content_type` is what the client declared, `detected_type` what the first bytes say, where they say anything. An
    internal file is not for customers.
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
class Backlog:
    """What lies on a storage."""

    files: int
    bytes: int


def address(public_url: str, case_id: str, attachment_id: str, filename: str) -> str:
    """Where an attachment's bytes are served."""
    return f"{public_url}/support/cases/{case_id}/attachments/{attachment_id}/{quote(filename, safe='')}"


def view(kept: Attachment, public_url: str) -> dict[str, Any]:
    """An attachment as everyone else sees it: with its address, without the place of its bytes."""
    return {
        "id": kept.id,
        "ticketId": kept.ticket_id,
        "filename": kept.filename,
        "contentType": kept.content_type,
        "sizeBytes": kept.size_bytes,
        "sha256": kept.sha256,
        "visibility": kept.visibility,
        "uri": address(public_url, kept.ticket_id, kept.id, kept.filename),
        "createdAt": kept.created_at,
    }


def facts(kept: Attachment) -> dict[str, Any]:
    """What the audit log is told of an attachment that comes or goes."""
    return {
        "attachmentId": kept.id,
        "filename": kept.filename,
        "contentType": kept.content_type,
        "sizeBytes": kept.size_bytes,
        "sha256": kept.sha256,
        "visibility": kept.visibility,
    }


def clean_filename(raw: str) -> str:
    """A name that is safe to show and to save under: no path, no control characters, at most 255 bytes, never empty.

    The bytes are kept under a generated key; this name is only ever given back to clients.
    """
    name = unicodedata.normalize("NFC", _decoded(raw)).replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in name if character.isprintable()).strip()
    name = name.encode(errors="ignore")[:MAX_FILENAME].decode(errors="ignore")
    return name if name.strip(".") else "file"


def _decoded(raw: str) -> str:
    """The name behind the percent-encoding that aiohttp's client, among others, gives to letters beyond ASCII."""
    if not raw.isascii() or " " in raw:
        return raw
    try:
        decoded = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return raw
    return raw if decoded.isascii() and " " not in decoded else decoded


def clean_content_type(raw: str | None) -> str:
    """The declared type without its parameters; what is no type counts as unknown bytes."""
    essence = (raw or "").partition(";")[0].strip().lower()
    return essence if CONTENT_TYPE.fullmatch(essence) else UNKNOWN_TYPE


def disposition(filename: str) -> str:
    """Save it, never show it; the plain name is for clients that don't read the encoded one."""
    plain = "".join(character if character.isascii() and character not in '"\\%' else "_" for character in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
