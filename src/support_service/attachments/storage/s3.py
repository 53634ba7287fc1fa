"""Attachment storage in a bucket of any S3-compatible server.

Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a web identity, or the role of the container or
machine. A large file is a multipart upload. If it fails, it is aborted here. If the process is killed, the bucket's
lifecycle rule aborts it (docs/s3-lifecycle.json), because obstore can't list multipart uploads.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from types import MappingProxyType
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from support_service.attachments.storage.base import (
    FileInfo,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    check_size,
    new_key,
)
from support_service.core.errors import Unavailable

PART_BYTES = 5 * 1024 * 1024  # bytes; the smallest part that S3 accepts. A smaller file is sent in one request
MAX_CONCURRENT_PARTS = 2  # per file; bounds the memory that an upload needs
MIN_UPLOAD_RATE = 64 * 1024  # bytes per second; an upload in one request may take its size / rate longer
READ_BLOCK_BYTES = 256 * 1024  # bytes per block of a download
LIST_PAGE_SIZE = 1000  # objects per list page, as in S3
NO_BUCKET_CODE = "NoSuchBucket"
# Not just "416": the error text also contains the key and the port, whose digits could match.
RANGE_ERROR_TEXTS = ("status code: 416", "InvalidRange")
# The durations and attempts in the first line of obstore's errors, and the operating system's text in their details.
ATTEMPTS_PATTERN = re.compile(r" in [\d.]+\S*s(, after .*?)? +-")
CONNECT_CAUSE_PATTERN = re.compile(r'\b(?:error|message): "([^"]+)"')
MISSING_REASON = "The object is missing from the bucket, but its row exists."
TOO_SHORT_REASON = "The object is shorter than when it was stored."
CACHE_CONTROL = "private, no-cache"


@dataclass(frozen=True, slots=True)
class S3Timings:
    """Timeouts in seconds."""

    response: float = 15.0  # for any response except that to a large upload, in case the server hangs
    stall: float = 60.0  # a large upload fails if the server accepts no more data for this time
    complete: float = 300.0  # for the server to assemble the parts of a large file


class StreamStopped(Exception):
    """Raised out of a stream that was stopped or cancelled."""


class HashingStream:
    """A stream that hashes and counts its bytes while it is read, and can be stopped by another task.

    `digest` and `size` (bytes) cover all bytes read so far. `ended` is True when the stream has ended for any reason;
    `failure` is then the error that the underlying stream raised, if any.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._pending_chunk: asyncio.Future[bytes | None] | None = None
        self._stopped = False
        self._yielded_at: float | None = None
        self.ended = False
        self.digest, self.size = hashlib.sha256(), 0
        self.failure: BaseException | None = None

    async def read_start(self, length: int) -> bytearray:
        """Read and return the first `length` bytes or slightly more; fewer only if the stream ends before."""
        start = bytearray()
        async for chunk in self._chunks:
            self._update(chunk)
            start += chunk
            if len(start) >= length:
                break
        return start

    def remaining_chunks(self, start: bytearray) -> AsyncIterator[bytes]:
        """Yield `start`, then the remaining chunks.

        Raises StreamStopped after `stop`, even while it waits for a chunk.
        """
        self._yielded_at = monotonic()  # the stall time also counts before the first chunk is requested
        return self._remaining_chunks(start)

    async def _remaining_chunks(self, start: bytearray) -> AsyncIterator[bytes]:
        yield bytes(start)
        del start
        try:
            while not self._stopped:
                self._yielded_at = None
                self._pending_chunk = asyncio.ensure_future(self._next_chunk())
                chunk = await self._pending_chunk
                self._yielded_at = monotonic()
                if chunk is None:
                    return
                self._update(chunk)
                yield chunk
        except asyncio.CancelledError:
            raise StreamStopped from None
        except Exception as failure:
            self.failure = failure
            raise
        finally:
            self.ended = True
            self._yielded_at = monotonic()
        raise StreamStopped

    def stalled_seconds(self) -> float:
        """Return for how many seconds the reader has requested no chunk; 0 while the stream itself waits for bytes."""
        return 0.0 if self._yielded_at is None else monotonic() - self._yielded_at

    def stop(self) -> None:
        """Make the reader raise StreamStopped at once."""
        self._stopped = True
        if self._pending_chunk is not None:
            self._pending_chunk.cancel()

    async def _next_chunk(self) -> bytes | None:
        return await anext(self._chunks, None)

    def _update(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)


