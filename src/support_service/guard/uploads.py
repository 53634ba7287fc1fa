"""Streaming of one file out of a multipart body, as it arrives, and the checksums that a client may send with it.

Every dimension is bounded: the number and size of headers, the number of parts, and the bytes outside the file.
The reader of aiohttp bounds none of them, reads a body without its boundary into memory as a whole, and recurses into
nested bodies. This parser treats a nested body as plain bytes.
"""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from aiohttp import web
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from support_service.core.errors import FieldError, SupportError, problem
from support_service.guard.exchange import EXCHANGE
from support_service.guard.json_body import INVALID_REQUEST, check_not_compressed
from support_service.platform.settings.resources import AttachmentSettings

FILE_PART = "file"
VISIBILITY_PART = "visibility"  # refused as a part, so that the client does not assume that it has hidden the file
MAX_PARTS = 16
MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 8192
MAX_OTHER_BYTES = 64 * 1024  # all bytes outside the file: other parts, headers, the preamble and the epilogue

CHECKSUM_HEADER = "X-Checksum-Sha256"
CONTENT_DIGEST_HEADER = "Content-Digest"
_CHECKSUM_HEADER_LOWERED, _CONTENT_DIGEST_HEADER_LOWERED = CHECKSUM_HEADER.lower(), CONTENT_DIGEST_HEADER.lower()
# A member of a dictionary (RFC 8941).
SHA256_MEMBER = re.compile(r"(?:^|,)\s*sha-256\s*(?:=([^,;]*)|(?=[,;]|$))", re.IGNORECASE)
SHA256_BYTES = 32  # bytes of a SHA-256


