"""Cursors as clients get them: sealed, so that they neither show nor take the number of a row."""

import base64
from functools import cached_property
from typing import TYPE_CHECKING

from support_service.core.pagination import invalid_cursor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV


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