class S3AttachmentStorage:
    """Attachments as objects under the same keys. S3 itself makes a put atomic."""

    name = "s3"
    reads_back = True

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None = None,
        region: str = "us-east-1",
        credentials: Mapping[str, str] = MappingProxyType({}),
        timings: S3Timings = S3Timings(),
    ) -> None:
        """`credentials` are options of obstore; without them it reads the variables of AWS itself."""
        self._timings = timings
        config: Any = {"region": region, **({"endpoint": endpoint} if endpoint else {}), **credentials}
        self._store = S3Store(
            bucket,
            config=config,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": "2s",
                "read_timeout": "5m",  # the server may need minutes to assemble the parts of a large file
                "timeout": "1d",  # the upload of a large file has no fixed duration
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )

    async def open(self) -> None:
        """Do nothing: a server that is down must not prevent the service from serving local files."""

    async def close(self) -> None:
        """Do nothing: the store needs no closing."""

    async def put(
        self,
        chunks: AsyncIterator[bytes],
        *,
        key: str | None = None,
        size_hint: int = 0,  # noqa: ARG002 - a bucket is never full
        response_headers: ResponseHeaders | None = None,
    ) -> StoredFile:
        key = key or new_key()
        source = HashingStream(chunks)
        attributes = _attributes(response_headers)
        with translate_errors():
            start = await source.read_start(PART_BYTES)
            if len(start) < PART_BYTES:
                sending: asyncio.Future[Any] = asyncio.ensure_future(self._put_object(key, bytes(start), attributes))
            else:
                # Cancelling this would leave the multipart upload open. If the stream raises an error instead, obstore
                # aborts the upload.
                sending = asyncio.ensure_future(
                    obstore.put_async(
                        self._store,
                        key,
                        source.remaining_chunks(start),
                        attributes=attributes,
                        chunk_size=PART_BYTES,
                        max_concurrency=MAX_CONCURRENT_PARTS,
                    )
                )
            del start  # frees the memory once the bytes are sent
            try:
                await self._wait_until_sent(sending, source)
            except asyncio.CancelledError:
                source.stop()
                with suppress(Unavailable):
                    await self._undo_put(key, sending)
                raise
            except Exception:
                source.stop()
                if source.failure is not None:
                    raise source.failure from None
                raise
        return StoredFile(key, source.size, source.digest.hexdigest())

    async def read(self, key: str, offset: int, length: int, *, size: int | None = None) -> AsyncGenerator[bytes, None]:
        if length <= 0:  # S3 has no empty range
            if (found := await self.stat(key)) is None:
                raise UnreadableFile("missing", MISSING_REASON)
            check_size(found.size, size)
            return
        with translate_errors():
            try:
                request = obstore.get_async(self._store, key, options={"range": (offset, offset + length)})
                response = await asyncio.wait_for(request, self._timings.response)
                check_size(response.meta["size"], size)
                stream = response.stream(READ_BLOCK_BYTES)
                while block := await asyncio.wait_for(anext(stream, b""), self._timings.response):
                    length -= len(block)
                    yield bytes(block)
            except FileNotFoundError as failure:
                if NO_BUCKET_CODE in str(failure):
                    raise
                raise UnreadableFile("missing", MISSING_REASON) from None
            except BaseError as failure:
                if any(sign in str(failure) for sign in RANGE_ERROR_TEXTS):
                    raise UnreadableFile("damaged", TOO_SHORT_REASON) from None
                raise
        if length > 0:
            raise UnreadableFile("damaged", TOO_SHORT_REASON)

    async def stat(self, key: str) -> FileInfo | None:
        with translate_errors():
            try:
                return _to_file_info(
                    await asyncio.wait_for(obstore.head_async(self._store, key), self._timings.response)
                )
            except FileNotFoundError:
                return None

    async def list(self, prefix: str = "") -> AsyncIterator[FileInfo]:
        # An object store lists whole folders (`ab/`), not arbitrary prefixes (`ab/ab`).
        folder = f"{prefix.partition('/')[0]}/" if prefix else None
        with translate_errors():
            pages = obstore.list(self._store, folder, chunk_size=LIST_PAGE_SIZE)
            while page := await asyncio.wait_for(anext(pages, []), self._timings.response):
                for found in map(_to_file_info, page):
                    if found.key.startswith(prefix):
                        yield found

    async def delete(self, key: str) -> None:
        with translate_errors():
            try:
                await asyncio.wait_for(obstore.delete_async(self._store, key), self._timings.response)
            except FileNotFoundError as failure:
                if NO_BUCKET_CODE in str(failure):  # pragma: no branch - else a server calls a missing key an error
                    raise

    async def delete_unfinished(self, before: datetime, *, dry_run: bool = False) -> int:  # noqa: ARG002
        """Return 0: the bucket's lifecycle rule aborts unfinished multipart uploads."""
        return 0

    async def presigned_url(self, key: str, size: int, seconds: int) -> str | None:
        # Check the object first, so that no client is redirected to a server that is down.
        found = await self.stat(key)
        if found is None or found.size != size:
            return None
        with translate_errors():
            signed = obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))
            return str(await asyncio.wait_for(signed, self._timings.response))

    def free_bytes(self) -> int | None:
        return None

    def free_inodes(self) -> float | None:
        return None

    def volume_number(self) -> int | None:
        return None

    def disk_bytes(self) -> int | None:
        return None

    async def _put_object(self, key: str, data: bytes, attributes: Any) -> None:
        within = self._timings.response + len(data) / MIN_UPLOAD_RATE
        await asyncio.wait_for(obstore.put_async(self._store, key, data, attributes=attributes), within)

    async def _wait_until_sent(self, sending: asyncio.Future[Any], source: HashingStream) -> None:
        """Wait until a file is sent. Raises TimeoutError if the server accepts no more data or does not respond."""
        while not (await asyncio.wait([sending], timeout=self._timings.stall / 10))[0]:
            completing = source.ended and source.failure is None
            if source.stalled_seconds() > (self._timings.complete if completing else self._timings.stall):
                sending.cancel()
                raise TimeoutError
        sending.result()

    async def _undo_put(self, key: str, sending: asyncio.Future[Any]) -> None:
        """Delete a file whose upload was cancelled.

        If the server hangs, a multipart upload may stay open until the bucket's lifecycle rule aborts it.
        """
        await asyncio.wait([sending], timeout=self._timings.response)
        if not sending.done():
            sending.cancel()
        elif not sending.exception():  # pragma: no cover - it was whole in the moment of the cancellation
            await self.delete(key)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Translate every error of an unreachable server into Unavailable."""
    try:
        yield
    except TimeoutError as failure:
        raise Unavailable("storage_unavailable", "The object storage does not respond") from failure
    except (BaseError, FileNotFoundError) as failure:  # a missing bucket is also "not found"
        raise _unavailable(failure) from failure


def _attributes(response_headers: ResponseHeaders | None) -> Any:
    if response_headers is None:
        return None
    return {
        "Content-Type": response_headers.content_type,
        "Content-Disposition": response_headers.disposition,
        "Cache-Control": CACHE_CONTROL,
    }


def _to_file_info(meta: Any) -> FileInfo:
    return FileInfo(meta["path"], meta["size"], meta["last_modified"])


def _unavailable(failure: Exception) -> Unavailable:
    first, _, details = str(failure).partition("\n")
    reason = ATTEMPTS_PATTERN.sub(":", first.removeprefix("Generic S3 error: "))[:300]
    cause = CONNECT_CAUSE_PATTERN.search(details) if "kind: Connect" in details else None
    return Unavailable(
        "storage_unavailable",
        "The object storage (SUPPORT_S3_ENDPOINT, SUPPORT_S3_BUCKET) can't be reached or rejects the request: "
        + (f"{reason}: {cause[1]}" if cause else reason),
    )
