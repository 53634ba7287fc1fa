"""Attachment storage on a local disk or on a volume shared by replicas."""

import asyncio
import errno
import hashlib
import logging
import os
import stat
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from support_service.attachments.storage.base import (
    SHARDS,
    FileInfo,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    check_size,
    storage_unavailable,
)
from support_service.attachments.storage.durable_write import GroupCommitter, PendingFile
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.os_errors import describe_os_error

BLOCK_BYTES = 256 * 1024  # bytes per write or read; each block costs one call in a thread
SPACE_CHECK_BLOCKS = 16  # blocks between checks of the free space
UNFINISHED_FOLDER = "tmp"  # folder of files that are still being uploaded
VOLUME_FILE = ".volume"  # its first line names the volume: a random text of the process that was first to use it
OWN_NAMES = {
    *SHARDS,
    UNFINISHED_FOLDER,
    VOLUME_FILE,
    "lost+found",
}  # names in the root folder that are the service's or the file system's
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The fault of one file, if its folder can be used: a symbolic link, a directory, or lost permissions.
NOT_OUR_FILE_ERRNOS = (errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM)
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class LocalAttachmentStorage:
    """Files below a root folder: `ab/abcd…`, and `tmp/…` during the upload of a file of more than one block.

    `reserve` is the free space in bytes that uploads must leave on the disk; 0 disables the check.
    """

    name = "local"
    reads_back = False

    def __init__(self, root: Path, reserve: int = 0) -> None:
        self._root = root
        self._reserve = reserve
        self._unfinished = root / UNFINISHED_FOLDER
        self._folders = StorageFolders(root)
        self._committer = GroupCommitter(root)

    async def open(self) -> None:
        try:
            await asyncio.to_thread(self._folders.create)
        except OSError as failure:
            raise storage_unavailable(
                "disk", f"Can't use {self._root} (SUPPORT_ATTACHMENT_DIR) for attachments: {describe_os_error(failure)}"
            ) from failure

    async def close(self) -> None:
        self._committer.close()

    async def put(
        self,
        chunks: AsyncIterator[bytes],
        *,
        key: str | None = None,
        size_hint: int = 0,
        response_headers: ResponseHeaders | None = None,  # noqa: ARG002 - a disk can't serve files
    ) -> StoredFile:
        folder, _, name = key.partition("/") if key else (None, "", uuid4().hex)
        if not self._folders.have_folder(folder or name[:2]):
            await _in_thread(self._folders.recreate)
        digest, size, block, blocks, file = hashlib.sha256(), 0, bytearray(), 0, None
        begun_in: str | None = None
        disk_io = True  # an OSError now comes from the disk, not from the stream
        try:
            self._check_space(size_hint)
            try:
                disk_io = False
                async for chunk in chunks:
                    disk_io = True
                    digest.update(chunk)
                    size += len(chunk)
                    block += chunk
                    if len(block) >= BLOCK_BYTES:
                        if file is None:
                            begun_in = UNFINISHED_FOLDER
                            file = await _create_file(self._unfinished / name)
                        await _write_block(file, block)
                        block, blocks = bytearray(), blocks + 1
                        if blocks % SPACE_CHECK_BLOCKS == 0:
                            self._check_space()
                    disk_io = False
                disk_io = True
            finally:
                if file is not None:
                    await file.close()
            # A file smaller than one block needs only this one call in a thread.
            key = await self._finish(PendingFile(name, block, begun_in, folder))
        except BaseException as failure:
            if begun_in is not None:
                with suppress(OSError):  # already gone, or not writable; `delete_unfinished` deletes it later
                    (self._unfinished / name).unlink()
            if disk_io and isinstance(failure, OSError):
                raise (
                    _out_of_space() if failure.errno in DISK_FULL_ERRNOS else _disk_unavailable(failure)
                ) from failure
            raise
        return StoredFile(key, size, digest.hexdigest())

    async def _finish(self, file: PendingFile) -> str:
        folder = self._committer.commit(file)
        try:
            return f"{await _result_despite_cancellation(folder)}/{file.name}"
        except asyncio.CancelledError:  # delete the file that the thread has stored
            with suppress(Unavailable, OSError):
                await self.delete(f"{folder.result()}/{file.name}")
            raise

    async def read(self, key: str, offset: int, length: int, *, size: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            # A file smaller than one block needs only this one call in a thread.
            file, block = await asyncio.to_thread(
                open_and_read_block, self._root / key, offset, min(BLOCK_BYTES, length), size
            )
            with file:
                while length > 0:
                    if not block:
                        raise UnreadableFile("damaged", "The file is shorter than when it was stored.")
                    length -= len(block)
                    yield block
                    block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, length)) if length else b""
        except FileNotFoundError as failure:
            await _in_thread(self._folders.check_root)  # raises Unavailable: no file is missing then
            raise UnreadableFile("missing", "The file is missing from its folder, but its row exists.") from failure
        except OSError as failure:
            if failure.errno in NOT_OUR_FILE_ERRNOS and os.access(self._root / key[:2], os.R_OK | os.X_OK):
                raise UnreadableFile("damaged", f"The file can't be opened: {failure.strerror}.") from failure
            raise _disk_unavailable(failure) from failure

    async def stat(self, key: str) -> FileInfo | None:
        return await _in_thread(stat_file, self._root / key, key)

    async def list(self, prefix: str = "") -> AsyncIterator[FileInfo]:
        for shard in SHARDS:
            if not shard.startswith(prefix[:2]):
                continue
            for found in await _in_thread(self._folders.list_files, shard):
                if found.key.startswith(prefix):
                    yield found

    async def delete(self, key: str) -> None:
        await _in_thread(unlink, self._root / key)

    async def delete_unfinished(self, before: datetime, *, dry_run: bool = False) -> int:
        def delete() -> int:
            old = [found for found in self._folders.list_files(UNFINISHED_FOLDER) if found.changed_at < before]
            for found in () if dry_run else old:
                unlink(self._root / found.key)
            return len(old)

        return await _in_thread(delete)

    async def presigned_url(self, key: str, size: int, seconds: int) -> str | None:  # noqa: ARG002 - a disk has no URLs
        return None

    def free_bytes(self) -> int | None:
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def free_inodes(self) -> float | None:
        disk = os.statvfs(self._root)
        return disk.f_favail / disk.f_files if disk.f_files else None  # 0: such as btrfs

    def volume_number(self) -> int | None:
        return self._folders.volume_number()

    def disk_bytes(self) -> int | None:
        disk = os.statvfs(self._root)
        return disk.f_blocks * disk.f_frsize

    def _check_space(self, size_hint: int = 0) -> None:
        """Raise `storage_full` if `size_hint` bytes would use up the reserve.

        It runs on the event loop: it takes 2 us.
        """
        free = self.free_bytes() if self._reserve else None
        if free is not None and free - size_hint < self._reserve:
            raise _out_of_space()


