"""The body of a large answer, which reaches the transport in slices.

aiohttp copies a whole body behind the headers. The transport keeps that copy until the client has read its last byte,
also if the kernel has taken most of it; and the answer keeps the original meanwhile.
"""

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter

SLICE_BYTES = 256 * 1024  # as many as a block of a file


class SlicedBody(Payload):
    """A body of bytes: the transport keeps at most one slice, and what it takes before the writer has to wait."""

    _autoclose = True

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(body, content_type=content_type)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body slice by slice, each as soon as the client has read most of the one before."""
        for start in range(0, len(self._value), SLICE_BYTES):
            await writer.write(self._value[start : start + SLICE_BYTES])
