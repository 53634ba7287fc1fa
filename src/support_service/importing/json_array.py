"""One JSON document that is a list of cases, read case by case, so that a file of any size needs little memory."""

from collections.abc import Iterator
from typing import BinaryIO

import ijson

from support_service.core.errors import MalformedRequest
from support_service.core.json_input import MAX_CONTAINERS, MAX_DEPTH
from support_service.importing.entries import Entries, Entry, checked

MAX_ELEMENT_BYTES = 16 * 1024 * 1024  # of one element of the list, which is in memory as a whole
BLOCK_BYTES = 256 * 1024  # the parser begins a string again in each block
STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}  # of the depth, by the parser's event


class BoundedReader:
    """A file that counts the bytes read since the last element, and refuses to read a larger one."""

    def __init__(self, file: BinaryIO, max_element_bytes: int) -> None:
        self._file = file
        self._max_element_bytes = max_element_bytes
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises MalformedRequest."""
        most = self._max_element_bytes
        if self.count > most:
            raise MalformedRequest("malformed_json", f"A case of the list has more than {most:,} bytes.")
        block = self._file.read(size)
        self.count += len(block)
        return block

    def take_count(self) -> int:
        """Return the number of bytes read since the last call."""
        count, self.count = self.count, 0
        return count


async def read_array(file: BinaryIO, *, max_element_bytes: int = MAX_ELEMENT_BYTES) -> Entries:
    """Yield the elements of a list.

    Raises MalformedRequest where the document is not JSON: what follows can't be found.
    """
    reader = BoundedReader(file, max_element_bytes)
    place = 0
    for place, element in enumerate(_elements(reader), 1):
        size = reader.take_count()
        yield (
            Entry(place, size, refusal=element)
            if isinstance(element, MalformedRequest)
            else checked(place, size, element)
        )
    if not place and reader.count == 0:
        raise MalformedRequest("malformed_json", "The file is empty.")


def _elements(reader: BoundedReader) -> Iterator[object]:
    """Yield each element, or why it is refused. It is built from the parser's events until it exceeds a limit."""
    place = 0
    depth = -1  # of the place in an element: the list itself is around it
    containers, built = 0, ijson.ObjectBuilder()
    refusal: MalformedRequest | None = None
    try:
        for event, value in ijson.basic_parse(reader, use_float=True, buf_size=BLOCK_BYTES):
            step = STEPS.get(event, 0)
            depth += step
            if depth < 0 or (depth == 0 and step == 1):  # the list ends or begins
                continue
            containers += step == 1
            refusal = refusal or _exceeded(depth, containers)
            if refusal is None:
                built.event(event, value)
            if depth == 0:
                place += 1
                yield refusal or built.value
                containers, built, refusal = 0, ijson.ObjectBuilder(), None
    except (ijson.JSONError, UnicodeDecodeError) as failure:
        text = f"The list is not JSON after {place} cases: {_first_line(failure)}."
        raise MalformedRequest("malformed_json", text) from None


def _first_line(failure: ijson.JSONError | UnicodeDecodeError) -> str:
    """Return why the parser ended; further lines quote the file. The text is bytes where those are not UTF-8."""
    text = failure.args[0]
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(failure)).partition("\n")[0].rstrip(".")


def _exceeded(depth: int, containers: int) -> MalformedRequest | None:
    """Return the refusal of a case beyond the limits of all JSON: it must not become objects in the memory first."""
    if depth > MAX_DEPTH:
        return MalformedRequest("malformed_json", f"The case is nested deeper than {MAX_DEPTH} levels, the limit.")
    if containers > MAX_CONTAINERS:
        text = f"The case has more than {MAX_CONTAINERS:,} objects and lists, the limit."
        return MalformedRequest("malformed_json", text)
    return None
