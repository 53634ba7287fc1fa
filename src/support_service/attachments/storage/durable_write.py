"""The end of an upload to a disk: a file whose bytes are all there is made durable and gets its place.

Files that wait at the same time are finished together. The disk is told of all of them before anyone waits for it, and
they share a folder, which is flushed once. That takes a quarter off what an upload costs: half the system calls are
gone, and after each of them a thread has to win back the interpreter's lock.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

THREADS = 2  # the second is for the others' sake while one waits for a slow disk, or for a large file


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that has to be finished."""

    path: Path
    rest: bytearray  # what is not written yet
    begun: bool  # whether anything was
    folder: str | None  # where its place is; None for wherever it suits


Place = tuple[Unfinished, asyncio.Future[str]]
Outcome = str | OSError


class Finisher:
    """Finishes files below a root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="attachments")
        self._at_work = 0
        self._waiting: list[Place] = []

    def finish(self, file: Unfinished) -> asyncio.Future[str]:
        """Make a file durable and give it its place; the result is its folder, or an OSError and nothing in place."""
        folder: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((file, folder))
        if self._at_work < THREADS:
            self._begin()
        return folder

    def close(self) -> None:
        """Let what has begun be finished."""
        self._threads.shutdown()

    def _begin(self) -> None:
        if self._waiting[0][0].begun:  # a large file takes its own time, and nobody else's
            batch, self._waiting = self._waiting[:1], self._waiting[1:]
        else:
            batch = [each for each in self._waiting if not each[0].begun]
            self._waiting = [each for each in self._waiting if each[0].begun]
        self._at_work += 1
        files = [file for file, _ in batch]
        finishing = asyncio.get_running_loop().run_in_executor(self._threads, _finish, str(self._root), files)
        finishing.add_done_callback(partial(self._done, [folder for _, folder in batch]))

    def _done(self, folders: Sequence[asyncio.Future[str]], finishing: asyncio.Future[list[Outcome]]) -> None:
        self._at_work -= 1
        if self._waiting:
            self._begin()
        failure = finishing.exception()
        for folder, outcome in zip(folders, [failure] * len(folders) if failure else finishing.result(), strict=True):
            if isinstance(outcome, str):
                folder.set_result(outcome)
            else:
                folder.set_exception(outcome)


def _finish(root: str, files: Sequence[Unfinished]) -> list[Outcome]:
    """Make files durable and give them their places; gives the folder of each, or what went wrong with it."""
    shared = files[0].path.name[:2]
    outcomes: list[Outcome] = [file.folder or shared for file in files]
    written: dict[int, int] = {}  # the descriptor of each file
    for number, file in enumerate(files):
        with _noted(outcomes, [number]):
            written[number] = _write(file)
    if len(written) > 1 and hasattr(os, "posix_fadvise"):
        for descriptor in written.values():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to flush, and waits for nothing
    for number, descriptor in written.items():
        with _noted(outcomes, [number]):
            _put_in_place(descriptor, files[number].path, f"{root}/{outcomes[number]}")
    for folder in {outcome for outcome in outcomes if isinstance(outcome, str)}:
        inside = [number for number, outcome in enumerate(outcomes) if outcome == folder]
        with _noted(outcomes, inside):
            _flush(f"{root}/{folder}", [files[number].path.name for number in inside])
    return outcomes


@contextmanager
def _noted(outcomes: list[Outcome], numbers: Sequence[int]) -> Iterator[None]:
    """Take down what goes wrong with some of the files; the others go on."""
    try:
        yield
    except OSError as failure:
        for number in numbers:
            outcomes[number] = failure


def _write(file: Unfinished) -> int:
    # A file that was begun and is gone from its folder is never made anew: it would lack what was written before.
    mode = os.O_APPEND if file.begun else os.O_CREAT | os.O_EXCL
    descriptor = os.open(file.path, os.O_WRONLY | os.O_CLOEXEC | mode, 0o666)
    try:
        view = memoryview(file.rest)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _put_in_place(descriptor: int, path: Path, folder: str) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(path, f"{folder}/{path.name}")  # noqa: PTH104 - pathlib costs more than the call


def _flush(folder: str, names: Sequence[str]) -> None:
    """Make the places of files durable, or take them away again: a file that may not be durable is none."""
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
