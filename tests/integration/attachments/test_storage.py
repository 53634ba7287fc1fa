"""What a storage of attachments does: each implementation passes these tests."""

import asyncio
import hashlib
import itertools
import os
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from support_service.attachments.storage.base import ResponseHeaders, new_key, verify_file
from support_service.attachments.storage.local import BLOCK_BYTES, LocalAttachmentStorage
from support_service.attachments.storage.s3 import PART_BYTES, S3AttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream

SIZES = [0, 1, 1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7]
SIZES += [PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 7]
LATER = datetime.now(UTC) + timedelta(days=365)


class ListedS3AttachmentStorage(S3AttachmentStorage):
    """An S3 storage that also counts its open multipart uploads, which only the server can list."""

    def __init__(self, server):
        self._server, self._bucket = server, server.create_bucket()
        super().__init__(self._bucket, endpoint=server.url)

    async def delete_unfinished(self, _before, *, dry_run):
        assert dry_run
        return len(self._server.multipart_uploads(self._bucket))


@pytest.fixture(params=["local", "s3"])
async def storage(request, tmp_path):
    if request.param == "local":
        storage = LocalAttachmentStorage(tmp_path)
    else:
        storage = ListedS3AttachmentStorage(request.getfixturevalue("s3"))
    await storage.open()
    yield storage
    await storage.close()


async def kept(storage):
    return [found.key async for found in storage.list()], await storage.delete_unfinished(LATER, dry_run=True)


@pytest.mark.parametrize(
    ("size", "chunk"),
    [
        *((size, 65_536) for size in SIZES),
        *itertools.product((3 * BLOCK_BYTES + 7, PART_BYTES + 1), (10_000, 1_000_000)),
    ],
)
async def test_stored_stream_is_read_back(storage, size, chunk):
    """In chunks of any size, with its size and hash. Deleted, it can't be read, and deleting it again is no error.

    Headers, which apply when the storage serves the file itself, do not change it.
    """
    data = os.urandom(size)
    stored = await storage.put(stream(data, chunk), response_headers=ResponseHeaders("text/plain", "attachment"))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await read(storage, stored.key, 0, size) == data
    await verify_file(storage, stored.key, size, stored.sha256)
    assert await kept(storage) == ([stored.key], 0)
    for _ in range(2):
        await storage.delete(stored.key)
    assert await kept(storage) == ([], 0)
    with pytest.raises(Unavailable) as refusal:
        await read(storage, stored.key, 0, size + 1)
    assert refusal.value.code == "attachment_unreadable"


async def test_range_is_read_from_its_offset(storage):
    """A length of 0 is allowed. Beyond the end of the file it is an error, never a short response."""
    data, of = os.urandom(2 * BLOCK_BYTES), BLOCK_BYTES
    stored = await storage.put(stream(data))
    for offset, length in ((0, 1), (of - 1, 2), (of + 5, of - 5), (2 * of - 1, 1), (7, 0)):
        assert await read(storage, stored.key, offset, length) == data[offset : offset + length]
    for offset, length in ((0, 2 * of + 1), (of + 1, of), (2 * of, 1), (2 * of + 4, 1)):
        with pytest.raises(Unavailable) as refusal:
            await read(storage, stored.key, offset, length)
        assert refusal.value.code == "attachment_unreadable"


async def test_stat_returns_key_size_and_age(storage):
    """And nothing for an unknown key."""
    stored = await storage.put(stream(b"hello"))
    found = await storage.stat(stored.key)
    assert (found.key, found.size) == (stored.key, 5)
    assert abs(datetime.now(UTC) - found.changed_at) < timedelta(minutes=5)
    assert await storage.stat(new_key()) is None


async def test_listing_has_each_file_once(storage):
    """With its size; a prefix selects the files that begin with it. Equal bytes have keys of their own."""
    stored = {(await storage.put(stream(b"x" * size))).key: size for size in (*range(1, 20), *[20] * 10)}
    listed = [found async for found in storage.list()]
    assert {found.key: found.size for found in listed} == stored
    assert len(listed) == len(stored) == 29
    prefix = next(iter(stored))[:3]
    assert {found.key async for found in storage.list(prefix)} == {key for key in stored if key.startswith(prefix)}
    assert [found async for found in storage.list("zz/")] == []
    alike = [f"ab/{digit * 32}" for digit in "01"]  # in one folder
    for key in alike:
        await storage.put(stream(b"x"), key=key)
    assert [found.key async for found in storage.list("ab/0")] == alike[:1]


@pytest.mark.parametrize("sent", [0, 10, BLOCK_BYTES, 3 * PART_BYTES])
async def test_error_of_the_stream_is_raised_and_leaves_no_file(storage, sent):
    """A cancelled upload leaves none either."""
    waiting = asyncio.Event()

    async def broken(*, waits):
        async for chunk in stream(b"x" * sent):
            yield chunk
        waiting.set()
        if waits:
            await asyncio.Event().wait()
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await storage.put(broken(waits=False))
    assert await kept(storage) == ([], 0)
    waiting.clear()
    task = asyncio.create_task(storage.put(broken(waits=True)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kept(storage) == ([], 0)


async def test_memory_for_a_large_file_is_limited(storage):
    """In both directions."""
    block, size = os.urandom(1 << 20), 96 << 20

    async def large():
        for _ in range(size >> 20):
            yield block

    process = psutil.Process()
    await storage.put(stream(block * 12))  # what is taken once for all
    before = process.memory_info().rss
    peak = 0
    stored = await storage.put(large())
    async for _ in storage.read(stored.key, 0, size):
        peak = max(peak, process.memory_info().rss)
    assert stored.size == size
    assert peak - before < size // 2
