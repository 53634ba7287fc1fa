"""The entries of an import, one for each case: read from JSON Lines, or from one JSON list."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import ijson
import pydantic_core

from support_service.core.errors import SupportError, problem
from support_service.core.json_input import MAX_CONTAINERS, MAX_DEPTH
from support_service.guard.json_body import parse_json

MAX_LINE_BYTES = 16 * 1024 * 1024  # without the line's end; a case has at most 4 MiB of messages
BLOCK_BYTES = 256 * 1024  # of one read; the parser of a list begins a string again in each block
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_ELEMENT_BYTES = MAX_LINE_BYTES  # of one element of the list, which is in memory as a whole
DEPTH_CHANGE_BY_EVENT = {
    "start_map": 1,
    "start_array": 1,
    "end_map": -1,
    "end_array": -1,
}  # of the depth, by the parser's event


@dataclass(frozen=True, slots=True)
class KeptIds:
    """Ids that a case and its files keep, the files by their path; all others get new ones."""

    case: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One case in the form of the file or database, or the reason why it can't be read.

    `place` is the number of its line or of its place in the document, from 1. `size` is what it adds to the progress.
    """

    place: int
    size: int
    document: object = None
    refusal: SupportError | None = None
    kept: KeptIds = KeptIds()


Entries = AsyncIterator[Entry]


def checked_entry(place: int, size: int, document: object, kept: KeptIds = KeptIds()) -> Entry:
    """Return an entry with a document that was not parsed by `parse_json`, if it is within the limits of all JSON."""
    try:
        return Entry(place, size, parse_json(pydantic_core.to_json(document, inf_nan_mode="constants")), kept=kept)
    except SupportError as failure:
        return Entry(place, size, refusal=failure)
    except (ValueError, RecursionError):  # nested too deeply to be written
        return Entry(place, size, refusal=problem("malformed_json", "The case is nested too deeply."))


async def read_lines(file: BinaryIO) -> Entries:
    """Yield the lines of a file; blank lines are left out."""
    for number, (line, size) in enumerate(_split_lines(file), 1):
        if line is None:
            text = f"The line has {size:,} bytes; it may have at most {MAX_LINE_BYTES:,}."
            yield Entry(number, size, refusal=problem("line_too_long", text))
        elif line.strip():
            try:
                entry = Entry(number, size, parse_json(line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line))
            except SupportError as failure:
                entry = Entry(number, size, refusal=failure)
            yield entry


def _split_lines(file: BinaryIO) -> Iterator[tuple[bytes | None, int]]:
    """Yield (line, its size in bytes with its end); None for a line that is too long, which is not kept in memory."""
    while line := file.readline(MAX_LINE_BYTES + 2):
        size = len(line)
        if line.endswith(b"\n") or size <= MAX_LINE_BYTES:
            yield (line if len(line.rstrip(b"\r\n")) <= MAX_LINE_BYTES else None), size
            continue
        while not line.endswith(b"\n") and (line := file.readline(BLOCK_BYTES)):
            size += len(line)
        yield None, size


class BoundedReader:
    """A file that counts the bytes read since the last element, and refuses to read a larger one."""

    def __init__(self, file: BinaryIO, max_element_bytes: int) -> None:
        self._file = file
        self._max_element_bytes = max_element_bytes
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises ValidationFailed."""
        most = self._max_element_bytes
        if self.count > most:
            raise problem("malformed_json", f"A case of the list has more than {most:,} bytes.")
        block = self._file.read(size)
        self.count += len(block)
        return block

    def take_element_size(self) -> int:
        """Return the number of bytes read since the last call."""
        count, self.count = self.count, 0
        return count


async def read_array(file: BinaryIO, *, max_element_bytes: int = MAX_ELEMENT_BYTES) -> Entries:
    """Yield the elements of a list.

    Raises ValidationFailed where the document is not JSON: what follows can't be found.
    """
    reader = BoundedReader(file, max_element_bytes)
    place = 0
    for place, element in enumerate(_parse_elements(reader), 1):
        size = reader.take_element_size()
        yield (
            Entry(place, size, refusal=element)
            if isinstance(element, SupportError)
            else checked_entry(place, size, element)
        )
    if not place and reader.count == 0:
        raise problem("malformed_json", "The file is empty.")


def _parse_elements(reader: BoundedReader) -> Iterator[object]:
    """Yield each element, or why it is refused. It is built from the parser's events until it exceeds a limit."""
    place = 0
    depth = -1  # of the place in an element: the list itself is around it
    containers, built = 0, ijson.ObjectBuilder()
    refusal: SupportError | None = None
    try:
        for event, value in ijson.basic_parse(reader, use_float=True, buf_size=BLOCK_BYTES):
            step = DEPTH_CHANGE_BY_EVENT.get(event, 0)
            depth += step
            if depth < 0 or (depth == 0 and step == 1):  # the list ends or begins
                continue
            containers += step == 1
            refusal = refusal or _limit_refusal(depth, containers)
            if refusal is None:
                built.event(event, value)
            if depth == 0:
                place += 1
                yield refusal or built.value
                containers, built, refusal = 0, ijson.ObjectBuilder(), None
    except (ijson.JSONError, UnicodeDecodeError) as failure:
        text = f"The list is not JSON after {place} cases: {_first_line_of_error(failure)}."
        raise problem("malformed_json", text) from None


def _first_line_of_error(failure: ijson.JSONError | UnicodeDecodeError) -> str:
    """Return why the parser ended; further lines quote the file. The text is bytes where those are not UTF-8."""
    text = failure.args[0]
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(failure)).partition("\n")[0].rstrip(".")


def _limit_refusal(depth: int, containers: int) -> SupportError | None:
    """Return the refusal of a case beyond the limits of all JSON: it must not become objects in the memory first."""
    if depth > MAX_DEPTH:
        return problem("malformed_json", f"The case is nested deeper than {MAX_DEPTH} levels, the limit.")
    if containers > MAX_CONTAINERS:
        text = f"The case has more than {MAX_CONTAINERS:,} objects and lists, the limit."
        return problem("malformed_json", text)
    return None
