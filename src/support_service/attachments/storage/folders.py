"""The folders of the local storage: their creation, their files, and their repair if another program removes them."""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from support_service.attachments.storage.base import SHARDS, FileInfo
from support_service.attachments.storage.local_files import stat_file

UNFINISHED = "tmp"  # folder of files that are still being uploaded
OWN_NAMES = {*SHARDS, UNFINISHED, "lost+found"}  # names in the root folder that are the service's or the file system's

log = logging.getLogger(__name__)


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

    def exist(self, folder: str) -> bool:
        """Return whether `tmp` and the folder of a file exist. It runs on the event loop: it takes 3 us."""
        return os.access(f"{self._name}/{UNFINISHED}", os.F_OK) and os.access(f"{self._name}/{folder}", os.F_OK)

    def restore(self) -> None:
        """Create folders again that another program has removed, such as one that removes empty folders.

        Raises FileNotFoundError like `expect_root`.
        """
        self.expect_root()
        log.warning("Another program has removed folders from %s; they are created again.", self._root)
        self._create_missing()

    def expect_root(self) -> None:
        """Raise FileNotFoundError if the root is missing or another folder than before, such as an unmounted volume."""
        identity = None
        with suppress(FileNotFoundError):
            identity = self._current_identity()
        if identity is None or identity != self._identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._root))

    def list_files(self, folder: str) -> list[FileInfo]:
        """Return the files of a folder in the order of keys; none if another program has removed the folder."""
        try:
            with os.scandir(self._root / folder) as entries:
                files = [stat_file(Path(entry.path), f"{folder}/{entry.name}") for entry in entries]
        except FileNotFoundError:
            self.expect_root()
            return []
        return sorted((found for found in files if found), key=lambda found: found.key)

    def _current_identity(self) -> tuple[int, int]:
        status = self._root.stat()
        return status.st_dev, status.st_ino

    def _create_missing(self) -> None:
        for name in (UNFINISHED, *SHARDS):
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