class StorageFolders:
    """The folders `tmp` and `00` to `ff` below a root. The methods block, and raise OSError if the disk fails."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name = str(root)  # pathlib costs more than the calls in `exist`
        self._identity: tuple[int, int] | None = None

    def create(self) -> None:
        """Create the root and the folders that do not exist. Log a warning if the root has files of others."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._identity = self._current_identity()
        self._create_missing()
        self._warn_of_foreign_files()

    def have_folder(self, folder: str) -> bool:
        """Return whether `tmp` and the folder of a file exist. It runs on the event loop: it takes 3 us."""
        return os.access(f"{self._name}/{UNFINISHED_FOLDER}", os.F_OK) and os.access(f"{self._name}/{folder}", os.F_OK)

    def recreate(self) -> None:
        """Create folders again that another program has removed, such as one that removes empty folders.

        Raises FileNotFoundError like `check_root`.
        """
        self.check_root()
        log.warning("Another program has removed folders from %s; they are created again.", self._root)
        self._create_missing()

    def check_root(self) -> None:
        """Raise FileNotFoundError if the root is missing or another folder than before, such as an unmounted volume."""
        identity = None
        with suppress(FileNotFoundError):
            identity = self._current_identity()
        if identity is None or identity != self._identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._root))

    def volume_number(self) -> int:
        """Return a number that all processes with this volume have in common.

        Raises FileNotFoundError like `check_root`. Processes that write at the same moment append a line each, and the
        first one counts.
        """
        self.check_root()
        with (self._root / VOLUME_FILE).open("a+b") as file:
            file.seek(0)
            if not (name := file.readline()):
                file.write(f"{uuid4().hex}\n".encode())
                file.seek(0)
                name = file.readline()
        return zlib.crc32(name)

    def list_files(self, folder: str) -> list[FileInfo]:
        """Return the files of a folder in the order of keys; none if another program has removed the folder."""
        try:
            with os.scandir(self._root / folder) as entries:
                files = [stat_file(Path(entry.path), f"{folder}/{entry.name}") for entry in entries]
        except FileNotFoundError:
            self.check_root()
            return []
        return sorted((found for found in files if found), key=lambda found: found.key)

    def _current_identity(self) -> tuple[int, int]:
        status = self._root.stat()
        return status.st_dev, status.st_ino

    def _create_missing(self) -> None:
        for name in (UNFINISHED_FOLDER, *SHARDS):
            # The mode: no other user's program reads or deletes attachments.
            (self._root / name).mkdir(mode=0o700, exist_ok=True)

    def _warn_of_foreign_files(self) -> None:
        foreign = sorted(entry.name for entry in self._root.iterdir() if entry.name not in OWN_NAMES)
        if foreign:
            log.warning(
                "%s has %d files or folders of another program, such as %s. If that program moves or deletes old "
                "files, it takes attachments too: give this service a directory of its own.",
                self._root,
                len(foreign),
                foreign[0],
            )


