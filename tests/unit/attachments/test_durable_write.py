"""Files that wait at the same time are made durable together, and each has its own luck."""

import asyncio
import errno
import os
import threading
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from support_service.attachments.storage.base import KEY_PATTERN
from support_service.attachments.storage.durable_write import COMMIT_THREADS
from support_service.attachments.storage.local import BLOCK_BYTES
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream
from tests.support.calls import GENEROUS_TIMEOUT, eventually, stored_files

TOGETHER = 10
FIRST, SHARED = "00", "ab"  # folders


@pytest.fixture
async def held(storage, monkeypatch):
    """Keeps the storage's threads busy until the event is set; and the names of what it flushes."""
    go_on, flushed, fsync = threading.Event(), [], os.fsync

    def slow(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        go_on.wait(6 * GENEROUS_TIMEOUT)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    first = []
    for number in range(COMMIT_THREADS):
        first.append(asyncio.create_task(storage.put(stream(b"first"), key=f"{FIRST}/{number:032x}")))
        await eventually(lambda number=number: len(flushed) == number + 1)
    numbers = count()
    monkeypatch.setattr(
        "support_service.attachments.storage.local.uuid4", lambda: UUID(f"{SHARED}{next(numbers):030x}")
    )
    yield go_on, flushed
    go_on.set()
    await asyncio.gather(*first)


async def put(storage, number):
    return await storage.put(stream(f"file {number}".encode()))


async def begun(storage, number):
    """Begin puts of so many small files. Return them once all of them wait to be finished."""
    taken = []

    async def noting(each):
        async for chunk in stream(f"file {each}".encode()):
            yield chunk
        taken.append(each)  # after its last byte a put of a small file does nothing but wait

    puts = [asyncio.create_task(storage.put(noting(each))) for each in range(number)]
    await eventually(lambda: len(taken) == number)
    return puts


async def test_waiting_files_share_one_flush_of_the_folder(storage, held):
    go_on, flushed = held
    puts = await begun(storage, TOGETHER)
    del flushed[:]
    go_on.set()
    kept = await asyncio.gather(*puts)
    assert {stored.key[:2] for stored in kept} == {SHARED}
    of_theirs = [name for name in flushed if name.startswith(SHARED)]
    assert (len(of_theirs), of_theirs.count(SHARED), of_theirs[-1]) == (TOGETHER + 1, 1, SHARED)
    assert all(KEY_PATTERN.fullmatch(stored.key) for stored in kept)
    assert [await read(storage, stored.key, 0, stored.size) for stored in kept] == [
        f"file {each}".encode() for each in range(TOGETHER)
    ]


async def test_file_that_does_not_fit_fails_alone(storage, held, monkeypatch, tmp_path):
    """So does one whose write is cancelled while it waits. The other files of the group are stored."""
    go_on, _ = held
    write = os.write

    def full(descriptor, data):
        if bytes(data) == b"file 3":
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data)

    puts = await begun(storage, TOGETHER)
    puts[4].cancel()
    await asyncio.sleep(0)
    monkeypatch.setattr(os, "write", full)
    go_on.set()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    failed = {number: type(each) for number, each in enumerate(outcomes) if isinstance(each, BaseException)}
    assert failed == {3: Unavailable, 4: asyncio.CancelledError}
    kept = [each for number, each in enumerate(outcomes) if number not in failed]
    assert all([await read(storage, stored.key, 0, stored.size) for stored in kept])
    await eventually(lambda: len(stored_files(tmp_path)) == TOGETHER - 2 + COMMIT_THREADS)


async def test_failed_flush_of_the_folder_refuses_the_whole_group(storage, held, monkeypatch, tmp_path):
    """None is reported as stored, and none is left."""
    go_on, _ = held
    puts = await begun(storage, TOGETHER)
    open_ = os.open

    def fail(path, flags, *rest, **named):
        if flags & os.O_DIRECTORY and str(path).endswith(f"/{SHARED}"):
            raise OSError(errno.EIO, "broken")
        return open_(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", fail)
    go_on.set()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert [each.code for each in outcomes] == ["storage_unavailable"] * TOGETHER
    await eventually(lambda: len(stored_files(tmp_path)) == COMMIT_THREADS)


async def test_large_file_does_not_delay_small_ones(storage, monkeypatch):
    at_work, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor):
        if os.fstat(descriptor).st_size > BLOCK_BYTES:
            at_work.set()
            go_on.wait(6 * GENEROUS_TIMEOUT)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    large = asyncio.create_task(storage.put(stream(b"x" * (BLOCK_BYTES + 1))))
    await eventually(at_work.is_set)
    await asyncio.gather(*(put(storage, number) for number in range(TOGETHER)))
    assert not large.done()
    go_on.set()
    await large
