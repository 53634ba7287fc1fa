"""What a storage of attachments does. Each implementation passes these tests; the local disk is the first."""

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import threading

import pytest

from support_service.attachments.storage import BLOCK, LocalAttachmentStorage
from support_service.errors import OutOfSpace, Unavailable
from tests.calls import eventually, files

SIZES = [1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7]


@pytest.fixture
async def storage(tmp_path):
    """An open storage."""
    storage = LocalAttachmentStorage(tmp_path)
    await storage.open()
    return storage


async def stream(data, size=65_536):
    """Bytes as an upload brings them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(storage, key, offset, length):
    """All that a read gives."""
    return b"".join([block async for block in storage.read(key, offset, length)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [1000, 65_536, 1_000_000])
async def test_what_goes_in_comes_out(storage, tmp_path, size, chunk):
    """A stream of any size, in chunks of any size, is kept, counted, hashed and given back."""
    data = os.urandom(size)
    stored = await storage.put(stream(data, chunk))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await read(storage, stored.key, 0, size) == data
    assert files(tmp_path) == [tmp_path / stored.key]


async def test_a_part_can_be_read(storage):
    """A read gives the bytes from its offset on, as many as it asks for."""
    data = os.urandom(2 * BLOCK)
    stored = await storage.put(stream(data))
    for offset, length in ((0, 1), (BLOCK - 1, 2), (BLOCK + 5, BLOCK - 5), (2 * BLOCK - 1, 1)):
        assert await read(storage, stored.key, offset, length) == data[offset : offset + length]


async def test_keys_are_never_the_same(storage):
    """The same bytes twice are two files."""
    keys = {(await storage.put(stream(b"same"))).key for _ in range(20)}
    assert len(keys) == 20


async def test_a_deleted_file_is_gone(storage, tmp_path):
    """A deleted file can't be read; deleting it again is no error."""
    stored = await storage.put(stream(b"hello"))
    await storage.delete(stored.key)
    await storage.delete(stored.key)
    assert files(tmp_path) == []
    with pytest.raises(Unavailable):
        await read(storage, stored.key, 0, 5)


async def test_a_file_that_is_shorter_than_it_was(storage, tmp_path):
    """A file that lost bytes is an error, never a short answer."""
    stored = await storage.put(stream(b"hello"))
    (tmp_path / stored.key).write_bytes(b"he")
    with pytest.raises(Unavailable):
        await read(storage, stored.key, 0, 5)


@pytest.mark.parametrize("sent", [0, 10, BLOCK, 3 * BLOCK])
async def test_an_error_in_the_stream_leaves_nothing(storage, tmp_path, sent):
    """Whatever breaks the stream comes out of it as it is, and no byte stays."""

    async def broken():
        async for chunk in stream(b"x" * sent):
            yield chunk
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await storage.put(broken())
    assert files(tmp_path) == []


@pytest.mark.parametrize("sent", [0, 10, BLOCK, 3 * BLOCK])
async def test_a_put_that_is_cancelled_in_the_stream_leaves_nothing(storage, tmp_path, sent):
    """A task that is cancelled while it waits for bytes leaves nothing."""
    waiting = asyncio.Event()

    async def endless():
        async for chunk in stream(b"x" * sent):
            yield chunk
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(storage.put(endless()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


@pytest.mark.parametrize("moment", ["file", "folder"])
async def test_a_put_that_is_cancelled_at_its_end_leaves_nothing(storage, tmp_path, monkeypatch, moment):
    """A task that is cancelled while its file is made durable leaves nothing, though a thread is at work on it."""
    at_work, go_on, done = threading.Event(), threading.Event(), threading.Event()
    fsync, rounds = os.fsync, []

    def slow(descriptor):
        rounds.append(descriptor)
        if len(rounds) == {"file": 1, "folder": 2}[moment]:
            at_work.set()
            go_on.wait(10)
            done.set()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    task = asyncio.create_task(storage.put(stream(b"hello")))
    await eventually(at_work.is_set)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(done.is_set)
    await eventually(lambda: files(tmp_path) == [])


async def test_a_folder_that_can_not_be_made(tmp_path):
    """A place that is no folder is said to be unusable, at the start."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable):
        await LocalAttachmentStorage(tmp_path / "file").open()


@pytest.mark.parametrize("size", [10, 3 * BLOCK])
async def test_a_limit_of_the_system(tmp_path, size):
    """A file that may not grow any more is OutOfSpace, and leaves nothing."""
    assert _put_with_limit(tmp_path, size, limit=size // 2) == "storage_full []"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk(storage, tmp_path, monkeypatch, code):
    """A disk without room, or a quota that is reached, is OutOfSpace, and leaves nothing."""

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpace) as refusal:
        await storage.put(stream(b"hello"))
    assert refusal.value.code == "storage_full"
    assert files(tmp_path) == []


def _put_with_limit(folder, size, limit):
    """Put bytes in a process that may not write files of more than `limit` bytes."""
    script = f"""
import asyncio, pathlib, resource
from support_service.attachments.storage import LocalAttachmentStorage
from support_service.errors import OutOfSpace

async def main():
    storage = LocalAttachmentStorage(pathlib.Path({str(folder)!r}))
    await storage.open()
    async def stream():
        for _ in range({size} // 10):
            yield b"x" * 10
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    try:
        await storage.put(stream())
    except OutOfSpace as full:
        print(full.code, [path for path in pathlib.Path({str(folder)!r}).rglob("*") if path.is_file()])

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()
