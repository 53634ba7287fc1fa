"""A hash of files: a result that was kept says of which files it is."""

import hashlib
import os
from pathlib import Path

SOURCES = [Path(__file__).parents[2] / name for name in ("src", "tests")]
BUDGET = "budget.toml"  # may change after a run: the run is compared with it


def digest(*folders: Path) -> str:
    """Return a hash of the names and bytes of all files in folders, without compiled ones and links to folders."""
    found = hashlib.sha256()
    for folder in folders:
        files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
        for file in sorted(file for file in files if file.suffix != ".pyc" and file.name != BUDGET):
            found.update(f"{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
