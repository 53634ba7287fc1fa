"""A hash of files: a result that was kept says of which files it is."""

import hashlib
import os
from pathlib import Path


def digest_of_sources() -> str:
    """Return a hash of the service and its tests, without the budget: which may change after a run."""
    root = Path(__file__).parents[2]
    return digest(root / "src", root / "tests", without="budget.toml")


def digest(*folders: Path, without: str | None = None) -> str:
    """Return a hash of the names and bytes of all files in folders, without compiled ones and links to folders."""
    found = hashlib.sha256()
    for folder in folders:
        files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
        for file in sorted(file for file in files if file.suffix != ".pyc" and file.name != without):
            found.update(f"{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
