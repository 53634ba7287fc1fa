"""One file out of a multipart body, read as it arrives.

Every dimension is bounded: header lines and their size, parts, and what is not the file. aiohttp's own reader bounds
none of them, swallows a body without its boundary whole and recurses into nested bodies; this parser treats a nested
body as the bytes that it is.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from support_service.core.errors import FieldError, Invalid, Malformed, TooLarge, TooSlow, UnsupportedType
from support_service.http.checksums import Checksums
from support_service.http.json_body import expect_plain

FIELD = "file"
ELSEWHERE = "visibility"  # whoever sends it here means to hide the file, and is not to believe that they did
CHUNK_WITHIN = 30.0  # seconds for some of the body to arrive; aiohttp waits for ever, even for what it can't read
RATE_AFTER = 10.0  # seconds of waiting for a client before its rate counts
MAX_PARTS = 16
MAX_HEADERS = 8
MAX_HEADER_BYTES = 8192
MAX_OTHER_BYTES = 64 * 1024  # all but the file: other parts, headers, a preamble, what follows the last boundary


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How large an upload may be, and how slow."""

    max_bytes: int
    min_rate: float  # bytes a second, on the average
    deadline: float  # seconds for the whole body


class Upload:
    """The part named `file` of a request's body."""

    def __init__(self, request: web.Request, options: UploadOptions) -> None:
        self._request = request
        self._max_bytes = options.max_bytes
        self._min_rate = options.min_rate
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + options.deadline
        self._deadline = options.deadline
        self._received = 0
        self._waited = 0.0  # seconds, for the client alone
        self._checksums = Checksums(request.headers.items())
        self._events = self._parse()
        self.filename = ""
        self.content_type: str | None = None

    async def open(self) -> None:
        """Read up to the file's first byte; raises UnsupportedType, Malformed, TooLarge, or Invalid without a file."""
        expect_plain(self._request)
        length = self._request.content_length
        if length is not None and length > self._max_bytes + MAX_OTHER_BYTES:
            raise TooLarge("attachment_too_large", f"A file may have at most {self._max_bytes} bytes.")
        async for event in self._events:
            if isinstance(event, MultipartSegment) and event.name == FIELD:
                self.filename = event.filename or ""
                self.content_type = event.content_type
                self._checksums.expect(event.headerlist)
                return
        raise Invalid("file_missing", "The body has no part named `file`.")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file's bytes; ends only when the whole body was read and proved to be in order.

        Raises Invalid where the client sent a checksum, and the file has another.
        """
        in_file = True
        async for event in self._events:
            if event is None:
                in_file = False
            elif isinstance(event, MultipartSegment):
                if event.name == FIELD:
                    raise Invalid("file_repeated", "The body has more than one part named `file`; send one at a time.")
            elif in_file:
                self._checksums.add_file(event)
                yield event
        self._checksums.verify()

    async def _read(self) -> bytes:
        """What has arrived; raises TooSlow for a client that sends nothing, too little, or takes too long in all."""
        started = self._loop.time()
        left = self._until - started
        try:
            async with asyncio.timeout(min(CHUNK_WITHIN, left)):
                chunk = await self._request.content.readany()
        except TimeoutError:
            if left < CHUNK_WITHIN:
                raise TooSlow("body_too_slow", f"The body did not arrive within {self._deadline:g} s.") from None
            raise TooSlow("body_too_slow", f"Nothing of the body arrived for {CHUNK_WITHIN:g} s.") from None
        self._received += len(chunk)
        self._waited += self._loop.time() - started
        if chunk and self._waited > RATE_AFTER and self._received < self._min_rate * self._waited:
            raise TooSlow("body_too_slow", f"The body must arrive with at least {self._min_rate:g} bytes a second.")
        self._checksums.add_body(chunk)
        return chunk

    async def _parse(self) -> AsyncIterator[MultipartSegment | bytes | None]:
        kind, options = parse_options_header(self._request.headers.get("Content-Type", ""))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise UnsupportedType("unsupported_type", "Send multipart/form-data with a boundary, and a part `file`.")
        received, of_file, in_file = 0, 0, False
        try:
            with PushMultipartParser(
                options["boundary"],
                max_header_size=MAX_HEADER_BYTES,
                max_header_count=MAX_HEADERS,
                max_segment_count=MAX_PARTS,
            ) as parser:
                while chunk := await self._read():
                    received += len(chunk)
                    for event in parser.parse(chunk):
                        if isinstance(event, MultipartSegment):
                            in_file = event.name == FIELD
                            if event.name == ELSEWHERE:
                                raise _misplaced()
                        elif event is not None and in_file:
                            of_file += len(event)
                        yield event
                    if received - of_file > MAX_OTHER_BYTES:
                        raise TooLarge("body_too_large", "There is too much in the body that is not the file.")
        except MultipartError as failure:
            raise Malformed("malformed_multipart", f"The body is not in order: {failure}.") from None


def _misplaced() -> Invalid:
    errors = [FieldError(ELSEWHERE, "belongs into the query, as ?visibility=internal")]
    return Invalid("invalid_request", "Some fields break a rule; `errors` names each.", errors)
