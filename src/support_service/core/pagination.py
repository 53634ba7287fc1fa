"""Pagination cursors: the sequence number after which a page begins, as text.

Clients get them sealed, so that they neither show nor take the number of a row.
"""

import base64
import struct
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from support_service.core.clock import from_micros, to_micros
from support_service.core.errors import FieldError, SupportError, problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_SEQ_FORMAT, _TIME_AND_SEQ_FORMAT = struct.Struct(">q"), struct.Struct(">qq")


def encode_cursor(seq: int) -> str:
    """Return the cursor of the page that begins after the row with sequence number `seq`."""
    return _encode(_SEQ_FORMAT, seq)


def decode_cursor(cursor: str | None) -> int | None:
    """Return the sequence number of the row after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue.
    """
    return None if cursor is None else _decode(_SEQ_FORMAT, cursor)[0]


def encode_timed_cursor(at: datetime, seq: int) -> str:
    """Return the cursor of a list by time: the page begins after the row with this time and sequence number."""
    return _encode(_TIME_AND_SEQ_FORMAT, to_micros(at), seq)


def decode_timed_cursor(cursor: str | None) -> tuple[datetime, int] | None:
    """Return time and sequence number of the row after which a page begins, or None without a cursor.

    Raises ValidationFailed for a cursor that this service did not issue.
    """
    if cursor is None:
        return None
    micros, seq = _decode(_TIME_AND_SEQ_FORMAT, cursor)
    try:
        return from_micros(micros), seq
    except OverflowError:
        raise invalid_cursor() from None


def _encode(form: struct.Struct, *numbers: int) -> str:
    return base64.urlsafe_b64encode(form.pack(*numbers)).decode().rstrip("=")


def _decode(form: struct.Struct, cursor: str) -> tuple[int, ...]:
    """Return the numbers in a cursor. The last one is a sequence number."""
    try:
        numbers = form.unpack(base64.b64decode(cursor + "=" * (-form.size % 3), altchars=b"-_", validate=True))
    except (ValueError, struct.error):  # binascii.Error is a ValueError
        raise invalid_cursor() from None
    if numbers[-1] < 0:
        raise invalid_cursor()
    return numbers


def invalid_cursor() -> SupportError:
    """Return the error of a cursor that a list did not issue."""
    wrong = FieldError("cursor", "was not issued by this list; start again without a cursor")
    return problem("invalid_request", "The cursor is invalid.", [wrong])


class CursorSeal:
    """Encrypts and authenticates the cursors of lists (AES-SIV), with a key that all replicas have."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, list_name: str, cursor: str) -> str:
        """Return a cursor of a list in the form for clients."""
        sealed = self._cipher.encrypt(cursor.encode(), [list_name.encode()])
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, list_name: str, sealed: str) -> str:
        """Return a cursor that was sealed for a list. Raises ValidationFailed for any other text."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as below

        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(raw, [list_name.encode()]).decode()
        except (ValueError, InvalidTag):  # binascii.Error is a ValueError
            raise invalid_cursor() from None

    @cached_property
    def _cipher(self) -> "AESSIV":
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415 - 20 ms, not at each start

        return AESSIV(self._key)