def open_and_read_block(path: Path, offset: int, length: int, size: int | None) -> tuple[FileIO, bytes]:
    """Open a file and return it with the block of `length` bytes at `offset`.

    Raises UnreadableFile if it is not a regular file or, with `size`, does not have that many bytes.
    """
    file = FileIO(path, "rb", opener=_open_without_waiting)
    try:
        _check_regular_file(os.fstat(file.fileno()), size)
        file.seek(offset)
        return file, file.read(length)
    except BaseException:
        file.close()
        raise


def unlink(path: Path) -> None:
    """Delete a file, if it exists.

    An empty directory in its place is deleted, too. One that is not empty stays: the service has not put it there.
    """
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):  # macOS says for a directory that the operation is not permitted
        if not path.is_dir():
            raise
        _remove_directory(path)


def stat_file(path: Path, key: str) -> FileInfo | None:
    """Return the regular file at a path, under the key that is given; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. A symbolic link is not followed, and a pipe is not waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_regular_file(status: os.stat_result, size: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile("damaged", "There is no regular file in its place.")
    check_size(status.st_size, size)


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as failure:
        if failure.errno != errno.ENOTEMPTY:
            raise
        log.error("There is a directory in the place of the file %s; it has content and is not deleted", path)  # noqa: TRY400 - the message suffices


async def _create_file(path: Path) -> AsyncFileIO:
    """Create a file for writing. If this is cancelled, the file is closed."""
    opening = asyncio.ensure_future(aiofiles.open(path, "xb", buffering=0))
    try:
        return await _result_despite_cancellation(opening)
    except asyncio.CancelledError:
        if opening.done() and not opening.cancelled() and not opening.exception():
            await opening.result().close()
        raise


async def _write_block(file: AsyncFileIO, block: bytearray) -> None:
    view = memoryview(block)
    while view:  # an unbuffered write may be partial
        view = view[await _result_despite_cancellation(file.write(view)) :]


async def _result_despite_cancellation(work: Awaitable[Result]) -> Result:
    """Return the result of a thread's work. A cancellation waits for it, because a thread can't be cancelled."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


async def _in_thread(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run `work` in a thread and return its result. Raises Unavailable if the disk fails or is missing."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as failure:
        raise _disk_unavailable(failure) from failure


def _disk_unavailable(failure: OSError) -> SupportError:
    return storage_unavailable("disk", f"The attachment folder can't be used: {failure.strerror}")


def _out_of_space() -> SupportError:
    return problem("storage_full", "There is no room for the file; try again later.")
