"""Cursors of lists: the place after which a page begins, as a text that clients hand back as they got it."""

import base64

from support_service.core.errors import FieldError, Invalid

BYTES = 8


def write(seq: int) -> str:
    """The cursor of the page after a row."""
    return base64.urlsafe_b64encode(seq.to_bytes(BYTES)).decode().rstrip("=")


def read(cursor: str | None) -> int | None:
    """The row after which a page begins; raises Invalid for a cursor that is none of ours."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except ValueError:  # binascii's error is one
        raw = b""
    seq = int.from_bytes(raw, signed=True)
    if len(raw) != BYTES or seq < 0:
        problem = FieldError("cursor", "is not a cursor that this list gave; start again without one")
        raise Invalid("invalid_request", "The cursor can't be read.", [problem])
    return seq
