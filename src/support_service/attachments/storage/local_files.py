"""Calls of the file system for files that are stored locally. They block, and raise OSError: call them in threads."""

import errno
import logging
import os
import stat
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from support_service.attachments.storage.base import FileInfo, UnreadableFile, expect_size

log = logging.getLogger(__name__)


def open_at(path: Path, offset: int, length: int, size: int | None) -> tuple[FileIO, bytes]:
    """Open a file and return it with the block of `length` bytes at `offset`.

    Raises UnreadableFile if it is not a regular file or, with `size`, does not have that many bytes.
    """
    file = FileIO(path, "rb", opener=_open_without_waiting)
    try:
        _expect_regular(os.fstat(file.fileno()), size)
        file.seek(offset)
        return file, file.read(length)
    except BaseException:
        file.close()
        raise


def _expect_regular(status: os.stat_result, size: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile("damaged", "There is no regular file in its place.")
    expect_size(status.st_size, size)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. A symbolic link is not followed, and a pipe is not waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


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


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as failure:
        if failure.errno != errno.ENOTEMPTY:
            raise
        log.error("There is a directory in the place of the file %s; it has content and is not deleted", path)  # noqa: TRY400 - the message suffices


def stat_file(path: Path, key: str) -> FileInfo | None:
    """Return the regular file at a path, under the key that is given; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
