"""Attachment storage in a bucket of any S3-compatible server.

Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a web identity, or the role of the container or
machine. A large file is a multipart upload. If it fails, it is aborted here. If the process is killed, the bucket's
lifecycle rule aborts it (docs/s3-lifecycle.json), because obstore can't list multipart uploads.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from time import monotonic
from types import MappingProxyType
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from support_service.attachments.storage.base import (
    FileInfo,
    Operation,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    check_size,
    new_key,
)
from support_service.attachments.storage.s3_calls import S3Calls, outcome_of, translate_errors
from support_service.core.errors import Unavailable
from support_service.platform.telemetry.instruments import Instruments

PART_BYTES = 5 * 1024 * 1024  # bytes; the smallest part that S3 accepts. A smaller file is sent in one request
MAX_CONCURRENT_PARTS = 2  # per file; bounds the memory that an upload needs
MIN_UPLOAD_RATE = 64 * 1024  # bytes per second; an upload in one request may take its size / rate longer
READ_BLOCK_BYTES = 256 * 1024  # bytes per block of a download
REPEATS_OF_PARTS = 5  # of a part of a large file, and of a page of a list
LIST_PAGE_SIZE = 1000  # objects per list page, as in S3
MISSING_REASON = "The object is missing from the bucket, but its row exists."
TOO_SHORT_REASON = "The object is shorter than when it was stored."
CACHE_CONTROL = "private, no-cache"

RESPONSE_TIMEOUT = 15.0  # for any response except that to a large upload, with repeats, in case the server hangs
REPEAT_PAUSE = 0.1  # before the first repeat of a call; doubles with each further one
STALL_TIMEOUT = 60.0  # a large upload fails if the server accepts no more data for this time
COMPLETE_TIMEOUT = 300.0  # for the server to assemble the parts of a large file


STOPPED = "the stream was stopped or cancelled"


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

        Raises RuntimeError after `stop`, even while it waits for a chunk.
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
            raise RuntimeError(STOPPED) from None
        except Exception as failure:
            self.failure = failure
            raise
        finally:
            self.ended = True
            self._yielded_at = monotonic()
        raise RuntimeError(STOPPED)

    def stalled_seconds(self) -> float:
        """Return for how many seconds the reader has requested no chunk; 0 while the stream itself waits for bytes."""
        return 0.0 if self._yielded_at is None else monotonic() - self._yielded_at

    def stop(self) -> None:
        """Make the reader raise RuntimeError at once."""
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
        instruments: Instruments | None = None,
    ) -> None:
        """`credentials` are options of obstore; without them it reads the variables of AWS itself."""
        self._calls = S3Calls(instruments, REPEAT_PAUSE)
        config: Any = {"region": region, **({"endpoint": endpoint} if endpoint else {}), **credentials}

        def store(max_repeats: int) -> S3Store:
            return S3Store(
                bucket,
                config=config,
                client_options={
                    "allow_http": bool(endpoint and endpoint.startswith("http://")),
                    "connect_timeout": "2s",
                    "read_timeout": "5m",  # the server may need minutes to assemble the parts of a large file
                    "timeout": "1d",  # the upload of a large file has no fixed duration
                },
                retry_config={"max_retries": max_repeats, "retry_timeout": timedelta(seconds=10)},
            )

        self._store = store(0)
        # Only obstore can repeat a part of a large file, or a page of a list.
        self._repeating_store = store(REPEATS_OF_PARTS)

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
            is_large = len(start) >= PART_BYTES
            if not is_large:
                sending: asyncio.Future[Any] = asyncio.ensure_future(self._put_object(key, bytes(start), attributes))
            else:
                # Cancelling this would leave the multipart upload open. If the stream raises an error instead, obstore
                # aborts the upload.
                sending = asyncio.ensure_future(
                    obstore.put_async(
                        self._repeating_store,
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
            except Exception as failure:
                source.stop()
                if source.failure is not None:
                    raise source.failure from None
                if is_large:
                    self._calls.count("put", outcome_of(failure))
                raise
            if is_large:
                self._calls.count("put", "ok")
        return StoredFile(key, source.size, source.digest.hexdigest())

    async def read(self, key: str, offset: int, length: int, *, size: int | None = None) -> AsyncGenerator[bytes, None]:
        if length <= 0:  # S3 has no empty range
            if (found := await self.stat(key)) is None:
                raise UnreadableFile("missing", MISSING_REASON)
            check_size(found.size, size)
            return
        repeats = 0
        with translate_errors():
            while length > 0:
                try:
                    async with aclosing(self._read_once(key, offset, length, size)) as blocks:
                        async for block in blocks:
                            offset, length, repeats = offset + len(block), length - len(block), 0
                            yield block
                except (BaseError, FileNotFoundError, TimeoutError, UnreadableFile) as failure:
                    if not await self._calls.waits_to_repeat("read", failure, repeats):
                        raise _as_unreadable(failure) from failure.__cause__
                    repeats += 1
                else:
                    self._calls.count("read", "ok")

    async def stat(self, key: str) -> FileInfo | None:
        with translate_errors():
            try:
                return _to_file_info(await self._call("read", lambda: obstore.head_async(self._store, key)))
            except FileNotFoundError:
                return None

    async def list(self, prefix: str = "") -> AsyncIterator[FileInfo]:
        # An object store lists whole folders (`ab/`), not arbitrary prefixes (`ab/ab`).
        folder = f"{prefix.partition('/')[0]}/" if prefix else None
        with translate_errors():
            pages = obstore.list(self._repeating_store, folder, chunk_size=LIST_PAGE_SIZE)
            # A list that failed seems to end when it is asked again.
            while page := await self._call("list", lambda: anext(pages, []), is_repeatable=False):
                for found in map(_to_file_info, page):
                    if found.key.startswith(prefix):
                        yield found

    async def delete(self, key: str) -> None:
        with translate_errors():
            try:
                await self._call("delete", lambda: obstore.delete_async(self._store, key))
            except FileNotFoundError as failure:
                if outcome_of(failure) != "not_found":  # pragma: no branch - else a server calls a missing key an error
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
            return str(await asyncio.wait_for(signed, RESPONSE_TIMEOUT))

    def free_bytes(self) -> int | None:
        return None

    def free_inodes(self) -> float | None:
        return None

    def volume_number(self) -> int | None:
        return None

    def disk_bytes(self) -> int | None:
        return None

    async def _read_once(self, key: str, offset: int, length: int, size: int | None) -> AsyncGenerator[bytes, None]:
        request = obstore.get_async(self._store, key, options={"range": (offset, offset + length)})
        response = await asyncio.wait_for(request, RESPONSE_TIMEOUT)
        check_size(response.meta["size"], size)
        stream = response.stream(READ_BLOCK_BYTES)
        while block := await asyncio.wait_for(anext(stream, b""), RESPONSE_TIMEOUT):
            length -= len(block)
            yield bytes(block)
        if length > 0:
            raise UnreadableFile("damaged", TOO_SHORT_REASON)

    async def _call(
        self, operation: Operation, call: Callable[[], Awaitable[Any]], *, is_repeatable: bool = True
    ) -> Any:
        return await self._calls.make(operation, call, RESPONSE_TIMEOUT, is_repeatable=is_repeatable)

    async def _put_object(self, key: str, data: bytes, attributes: Any) -> None:
        within = RESPONSE_TIMEOUT + len(data) / MIN_UPLOAD_RATE
        await self._calls.make("put", lambda: obstore.put_async(self._store, key, data, attributes=attributes), within)

    async def _wait_until_sent(self, sending: asyncio.Future[Any], source: HashingStream) -> None:
        """Wait until a file is sent. Raises TimeoutError if the server accepts no more data or does not respond."""
        while not (await asyncio.wait([sending], timeout=STALL_TIMEOUT / 10))[0]:
            completing = source.ended and source.failure is None
            if source.stalled_seconds() > (COMPLETE_TIMEOUT if completing else STALL_TIMEOUT):
                sending.cancel()
                raise TimeoutError
        sending.result()

    async def _undo_put(self, key: str, sending: asyncio.Future[Any]) -> None:
        """Delete a file whose upload was cancelled.

        If the server hangs, a multipart upload may stay open until the bucket's lifecycle rule aborts it.
        """
        await asyncio.wait([sending], timeout=RESPONSE_TIMEOUT)
        if not sending.done():
            sending.cancel()
        elif not sending.exception():  # pragma: no cover - it was whole in the moment of the cancellation
            await self.delete(key)


def _as_unreadable(failure: Exception) -> Exception:
    """Return UnreadableFile for an answer that S3 does not have these bytes of the object, and other errors as is."""
    if isinstance(failure, UnreadableFile):
        return failure
    outcome = outcome_of(failure)
    if outcome == "not_found":
        return UnreadableFile("missing", MISSING_REASON)
    return UnreadableFile("damaged", TOO_SHORT_REASON) if outcome == "wrong_bytes" else failure


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
