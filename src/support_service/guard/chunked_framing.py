"""Framing of a chunked request body, checked as it arrives.

aiohttp notices a malformed chunk, but does not tell the handler that waits for the rest of the body.
"""

import re

MAX_LINE_BYTES = 8192
SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r\n")
SIZE_LINE_BEGINNING = re.compile(rb"(?:[0-9a-fA-F]{1,16}[ \t]*(?:;[^\x00\r\n]*)?\r?)?")
CHUNK_END = b"\r\n"
TRAILER_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t\x20-\x7e\x80-\xff]*(?:\r\n?)?)?|\r\n?")
FRAMING_TRAILER = re.compile(rb"(?:content-length|transfer-encoding):", re.IGNORECASE)  # aiohttp refuses it
MAX_TRAILERS_BYTES = 32 * 1024


class ChunkedFraming:
    """The position in a chunked body: in a line with a size, in data, in the trailers, or behind them."""

    def __init__(self) -> None:
        self._line = b""  # the incomplete line
        self._left = 0  # bytes of data that are left in the chunk
        self._in_chunk = False  # the end of the chunk has not arrived
        self._in_trailers = False  # the last chunk has arrived
        self._trailers_left = MAX_TRAILERS_BYTES
        self._is_complete = False

    def feed(self, data: bytes) -> bool:
        """Return False if the body is malformed up to the end of `data`. Do not call it again after that."""
        at = 0
        while at < len(data) and not self._is_complete:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if not self._read_line():
                return False
        return True

    def _read_line(self) -> bool:
        """Interpret the line, which may be incomplete. Return False if it is invalid."""
        line = self._line
        if self._in_trailers:
            return self._read_trailer(line)
        if self._in_chunk:
            if line == CHUNK_END:
                self._line, self._in_chunk = b"", False
            return CHUNK_END.startswith(line)
        found = SIZE_LINE.fullmatch(line)
        if found is None:
            return len(line) <= MAX_LINE_BYTES and SIZE_LINE_BEGINNING.fullmatch(line) is not None
        self._left = int(found[1], 16)
        self._line, self._in_trailers, self._in_chunk = b"", not self._left, True
        return True

    def _read_trailer(self, line: bytes) -> bool:
        """Interpret a line behind the last chunk: a header, or the empty line at the end."""
        if len(line) > min(MAX_LINE_BYTES, self._trailers_left) or TRAILER_BEGINNING.fullmatch(line) is None:
            return False
        if FRAMING_TRAILER.match(line):
            return False
        if line.endswith(b"\n"):
            self._line, self._trailers_left = b"", self._trailers_left - len(line)
            self._is_complete = line == CHUNK_END
        return True
