"""JSON Lines: one JSON object per line, each of at most 1 MiB. A line that can't be read does not end the import."""

from collections.abc import Iterator
from typing import BinaryIO

from support_service.cases.model.vocabulary import Json
from support_service.core.errors import MalformedRequest, SupportError
from support_service.guard.json_body import parse_json
from support_service.importing.entries import Entries, Entry

MAX_LINE_BYTES = 1024 * 1024  # without the line's end
BLOCK_BYTES = 256 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def as_it_is(document: Json) -> Json:
    """Return the document: the mapper of the service's own format."""
    return document


async def read_lines(file: BinaryIO) -> Entries:
    """Yield the lines of a file; blank lines are left out."""
    for number, (line, size) in enumerate(_lines(file), 1):
        if line is None:
            text = f"The line has {size:,} bytes; it may have at most {MAX_LINE_BYTES:,}."
            yield Entry(number, size, refusal=MalformedRequest("line_too_long", text))
        elif line.strip():
            yield _parse(number, line, size)


def _parse(number: int, line: bytes, size: int) -> Entry:
    try:
        return Entry(number, size, parse_json(line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line))
    except SupportError as failure:
        return Entry(number, size, refusal=failure)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes | None, int]]:
    """Yield (line, its size in bytes with its end); None for a line that is too long, which is not kept in memory."""
    while line := file.readline(MAX_LINE_BYTES + 2):
        size = len(line)
        if line.endswith(b"\n") or size <= MAX_LINE_BYTES:
            yield (line if len(line.rstrip(b"\r\n")) <= MAX_LINE_BYTES else None), size
            continue
        while not line.endswith(b"\n") and (line := file.readline(BLOCK_BYTES)):
            size += len(line)
        yield None, size
