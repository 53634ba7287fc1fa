"""Checksums that a client may send with a file: `X-Checksum-Sha256`, and `Content-Digest` (RFC 9530).

In a header of the multipart part, both cover the file. In a header of the request, `Content-Digest` covers the whole
body by the RFC, but many clients send the file's digest there. Both are accepted, because either proves that the file
arrived unchanged.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from support_service.core.errors import FieldError, MalformedRequest, ValidationFailed

CHECKSUM_HEADER = "X-Checksum-Sha256"
CONTENT_DIGEST_HEADER = "Content-Digest"
# A member of a dictionary (RFC 8941).
SHA256_MEMBER = re.compile(r"(?:^|,)\s*sha-256\s*(?:=([^,;]*)|(?=[,;]|$))", re.IGNORECASE)
SHA256_BYTES = 32  # bytes of a SHA-256


@dataclass(frozen=True, slots=True)
class ExpectedChecksum:
    """A checksum from the client, the header that carried it, and whether it may cover the whole body."""

    header: str
    value: bytes
    of_body: bool = False


class ChecksumVerifier:
    """Comparison of a file with the client's checksums. Data is hashed only if there is a checksum."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self._expected: list[ExpectedChecksum] = []
        self._file = hashlib.sha256()
        self._body = hashlib.sha256()
        self.add_expected(headers, of_request=True)
        self._hash_body = any(each.of_body for each in self._expected)

    def add_expected(self, headers: Iterable[tuple[str, str]], *, of_request: bool = False) -> None:
        """Add the checksums in the headers of the request or of the part; a header may be repeated.

        A digest by another algorithm than SHA-256 is ignored, as the RFC allows. Raises MalformedRequest.
        """
        for name, value in headers:
            if name.lower() == CHECKSUM_HEADER.lower() and value:
                self._expected.append(ExpectedChecksum(CHECKSUM_HEADER, _plain(value)))
            elif name.lower() == CONTENT_DIGEST_HEADER.lower() and (digest := SHA256_MEMBER.search(value)):
                self._expected.append(
                    ExpectedChecksum(
                        CONTENT_DIGEST_HEADER,
                        _byte_sequence(CONTENT_DIGEST_HEADER, (digest[1] or "").strip()),
                        of_request,
                    )
                )

    def add_body(self, chunk: bytes) -> None:
        """Add a chunk of the whole body."""
        if self._hash_body:
            self._body.update(chunk)

    def add_file(self, chunk: bytes | bytearray) -> None:
        """Add a chunk of the file."""
        if self._expected:
            self._file.update(chunk)

    def verify(self) -> None:
        """Raise ValidationFailed, with an error for each header whose checksum does not match the received file."""
        actual = self._file.digest()
        mismatches = [
            FieldError(each.header, f"expected SHA-256 {each.value.hex()}, but the received file has {actual.hex()}")
            for each in self._expected
            if each.value != actual and not (each.of_body and each.value == self._body.digest())
        ]
        if mismatches:
            raise ValidationFailed(
                "checksum_mismatch",
                "The received file does not match its checksum, so it was not stored; send it again.",
                mismatches,
            )


def _plain(text: str) -> bytes:
    """Decode a checksum in hex, or in base64, which some clients send."""
    text = text.strip()
    if len(text) == 2 * SHA256_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise _malformed(CHECKSUM_HEADER) from None
    return _base64(CHECKSUM_HEADER, text)


def _byte_sequence(header: str, text: str) -> bytes:
    """Decode a byte sequence of RFC 8941: base64 between colons."""
    if not (text.startswith(":") and text.endswith(":")):
        raise _malformed(header)
    return _base64(header, text[1:-1])


def _base64(header: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:  # not base64, or not ASCII
        value = b""
    if len(value) != SHA256_BYTES:
        raise _malformed(header)
    return value


def _malformed(header: str) -> MalformedRequest:
    return MalformedRequest("malformed_checksum", f"{header} has no valid SHA-256; send its 32 bytes in hex or base64.")
