"""Files that are sent: their bytes in blocks, their SHA-256, and the form that carries them."""

import asyncio
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiofiles
import aiohttp

BLOCK_BYTES = 256 * 1024  # bytes per write
UNKNOWN_TYPE = "application/octet-stream"

Progress = Callable[[int, int], object]
"""Called with the bytes that were sent and their total; after a failed attempt it starts again at 0."""


@dataclass(frozen=True, slots=True)
class FileToSend:
    """A file, or bytes, with what is sent beside them; `sha256` is in hex."""

    content: Path | bytes
    filename: str
    content_type: str
    size_bytes: int
    sha256: str

    @classmethod
    async def prepare(
        cls, file: str | os.PathLike[str] | bytes, filename: str | None, content_type: str | None
    ) -> Self:
        """Return a file with its size and SHA-256. Raises OSError."""
        content = file if isinstance(file, bytes) else Path(file)
        size, digest = await asyncio.to_thread(_measure, content)
        name = filename or ("file" if isinstance(content, bytes) else content.name)
        kind = content_type or mimetypes.guess_type(name)[0] or UNKNOWN_TYPE
        return cls(content, printable(name) or "file", kind, size, digest)

    def form(self, sent: Progress, failures: list[Exception]) -> aiohttp.MultipartWriter:
        """Return a form with the file and its checksum; `sent` is called after each block.

        An error of the file, or of `sent`, is added to `failures`: the caller gets it as one of the connection.
        """
        form = aiohttp.MultipartWriter("form-data")
        part = form.append_payload(_SizedBlocks(self._blocks(sent, failures), self.size_bytes, self.content_type))
        part.set_content_disposition("form-data", quote_fields=False, name="file", filename=self.filename)
        part.headers["X-Checksum-Sha256"] = self.sha256
        return form

    async def _blocks(self, sent: Progress, failures: list[Exception]) -> AsyncIterator[bytes]:
        done = 0
        try:
            async for block in self._read():
                yield block
                done += len(block)
                sent(done, self.size_bytes)
        except Exception as failure:
            failures.append(failure)
            raise

    async def _read(self) -> AsyncIterator[bytes]:
        if isinstance(self.content, bytes):
            for start in range(0, len(self.content), BLOCK_BYTES):
                yield self.content[start : start + BLOCK_BYTES]
            return
        async with aiofiles.open(self.content, "rb") as file:
            while block := await file.read(BLOCK_BYTES):
                yield block


class _SizedBlocks(aiohttp.payload.AsyncIterablePayload):
    """Blocks with their total size, so that the request has a Content-Length."""

    def __init__(self, blocks: AsyncIterator[bytes], size_bytes: int, content_type: str) -> None:
        super().__init__(blocks, content_type=content_type)
        self._size = size_bytes


def printable(name: str) -> str:
    """Return a file name as valid UTF-8 on one line, as headers and terminals require."""
    readable = os.fsencode(name).decode(errors="replace")
    return "".join(character for character in readable if character.isprintable())


def _measure(content: Path | bytes) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256."""
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        digest: Any = hashlib.file_digest(file, "sha256")
        return os.fstat(file.fileno()).st_size, digest.hexdigest()
