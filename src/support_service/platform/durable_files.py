"""Files that survive a power cut: their bytes are flushed, and then the folder that has their name."""

import io
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from support_service.core.errors import problem

UNFINISHED = ".part"  # the end of the name of a file that is not whole yet


class NewFile:
    """A file that its owner only may read, for a `with` block: PATH.part until `finish` gives it its name, PATH.

    It is deleted without `finish` or `keep`. A process that is killed leaves PATH.part. Raises SupportError if there is
    one, so that no two processes write the same file, and if there is a PATH, unless it `replaces` one.
    """

    def __init__(self, path: Path, *, replaces: bool = False) -> None:
        self.path = path
        self.part = path.with_name(path.name + UNFINISHED)
        self._replaces = replaces
        self._is_unfinished = True

    def __enter__(self) -> Self:
        try:
            self.file = create_file(self.part)
        except FileExistsError:
            text = f"There is a file {self.part} already: another process writes it, or a command has left it"
            raise problem("file_exists", text) from None
        if not self._replaces and os.path.lexists(self.path):  # not before: another process may have given the name
            self.__exit__()
            raise problem("file_exists", f"There is a file {self.path} already: name a new one")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.file.close()  # writes what it buffers, if nothing has flushed it
        finally:
            if self._is_unfinished:
                self.part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Flush the file, and give it its name. A file that has the name is replaced."""
        flush_file(self.file)
        self.part.replace(self.path)
        self._is_unfinished = False
        flush_folder(self.path.parent)

    def keep(self) -> None:
        """Leave the file as PATH.part."""
        self._is_unfinished = False


def create_file(path: Path, *, replaces: bool = False) -> BinaryIO:
    """Create a file that its owner only may read, and whose errors name it.

    Raises FileExistsError, also for a link, unless it `replaces` what is there.
    """
    mode = "w" if replaces else "x"
    return io.BufferedWriter(_NamedInErrors(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600)))


class _NamedInErrors(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as failure:  # such as of a full disk: of a write, the system's error has no name
            failure.filename = str(self.name)
            raise


def flush_file(file: IO[Any]) -> None:
    """Write what a file buffers, and wait until it is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
