"""The memory of large objects goes back to the system, also if small ones that stay were created between them."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

KIB = 1024
LARGE, SMALL, COUNT = 400 * KIB, 40 * KIB, 200
CODE = f"""
import resource
from support_service import server
{{}}
bytearray({LARGE})
large, small = [], []
for _ in range({COUNT}):
    large.append(b"x" * {LARGE})
    small.append(b"x" * {SMALL})
large.clear()
print(int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize())
"""


def resident(statement):
    """Return the resident memory of a process that executes the statement and frees large objects, in bytes."""
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_memory_of_large_objects_is_returned():
    assert resident("server.return_freed_memory()") < resident("pass") - LARGE * COUNT / 2
