"""Files of imported cases, opened below one folder only: no absolute path, no `..`, no symbolic link."""

import errno
import mimetypes
import os
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from support_service.core.errors import FieldError, SupportError, ValidationFailed
from support_service.core.os_errors import describe_os_error

BLOCK_BYTES = 256 * 1024  # bytes per read
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # so that a named pipe does not block


class MissingFile(ValidationFailed):
    """A file that a case names and that does not exist."""


def open_below(folder: Path, path: str) -> BinaryIO:
    """Open a regular file by its path relative to a folder, each part without following symbolic links.

    Raises MissingFile, and ValidationFailed for a path or a file that is not allowed.
    """
    *parents, name = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in (*parents, name)):
        raise _refused(path, "must be a relative path with / between names, without . and ..")
    with ExitStack() as opened:
        try:
            # The folder itself may be a link: the caller chose it.
            descriptor = _close_later(opened, os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for part in parents:
                descriptor = _close_later(opened, os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=descriptor))
            found = os.open(name, _FLAGS, dir_fd=descriptor)
        except FileNotFoundError:
            raise MissingFile("invalid_request", *_reason(path, "does not exist")) from None
        except (OSError, ValueError) as failure:  # ValueError: a lone surrogate
            raise _refused(path, _describe(failure)) from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _refused(path, "is not a regular file")
    return os.fdopen(found, "rb")


async def blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the bytes of a file in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block


def guess_type(filename: str) -> str | None:
    """Return the content type by the end of a filename, or None."""
    return mimetypes.guess_type(filename)[0]


def for_path(path: str, failure: SupportError) -> ValidationFailed:
    """Return an error of a file as that of its case."""
    return ValidationFailed(failure.code, *_reason(path, failure.detail))


def _close_later(opened: ExitStack, descriptor: int) -> int:
    opened.callback(os.close, descriptor)
    return descriptor


def _describe(failure: OSError | ValueError) -> str:
    if isinstance(failure, ValueError):
        return "is not a valid name"
    if failure.errno in (errno.ELOOP, errno.ENOTDIR):
        return "is a symbolic link, or is below one or below a file; only files of the folder itself are read"
    return f"can't be opened: {describe_os_error(failure)}"


def _refused(path: str, reason: str) -> ValidationFailed:
    return ValidationFailed("invalid_request", *_reason(path, reason))


def _reason(path: str, reason: str) -> tuple[str, list[FieldError]]:
    return f"A file of the case can't be read: {path[:200]!r} {reason}", [
        FieldError("attachments", f"{path[:200]!r}: {reason}")
    ]