class FileUpload:
    """The part named `file` of a request's body."""

    def __init__(self, request: web.Request, settings: AttachmentSettings) -> None:
        self._request = request
        self._timings = request[EXCHANGE].guard.timings
        self._max_bytes = settings.max_bytes
        self._loop = asyncio.get_running_loop()
        self._deadline_at = self._loop.time() + self._timings.upload_time
        self._received = 0
        self._waited = 0.0  # seconds spent waiting for the client
        self._checksums = ChecksumVerifier(request.headers.items())
        self._events = self._parse()
        self.filename = ""
        self.content_type: str | None = None

    async def open(self) -> None:
        """Read up to the file's first byte, and set `filename` and `content_type`.

        Raises ValidationFailed, also if there is no file, and `body_too_slow`.
        """
        check_not_compressed(self._request)
        length = self._request.content_length
        if length is not None and length > self._max_bytes + MAX_OTHER_BYTES:
            detail = f"The file is too large; the limit is {self._max_bytes} bytes."
            raise problem("attachment_too_large", detail, limit_bytes=self._max_bytes)
        async for event in self._events:
            if isinstance(event, MultipartSegment) and event.name == FILE_PART:
                self.filename = event.filename or ""
                self.content_type = event.content_type
                self._checksums.add_expected(event.headerlist)
                return
        raise problem("file_missing", "The body has no part named `file`; send the file in it.")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes. Ends only after the whole body has been read and validated.

        Raises ValidationFailed, also for a second file or a checksum that does not match, and `body_too_slow`.
        """
        in_file = True
        async for event in self._events:
            if event is None:
                in_file = False
            elif isinstance(event, MultipartSegment):
                if event.name == FILE_PART:
                    raise problem(
                        "file_repeated", "The body has several parts named `file`; send one file per request."
                    )
            elif in_file:
                self._checksums.add_file(event)
                yield event
        self._checksums.verify()

    async def _read(self) -> bytes:
        """Return the bytes that have arrived; none at the end of the body.

        Raises `body_too_slow` if they are missing, too few, or past the deadline.
        """
        content = self._request.content
        chunk = content.read_nowait()
        if not chunk and not content.at_eof():
            chunk = await self._wait_for_bytes()
        self._received += len(chunk)
        least = self._timings.upload_rate
        if chunk and self._waited > self._timings.min_rate_grace and self._received < least * self._waited:
            raise problem("body_too_slow", f"The body arrives too slowly; the minimum is {least:g} bytes per second.")
        self._checksums.add_body(chunk)
        return chunk

    async def _wait_for_bytes(self) -> bytes:
        started = self._loop.time()
        left, chunk_timeout = self._deadline_at - started, self._timings.chunk_timeout
        try:
            async with asyncio.timeout(min(chunk_timeout, left)):
                chunk = await self._request.content.readany()
        except TimeoutError:
            if left < chunk_timeout:
                text = f"The body did not arrive within {self._timings.upload_time:g} s."
                raise problem("body_too_slow", text) from None
            raise problem("body_too_slow", f"No data of the body arrived for {chunk_timeout:g} s.") from None
        self._waited += self._loop.time() - started
        return chunk

    async def _parse(self) -> AsyncIterator[MultipartSegment | bytes | None]:
        media_type, options = parse_options_header(self._request.headers.get("Content-Type", ""))
        if media_type != "multipart/form-data" or not options.get("boundary"):
            raise problem(
                "unsupported_type",
                "The content type is not supported; send multipart/form-data with a boundary and a part `file`.",
            )
        received, file_bytes, in_file = 0, 0, False
        try:
            with PushMultipartParser(
                options["boundary"],
                max_header_size=MAX_PART_HEADER_BYTES,
                max_header_count=MAX_PART_HEADERS,
                max_segment_count=MAX_PARTS,
            ) as parser:
                while chunk := await self._read():
                    received += len(chunk)
                    for event in parser.parse(chunk):
                        if isinstance(event, MultipartSegment):
                            in_file = event.name == FILE_PART
                            if event.name == VISIBILITY_PART:
                                raise _misplaced_visibility_error()
                        elif event is not None and in_file:
                            file_bytes += len(event)
                        yield event
                    if received - file_bytes > MAX_OTHER_BYTES:
                        raise problem(
                            "body_too_large", f"The body has more than {MAX_OTHER_BYTES} bytes besides the file."
                        )
        except MultipartError as failure:
            raise problem("malformed_multipart", f"The multipart body is invalid: {failure.args[0]}.") from None


def _misplaced_visibility_error() -> SupportError:
    errors = [FieldError(VISIBILITY_PART, "must be in the query, as ?visibility=internal")]
    return problem("invalid_request", INVALID_REQUEST, errors)


@dataclass(frozen=True, slots=True)
class ExpectedChecksum:
    """A checksum from the client, the header that carried it, and whether it may cover the whole body."""

    header: str
    value: bytes
    of_body: bool = False


class ChecksumVerifier:
    """Comparison of a file with the client's checksums. Data is hashed only if there is a checksum.

    A client sends them as `X-Checksum-Sha256` or `Content-Digest` (RFC 9530). In a header of the multipart part, both
    cover the file. In a header of the request, `Content-Digest` covers the whole body by the RFC, but many clients send
    the file's digest there. Both are accepted, because either proves that the file arrived unchanged.
    """

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self._expected: list[ExpectedChecksum] = []
        self._file = hashlib.sha256()
        self._body = hashlib.sha256()
        self.add_expected(headers, of_request=True)
        self._hash_body = any(each.of_body for each in self._expected)

    def add_expected(self, headers: Iterable[tuple[str, str]], *, of_request: bool = False) -> None:
        """Add the checksums in the headers of the request or of the part; a header may be repeated.

        A digest by another algorithm than SHA-256 is ignored, as the RFC allows. Raises ValidationFailed.
        """
        for name, value in headers:
            lowered = name.lower()
            if lowered == _CHECKSUM_HEADER_LOWERED and value:
                self._expected.append(ExpectedChecksum(CHECKSUM_HEADER, _decode_plain_checksum(value)))
            elif lowered == _CONTENT_DIGEST_HEADER_LOWERED and (digest := SHA256_MEMBER.search(value)):
                self._expected.append(
                    ExpectedChecksum(
                        CONTENT_DIGEST_HEADER,
                        _decode_byte_sequence(CONTENT_DIGEST_HEADER, (digest[1] or "").strip()),
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
            raise problem(
                "checksum_mismatch",
                "The received file does not match its checksum, so it was not stored; send it again.",
                mismatches,
            )


def _decode_plain_checksum(text: str) -> bytes:
    """Decode a checksum in hex, or in base64, which some clients send."""
    text = text.strip()
    if len(text) == 2 * SHA256_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise _malformed_checksum(CHECKSUM_HEADER) from None
    return _decode_base64(CHECKSUM_HEADER, text)


def _decode_byte_sequence(header: str, text: str) -> bytes:
    """Decode a byte sequence of RFC 8941: base64 between colons."""
    if not (text.startswith(":") and text.endswith(":")):
        raise _malformed_checksum(header)
    return _decode_base64(header, text[1:-1])


def _decode_base64(header: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:  # not base64, or not ASCII
        value = b""
    if len(value) != SHA256_BYTES:
        raise _malformed_checksum(header)
    return value


def _malformed_checksum(header: str) -> SupportError:
    return problem("malformed_checksum", f"{header} has no valid SHA-256; send its 32 bytes in hex or base64.")
