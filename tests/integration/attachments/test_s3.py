"""What only an object store has: addresses, attributes, open multipart uploads, and a server that can be gone."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import botocore.session
import pytest

from support_service.attachments.storage.base import ResponseHeaders, new_key
from support_service.attachments.storage.s3 import PART_BYTES, S3AttachmentStorage
from support_service.core.errors import Unavailable
from tests.support.attachments.streams import read, stream

LIFECYCLE = Path(__file__).parents[3] / "docs" / "s3-lifecycle.json"


@pytest.fixture
def bucket(s3):
    return s3.create_bucket()


@pytest.fixture
def storage(s3, bucket):
    return S3AttachmentStorage(bucket, endpoint=s3.url)


@pytest.fixture
def impatient(s3, bucket, constants):
    def make(**timeouts):
        constants("attachments.storage.s3", **timeouts)
        return S3AttachmentStorage(bucket, endpoint=s3.url)

    return make


async def test_presigned_url_returns_the_file_with_its_headers(storage):
    """The type and the name come from the upload."""
    response_headers = ResponseHeaders("application/pdf", "attachment; filename=\"a.pdf\"; filename*=UTF-8''%C4%91.pdf")
    stored = await storage.put(stream(b"hello"), response_headers=response_headers)
    async with (
        aiohttp.ClientSession() as session,
        session.get(await storage.presigned_url(stored.key, 5, 60)) as response,
    ):
        assert await response.read() == b"hello"
        assert response.headers["Content-Type"] == "application/pdf"
        assert response.headers["Content-Disposition"] == response_headers.disposition


async def test_failed_multipart_upload_is_aborted(storage, s3, bucket):
    """At once. An unfinished one is no file, and is left to the lifecycle rule of the documentation.

    An S3 server accepts it: uploads that are open for a day are aborted.
    """
    key, sent = new_key(), []

    async def broken():
        for _ in range(3):
            yield b"x" * PART_BYTES
        while not sent:
            sent.extend(s3.multipart_uploads(bucket))
            await asyncio.sleep(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await storage.put(broken())
    assert (len(sent), s3.multipart_uploads(bucket)) == (1, [])
    s3.begin_multipart_upload(bucket, key)
    assert await storage.delete_unfinished(datetime.now(UTC)) == 0
    assert [found async for found in storage.list()] == []
    assert s3.multipart_uploads(bucket) == [key]
    server = botocore.session.get_session().create_client(
        "s3", endpoint_url=s3.url, region_name="us-east-1", aws_access_key_id="me", aws_secret_access_key="secret"
    )
    rule = json.loads(LIFECYCLE.read_text())
    server.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
    (taken,) = server.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert (taken["Status"], taken["Filter"]) == ("Enabled", {"Prefix": ""})
    assert taken["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


async def refusals(calls):
    async def refusal(call):
        with pytest.raises(Unavailable) as refused:
            await call()
        return refused.value.code

    return dict(zip(calls, await asyncio.gather(*map(refusal, calls.values())), strict=True))


async def test_s3_that_is_frozen_or_down_is_unavailable(impatient, s3):
    """It accepts connections and never answers, or refuses them. Operations work again when it is back."""
    kept = await impatient().put(stream(b"hello"))
    storage, waiting = impatient(RESPONSE_TIMEOUT=0.2), asyncio.Event()

    async def endless():
        waiting.set()
        yield b"x" * PART_BYTES
        await asyncio.Event().wait()

    calls = {
        "put": lambda: storage.put(stream(b"hello")),
        "stat": lambda: storage.stat(kept.key),
        "delete": lambda: storage.delete("ab/c"),
        "read": lambda: read(storage, kept.key, 0, 1),
        "list": lambda: anext(storage.list()),
        # The number of a status is no sign of it in a key: this file is not shorter than it was.
        "read 416": lambda: read(storage, f"41/416{'0' * 29}", 0, 1),
    }
    s3.freeze()
    try:
        assert await refusals(calls) == dict.fromkeys(calls, "storage_unavailable")
        task = asyncio.create_task(storage.put(endless()))
        await waiting.wait()
        task.cancel()  # which ends soon
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        s3.thaw()
    s3.kill()
    assert await refusals(calls) == dict.fromkeys(calls, "storage_unavailable")
    s3.start()
    again = S3AttachmentStorage(s3.create_bucket(), endpoint=s3.url)
    assert (await again.put(stream(b"hello"))).size == 5


@pytest.mark.parametrize("size", [PART_BYTES, 6 * PART_BYTES])
async def test_upload_to_s3_that_freezes_times_out(impatient, s3, size):
    """Whether it stops reading the file or never answers."""
    storage = impatient(STALL_TIMEOUT=0.5, COMPLETE_TIMEOUT=0.5)

    async def frozen_on_the_way():
        s3.freeze()
        async for chunk in stream(b"x" * size):
            yield chunk

    try:
        with pytest.raises(Unavailable) as refusal:
            await storage.put(frozen_on_the_way())
        assert refusal.value.code == "storage_unavailable"
    finally:
        s3.thaw()


async def test_slow_client_does_not_count_as_a_frozen_s3(impatient, monkeypatch):
    """Only time in which S3 does not read counts."""
    storage = impatient(STALL_TIMEOUT=0.2)
    now = [1000.0]
    monkeypatch.setattr("support_service.attachments.storage.s3.monotonic", lambda: now[0])

    async def slow():
        yield b"x" * PART_BYTES
        now[0] += 1000
        await asyncio.sleep(0.2)  # in which the sending is looked at ten times
        yield b"y"

    assert (await storage.put(slow())).size == PART_BYTES + 1


async def test_completing_a_file_may_take_longer_than_a_stall(impatient, s3, monkeypatch):
    """S3 then assembles what it has received."""
    storage = impatient(STALL_TIMEOUT=0.2, COMPLETE_TIMEOUT=3600)
    looks = []

    def now():
        looks.extend([None] if looks else [])
        if len(looks) == 5:
            s3.thaw()
        return float(len(looks))

    async def frozen_at_the_end():
        yield b"x" * PART_BYTES
        s3.freeze()
        looks.append(None)

    monkeypatch.setattr("support_service.attachments.storage.s3.monotonic", now)
    assert (await storage.put(frozen_at_the_end())).size == PART_BYTES


async def test_missing_bucket_is_unavailable(s3, storage):
    """It does not count as an empty bucket, and no file counts as missing or as deleted."""
    lost = S3AttachmentStorage("no-such-bucket", endpoint=s3.url)
    calls = {
        "put": lambda: lost.put(stream(b"hello")),
        "list": lambda: anext(lost.list()),
        "read": lambda: read(lost, new_key(), 0, 1),
        "delete": lambda: lost.delete(new_key()),
    }
    assert await refusals(calls) == dict.fromkeys(calls, "storage_unavailable")
    assert await storage.presigned_url(new_key(), 5, 60) is None  # the file alone is gone
    assert storage.free_bytes() is None  # a bucket is never full
