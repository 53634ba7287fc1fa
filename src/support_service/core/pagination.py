"""Pagination cursors: the sequence number after which a page begins, as text. Clients get them sealed."""

import base64
import struct
from datetime import datetime

from support_service.core.clock import from_micros, to_micros
from support_service.core.errors import FieldError, ValidationFailed

CURSOR_BYTES = 8
_TIMED = struct.Struct(">qq")


def encode_cursor(seq: int) -> str:
    """Return the cursor of the page that begins after the row with sequence number `seq`."""
    return base64.urlsafe_b64encode(seq.to_bytes(CURSOR_BYTES)).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> int | None:
    """Return the sequence number of the row after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except ValueError:  # binascii.Error is a subclass
        raw = b""
    seq = int.from_bytes(raw, signed=True)
    if len(raw) != CURSOR_BYTES or seq < 0:
        raise invalid_cursor()
    return seq


def encode_timed_cursor(at: datetime, seq: int) -> str:
    """Return the cursor of a list by time: the page begins after the row with this time and sequence number."""
    timed = _TIMED.pack(to_micros(at), seq)
    return base64.urlsafe_b64encode(timed).decode().rstrip("=")


def decode_timed_cursor(cursor: str | None) -> tuple[datetime, int] | None:
    """Return time and sequence number of the row after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue.
    """
    if cursor is None:
        return None
    try:
        micros, seq = _TIMED.unpack(base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
        at = from_micros(micros)
    except (ValueError, OverflowError, struct.error):  # binascii.Error is a ValueError
        raise invalid_cursor() from None
    if seq < 0:
        raise invalid_cursor()
    return at, seq


def invalid_cursor() -> ValidationFailed:
    """Return the error of a cursor that a list did not issue."""
    problem = FieldError("cursor", "was not issued by this list; start again without a cursor")
    return ValidationFailed("invalid_request", "The cursor is invalid.", [problem])
