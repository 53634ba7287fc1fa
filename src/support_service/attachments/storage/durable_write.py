"""Group commit of uploads to a disk: write the rest of each file, make it durable and rename it into its folder.

Files that wait at the same time are finished as one batch. The kernel starts to write all of them before the first
fsync, and the files share a folder, which is synced once. This reduces the cost of an upload by a quarter: it halves
the number of system calls, and a thread must reacquire the GIL after each of them.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

COMMIT_THREADS = 2  # two, so that one slow fsync or one large file does not block other uploads


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file to be made durable and renamed into its folder."""

    path: Path
    unwritten: bytearray  # bytes not written yet
    is_begun: bool  # whether earlier bytes were written
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
        """Make a file durable and rename it into its folder.

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
        if self._waiting[0][0].is_begun:  # a large file is a batch of its own, so that other files need not wait for it
            batch, self._waiting = self._waiting[:1], self._waiting[1:]
        else:
            batch = [each for each in self._waiting if not each[0].is_begun]
            self._waiting = [each for each in self._waiting if each[0].is_begun]
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
    """Make files durable and rename them into their folders. Return the folder or the error of each file."""
    shared = files[0].path.name[:2]
    outcomes: list[CommitOutcome] = [file.folder or shared for file in files]
    written: dict[int, int] = {}  # file descriptor by index
    for index, file in enumerate(files):
        with _recording_errors(outcomes, [index]):
            written[index] = _write(file)
    if len(written) > 1 and hasattr(os, "posix_fadvise"):
        for descriptor in written.values():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # starts writeback without waiting
    for index, descriptor in written.items():
        with _recording_errors(outcomes, [index]):
            _sync_and_rename(descriptor, files[index].path, f"{root}/{outcomes[index]}")
    for folder in {outcome for outcome in outcomes if isinstance(outcome, str)}:
        inside = [index for index, outcome in enumerate(outcomes) if outcome == folder]
        with _recording_errors(outcomes, inside):
            _sync_folder(f"{root}/{folder}", [files[index].path.name for index in inside])
    return outcomes


@contextmanager
def _recording_errors(outcomes: list[CommitOutcome], indexes: Sequence[int]) -> Iterator[None]:
    """Record an OSError as the outcome of the files with these indexes and continue."""
    try:
        yield
    except OSError as failure:
        for index in indexes:
            outcomes[index] = failure


def _write(file: PendingFile) -> int:
    # A begun file that is missing is not created again, because it would lack the bytes written earlier.
    mode = os.O_APPEND if file.is_begun else os.O_CREAT | os.O_EXCL
    descriptor = os.open(file.path, os.O_WRONLY | os.O_CLOEXEC | mode, 0o666)
    try:
        view = memoryview(file.unwritten)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_and_rename(descriptor: int, path: Path, folder: str) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(path, f"{folder}/{path.name}")  # noqa: PTH104 - pathlib costs more than the call


def _sync_folder(folder: str, names: Sequence[str]) -> None:
    """Sync a folder. If that fails, delete the files just renamed into it, because they may not be durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        for name in names:
            with suppress(OSError):
                os.unlink(f"{folder}/{name}")  # noqa: PTH108 - as above
        raise
