"""The checksums that a client may send with its file: `X-Checksum-Sha256`, and `Content-Digest` as RFC 9530 has it.

In a header of the part both are the file's. In a header of the request `Content-Digest` is the whole body's by the RFC,
and the file's by what many clients send: either proves that the file arrived as it left.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from support_service.core.errors import FieldError, Invalid, Malformed

PLAIN = "X-Checksum-Sha256"
DIGEST = "Content-Digest"
SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*(?:=([^,;]*)|(?=[,;]|$))", re.IGNORECASE)  # a member of a dictionary
LENGTH = 32  # bytes of a SHA-256


@dataclass(frozen=True, slots=True)
class Expected:
    """A checksum, the header that it came in, and whether it may be the whole body's."""

    header: str
    value: bytes
    of_body: bool = False


class Checksums:
    """Hashes what passes where there is something to hold it against."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self._expected: list[Expected] = []
        self._file = hashlib.sha256()
        self._body = hashlib.sha256()
        self.expect(headers, of_request=True)
        self._of_body = any(each.of_body for each in self._expected)

    def expect(self, headers: Iterable[tuple[str, str]], *, of_request: bool = False) -> None:
        """Take note of the checksums in some headers, each of which may come again; raises Malformed.

        A digest by another algorithm is left aside, as the RFC allows.
        """
        for name, value in headers:
            if name.lower() == PLAIN.lower() and value:
                self._expected.append(Expected(PLAIN, _plain(value)))
            elif name.lower() == DIGEST.lower() and (digest := SHA256.search(value)):
                self._expected.append(Expected(DIGEST, _bytes(DIGEST, (digest[1] or "").strip()), of_request))

    def add_body(self, chunk: bytes) -> None:
        """Take some of the whole body."""
        if self._of_body:
            self._body.update(chunk)

    def add_file(self, chunk: bytes | bytearray) -> None:
        """Take some of the file."""
        if self._expected:
            self._file.update(chunk)

    def verify(self) -> None:
        """Raise Invalid, naming each header, where the file is not the one that was sent."""
        found = self._file.digest()
        wrong = [
            FieldError(each.header, f"says {each.value.hex()}, but the file that arrived has {found.hex()}")
            for each in self._expected
            if each.value != found and not (each.of_body and each.value == self._body.digest())
        ]
        if wrong:
            raise Invalid("checksum_mismatch", "The file is not the one that was sent; nothing was kept.", wrong)


def _plain(text: str) -> bytes:
    """In hex, or in base64 as some clients have it."""
    text = text.strip()
    if len(text) == 2 * LENGTH:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise _malformed(PLAIN) from None
    return _base64(PLAIN, text)


def _bytes(header: str, text: str) -> bytes:
    """A byte sequence as RFC 8941 writes it: base64 between colons."""
    if not (text.startswith(":") and text.endswith(":")):
        raise _malformed(header)
    return _base64(header, text[1:-1])


def _base64(header: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:  # no base64, or not even ASCII
        value = b""
    if len(value) != LENGTH:
        raise _malformed(header)
    return value


def _malformed(header: str) -> Malformed:
    return Malformed("malformed_checksum", f"{header} has no SHA-256 that can be read: it takes 32 bytes.")
