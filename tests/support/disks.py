"""Disks that are full soon."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder, size):
    """A file system of its own with so many bytes. The test is skipped where none can be mounted, and says why."""
    place = folder / "disk"
    place.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk needs the program mount")
    except subprocess.CalledProcessError as refused:
        reason, *_ = refused.stderr.splitlines()
        pytest.skip(f"a small disk cannot be mounted here: {reason}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
