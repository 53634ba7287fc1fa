"""Where the bytes of attachments lie: on a local disk, under generated keys."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiofiles
import aiofiles.os

from support_service.errors import OutOfSpace, Unavailable

BLOCK = 256 * 1024  # bytes written or read at once; each block costs a hop to a thread
SHARDS = 256  # folders, so that none grows too large to list
# Threads that make files durable. Each system call gives up the interpreter's lock and has to win it back, so that more
# threads store no more files a second, and burn a fifth more CPU on each; the second is for the others' sake while one
# waits for a slow disk.
FINISHERS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is safely kept; `sha256` is in hex."""

    key: str
    size: int
    sha256: str


class LocalAttachmentStorage:
    """Files below a root folder: `ab/abcd…` once they are whole and durable, `tmp/…` until then."""

    name = "local"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unfinished = root / "tmp"
        self._finishers = ThreadPoolExecutor(FINISHERS, thread_name_prefix="attachments")

    async def open(self) -> None:
        """Make the folders, so that no upload has to."""

        def prepare() -> None:
            self._unfinished.mkdir(parents=True, exist_ok=True)
            for shard in range(SHARDS):
                (self._root / f"{shard:02x}").mkdir(exist_ok=True)

        try:
            await asyncio.to_thread(prepare)
        except OSError as failure:
            raise Unavailable("storage_unavailable", f"Can't use {self._root} for attachments: {failure}") from failure

    async def close(self) -> None:
        """Let the files that are nearly done be finished."""
        self._finishers.shutdown()

    async def put(self, chunks: AsyncIterator[bytes]) -> Stored:
        """Keep a stream of bytes, hashed and counted on the way; the file is durable once this returns.

        Whatever ends the stream early (an error, a client that leaves, a cancelled task) leaves nothing behind. Raises
        OutOfSpace when the disk or a quota is full.
        """
        name = uuid4().hex
        key = f"{name[:2]}/{name}"
        unfinished = self._unfinished / name
        digest, size, block = hashlib.sha256(), 0, bytearray()
        try:
            async with AsyncExitStack() as stack:
                file = None
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    block += chunk
                    if len(block) >= BLOCK:
                        if file is None:
                            file = await stack.enter_async_context(aiofiles.open(unfinished, "xb", buffering=0))
                        view = memoryview(block)
                        while view:  # an unbuffered write may take less than it is given
                            view = view[await file.write(view) :]
                        block = bytearray()
            # A file of less than a block needs this one hop to a thread and no other.
            await self._finish(block, unfinished, self._root / key)
        except BaseException as failure:
            with suppress(FileNotFoundError):
                unfinished.unlink()
            if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OutOfSpace("storage_full", "There is no room for the file; try again later.") from failure
            raise
        return Stored(key, size, digest.hexdigest())

    async def _finish(self, rest: bytes | bytearray, unfinished: Path, place: Path) -> None:
        finishing = asyncio.get_running_loop().run_in_executor(self._finishers, _finish, rest, unfinished, place)
        try:
            await asyncio.shield(finishing)
        except asyncio.CancelledError:
            await asyncio.wait([finishing])  # a thread can't be stopped: what it has put in place is taken back
            await self.delete(str(place.relative_to(self._root)))
            raise

    async def read(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from an offset on, block by block; raises Unavailable where the file is missing or too short."""
        try:
            async with aiofiles.open(self._root / key, "rb", buffering=0) as file:
                await file.seek(offset)
                while length > 0:
                    block = await file.read(min(BLOCK, length))
                    if not block:
                        raise Unavailable("attachment_unreadable", "The file is shorter than it was when it was kept.")
                    length -= len(block)
                    yield block
        except OSError as failure:
            raise Unavailable("attachment_unreadable", "The file can't be read; its row is still there.") from failure

    async def delete(self, key: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            await aiofiles.os.unlink(self._root / key)


def _finish(rest: bytes | bytearray, unfinished: Path, place: Path) -> None:
    """Write what is left, make the file durable, and give it its place."""
    with unfinished.open("ab", buffering=0) as file:
        view = memoryview(rest)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    unfinished.rename(place)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
