"""Files that survive a power cut: their bytes are flushed, and then the folder that has their name."""

import os
from pathlib import Path
from typing import IO, Any


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


def name_durably(flushed: Path, path: Path) -> None:
    """Give a flushed file its name in the same folder. A file that has the name is replaced."""
    flushed.replace(path)
    flush_folder(path.parent)
