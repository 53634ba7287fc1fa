"""One JSON document that is a list of cases, read case by case, so that a file of any size needs little memory."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson

from support_service.core.errors import MalformedRequest
from support_service.importing.entries import Entries, checked

MAX_ELEMENT_BYTES = 16 * 1024 * 1024  # of one element of the list, which is in memory as a whole
BLOCK_BYTES = 64 * 1024


class BoundedReader:
    """A file that counts the bytes read since the last element, and refuses to read a larger one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, empty at the end. Raises MalformedRequest."""
        if self.count > MAX_ELEMENT_BYTES:
            raise MalformedRequest("malformed_json", f"A case of the list has more than {MAX_ELEMENT_BYTES:,} bytes.")
        block = self._file.read(size)
        self.count += len(block)
        return block

    def take_count(self) -> int:
        """Return the number of bytes read since the last call."""
        count, self.count = self.count, 0
        return count


async def read_array(file: BinaryIO) -> Entries:
    """Yield the elements of a list.

    Raises MalformedRequest where the document is not JSON: what follows can't be found.
    """
    reader = BoundedReader(file)
    place = 0
    for place, element in enumerate(_elements(reader), 1):
        yield checked(place, reader.take_count(), element)
    if not place and reader.count == 0:
        raise MalformedRequest("malformed_json", "The file is empty.")


def _elements(reader: BoundedReader) -> Iterator[Any]:
    place = 0
    try:
        for place, element in enumerate(ijson.items(reader, "item", use_float=True, buf_size=BLOCK_BYTES), 1):  # noqa: B007 - named by the error
            yield element
    except (ijson.JSONError, UnicodeDecodeError) as failure:
        text = f"The list is not JSON after {place} cases: {str(failure).partition(chr(10))[0]}."
        raise MalformedRequest("malformed_json", text) from None
