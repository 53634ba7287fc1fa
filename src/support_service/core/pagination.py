"""Pagination cursors: the sequence number after which a page begins, as opaque text that clients send back."""

import base64

from support_service.core.errors import FieldError, ValidationFailed

CURSOR_BYTES = 8


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


def invalid_cursor() -> ValidationFailed:
    """Return the error of a cursor that a list did not issue."""
    problem = FieldError("cursor", "was not issued by this list; start again without a cursor")
    return ValidationFailed("invalid_request", "The cursor is invalid.", [problem])
