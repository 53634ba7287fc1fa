"""What a storage of attachments does: each implementation passes these tests."""

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from support_service.attachments.storage.base import ResponseHeaders, new_key, verify
from support_service.attachments.storage.local import BLOCK_BYTES, LocalAttachmentStorage
from support_service.attachments.storage.s3 import PART_BYTES, S3AttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream

SIZES = [
    0,
    1,
    1000,
    BLOCK_BYTES - 1,
    BLOCK_BYTES,
    BLOCK_BYTES + 1,
    3 * BLOCK_BYTES + 7,
    PART_BYTES,
    PART_BYTES + 1,
    2 * PART_BYTES + 7,
]
LATER = datetime.now(UTC) + timedelta(days=365)


class ListedS3AttachmentStorage(S3AttachmentStorage):
    """An S3 storage that also counts its open multipart uploads, which only the server can list."""

    def __init__(self, server):
        self._server, self._bucket = server, server.create_bucket()
        super().__init__(self._bucket, endpoint=server.url)

    async def delete_unfinished(self, _before, *, dry_run):
        """Return the number of open multipart uploads."""
        assert dry_run
        return len(self._server.multipart_uploads(self._bucket))


@pytest.fixture(params=["local", "s3"])
async def storage(request, tmp_path):
    """Each storage there is, empty."""
    if request.param == "local":
        storage = LocalAttachmentStorage(tmp_path)
    else:
        storage = ListedS3AttachmentStorage(request.getfixturevalue("s3"))
    await storage.open()
    yield storage
    await storage.close()


async def kept(storage):
    """The keys of every whole file, and the number of what is not finished."""
    return [found.key async for found in storage.list()], await storage.delete_unfinished(LATER, dry_run=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("chunk", [10_000, 65_536, 1_000_000])
async def test_what_goes_in_comes_out(storage, size, chunk):
    """A stream of any size, in chunks of any size, is kept, counted, hashed and given back."""
    data = os.urandom(size)
    stored = await storage.put(stream(data, chunk))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await read(storage, stored.key, 0, size) == data
    await verify(storage, stored.key, size, stored.sha256)
    assert await kept(storage) == ([stored.key], 0)


async def test_a_part_can_be_read(storage):
    """A read gives the bytes from its offset on, as many as it asks for, even none."""
    data = os.urandom(2 * BLOCK_BYTES)
    stored = await storage.put(stream(data))
    for offset, length in (
        (0, 1),
        (BLOCK_BYTES - 1, 2),
        (BLOCK_BYTES + 5, BLOCK_BYTES - 5),
        (2 * BLOCK_BYTES - 1, 1),
        (7, 0),
    ):
        assert await read(storage, stored.key, offset, length) == data[offset : offset + length]


async def test_a_file_can_be_looked_at(storage):
    """A look gives key, size and age; there is nothing under a key that nobody gave."""
    stored = await storage.put(stream(b"hello"))
    found = await storage.stat(stored.key)
    assert (found.key, found.size) == (stored.key, 5)
    assert abs(datetime.now(UTC) - found.changed_at) < timedelta(minutes=5)
    assert await storage.stat(new_key()) is None


async def test_a_list_has_every_file(storage):
    """The list has each file once, with its size, and by a prefix those that begin with it."""
    stored = {(await storage.put(stream(b"x" * size))).key: size for size in range(1, 30)}
    listed = [found async for found in storage.list()]
    assert {found.key: found.size for found in listed} == stored
    assert len(listed) == len(stored)
    prefix = next(iter(stored))[:3]
    assert {found.key async for found in storage.list(prefix)} == {key for key in stored if key.startswith(prefix)}
    assert [found async for found in storage.list("zz/")] == []
    alike = [f"ab/{digit * 32}" for digit in "01"]  # in one folder
    for key in alike:
        await storage.put(stream(b"x"), key=key)
    assert [found.key async for found in storage.list("ab/0")] == alike[:1]


async def test_keys_are_never_the_same(storage):
    """The same bytes twice are two files; a key that is asked for is the one that is used."""
    keys = {(await storage.put(stream(b"same"))).key for _ in range(20)}
    assert len(keys) == 20
    key = new_key()
    assert (await storage.put(stream(b"same"), key=key)).key == key
    assert await read(storage, key, 0, 4) == b"same"


async def test_a_deleted_file_is_gone(storage):
    """A deleted file can't be read; deleting it again is no error."""
    stored = await storage.put(stream(b"hello"))
    await storage.delete(stored.key)
    await storage.delete(stored.key)
    assert await kept(storage) == ([], 0)
    with pytest.raises(Unavailable) as refusal:
        await read(storage, stored.key, 0, 5)
    assert refusal.value.code == "attachment_unreadable"


@pytest.mark.parametrize(("offset", "length"), [(0, 6), (3, 3), (5, 1), (9, 1)])
async def test_a_file_that_is_shorter_than_it_was(storage, offset, length):
    """Bytes that are not there are an error, never a short answer."""
    stored = await storage.put(stream(b"hello"))
    with pytest.raises(Unavailable) as refusal:
        await read(storage, stored.key, offset, length)
    assert refusal.value.code == "attachment_unreadable"


@pytest.mark.parametrize("sent", [0, 10, BLOCK_BYTES, 3 * PART_BYTES])
async def test_an_error_in_the_stream_leaves_nothing(storage, sent):
    """Whatever breaks the stream comes out of it as it is, and no byte stays."""

    async def broken():
        async for chunk in stream(b"x" * sent):
            yield chunk
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await storage.put(broken())
    assert await kept(storage) == ([], 0)


@pytest.mark.parametrize("sent", [0, 10, BLOCK_BYTES, 3 * PART_BYTES])
async def test_a_put_that_is_cancelled_in_the_stream_leaves_nothing(storage, sent):
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
    assert await kept(storage) == ([], 0)


async def test_a_large_file_takes_bounded_memory(storage):
    """A file of many times what is held in memory passes through, in and out."""
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


async def test_response_headers_are_no_part_of_the_bytes(storage):
    """What a storage says of a file when it serves it by itself changes nothing of it."""
    response_headers = ResponseHeaders("text/plain", 'attachment; filename="a.txt"')
    stored = await storage.put(stream(b"hello"), response_headers=response_headers)
    assert await read(storage, stored.key, 0, 5) == b"hello"
