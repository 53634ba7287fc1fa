"""Detection of a database file that was deleted or replaced while it is open.

SQLite keeps the files open: it would go on to write to the deleted ones, and every change would be lost.
"""

import os
from pathlib import Path

from support_service.core.errors import Unavailable
from support_service.platform.database.failures import DATABASE_FILE_CHANGED

WAL_SUFFIX = "-wal"


class FileIdentity:
    """The identities (device and inode) of an open database file and of its write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = (str(path), f"{path}{WAL_SUFFIX}")
        self._identities: list[tuple[int, int]] = []

    def remember(self) -> None:
        """Remember which files are open; call it after the first read, which opens the log. Raises OSError."""
        self._identities = [self._identity(name) for name in self._names]

    def check(self) -> None:
        """Raise Unavailable with the code DATABASE_FILE_CHANGED if other files have the names now, or none has.

        It takes 4 us. Before `remember` it does nothing.
        """
        if not self._identities:
            return
        try:
            unchanged = [self._identity(name) for name in self._names] == self._identities
        except OSError:
            unchanged = False
        if not unchanged:
            raise Unavailable(
                DATABASE_FILE_CHANGED,
                f"{self._path} or its {WAL_SUFFIX} file was deleted or replaced while it is open: nothing is written "
                "until the files are back, or the service is restarted.",
            )

    @staticmethod
    def _identity(name: str) -> tuple[int, int]:
        status = os.stat(name)  # noqa: PTH116 - pathlib costs more than the call
        return status.st_dev, status.st_ino
