"""What only a local disk has: folders, limits of the system, and a thread that makes files durable."""

import os
import subprocess
import sys

import pytest

from support_service.attachments.storage.local import BLOCK_BYTES, LocalAttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream
from tests.support.calls import stored_files
from tests.support.disks import small_disk


@pytest.mark.parametrize("size", [10, 3 * BLOCK_BYTES])
@pytest.mark.usefixtures("processes")
async def test_file_size_limit_of_the_system_is_out_of_space(tmp_path, size):
    """No file is left."""
    assert _put_with_limit(tmp_path, size, limit=size // 2) == "storage_full []"


@pytest.mark.parametrize("size", [50_000, 3_000_000])
@pytest.mark.usefixtures("processes")
async def test_real_full_disk_is_out_of_space(tmp_path, size):
    """It fills up in the middle of a file. Afterwards files are stored again."""
    with small_disk(tmp_path, 1_000_000) as disk:
        storage = LocalAttachmentStorage(disk)
        await storage.open()
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (storage.free_bytes() - 20_000))
        with pytest.raises(Unavailable, match="no room"):
            await storage.put(stream(os.urandom(size)))
        assert stored_files(disk) == [ballast]
        ballast.unlink()
        inodes = storage.free_inodes()
        stored = await storage.put(stream(b"hello"))
        assert 0 < storage.free_inodes() < inodes <= 1
        assert await read(storage, stored.key, 0, 5) == b"hello"
        await storage.close()


def _put_with_limit(folder, size, limit):
    """Put bytes in a process that may not write files of more than `limit` bytes."""
    script = f"""
import asyncio, pathlib, resource
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.core.errors import Unavailable

async def main():
    storage = LocalAttachmentStorage(pathlib.Path({str(folder)!r}))
    await storage.open()
    async def stream():
        for _ in range({size} // 10):
            yield b"x" * 10
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    try:
        await storage.put(stream())
    except Unavailable as full:
        print(full.code, [path for path in pathlib.Path({str(folder)!r}).rglob("*") if path.is_file()])

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()
