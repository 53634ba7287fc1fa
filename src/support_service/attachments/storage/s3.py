"""Attachment storage in a bucket of any S3-compatible server.

Credentials come from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a web identity, or the role of the container or
machine. A large file is a multipart upload: if it fails, it is aborted here; if the process is killed, the bucket's
lifecycle rule aborts it (docs/s3-lifecycle.json), because obstore can't list multipart uploads.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from support_service.attachments.storage.base import (
    FileInfo,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    expect_size,
    new_key,
)
from support_service.attachments.storage.s3_errors import translated_errors
from support_service.attachments.upload.hashing_stream import HashingStream
from support_service.core.errors import Unavailable

PART_BYTES = 5 * 1024 * 1024  # bytes; the smallest part that S3 accepts. A smaller file is sent in one request
MAX_CONCURRENT_PARTS = 2  # per file; bounds the memory that an upload needs
READ_BLOCK_BYTES = 256 * 1024  # bytes per block of a download
LIST_PAGE_SIZE = 1000  # objects per list page, as in S3
NO_BUCKET = "NoSuchBucket"
# Not just "416": the error text also contains the key and the port, whose digits could match.
RANGE_ERROR_TEXTS = ("status code: 416", "InvalidRange")
MISSING = "The object is missing from the bucket, but its row exists."
TOO_SHORT = "The object is shorter than when it was stored."
CACHE_CONTROL = "private, no-cache"


@dataclass(frozen=True, slots=True)
class S3Timings:
    """Timeouts in seconds."""

    response: float = 15.0  # for any response except that to a large upload, in case the server hangs
    stall: float = 60.0  # a large upload fails if the server accepts no more data for this time
    complete: float = 300.0  # for the server to assemble the parts of a large file
    min_upload_rate: int = 64 * 1024  # bytes per second; an upload in one request may take its size / rate longer


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
        timings: S3Timings = S3Timings(),
    ) -> None:
        self._timings = timings
        self._store = S3Store(
            bucket,
            config={"region": region, **({"endpoint": endpoint} if endpoint else {})},
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
        with translated_errors():
            start = await source.take(PART_BYTES)
            if len(start) < PART_BYTES:
                sending: asyncio.Future[Any] = asyncio.ensure_future(self._put_object(key, bytes(start), attributes))
            else:
                # Cancelling this would leave the multipart upload open. If the stream raises an error instead, obstore
                # aborts the upload.
                sending = asyncio.ensure_future(
                    obstore.put_async(
                        self._store,
                        key,
                        source.rest(start),
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
                raise UnreadableFile("missing", MISSING)
            expect_size(found.size, size)
            return
        with translated_errors():
            try:
                request = obstore.get_async(self._store, key, options={"range": (offset, offset + length)})
                response = await asyncio.wait_for(request, self._timings.response)
                expect_size(response.meta["size"], size)
                stream = response.stream(READ_BLOCK_BYTES)
                while block := await asyncio.wait_for(anext(stream, b""), self._timings.response):
                    length -= len(block)
                    yield bytes(block)
            except FileNotFoundError as failure:
                if NO_BUCKET in str(failure):
                    raise
                raise UnreadableFile("missing", MISSING) from None
            except BaseError as failure:
                if any(sign in str(failure) for sign in RANGE_ERROR_TEXTS):
                    raise UnreadableFile("damaged", TOO_SHORT) from None
                raise
        if length > 0:
            raise UnreadableFile("damaged", TOO_SHORT)

    async def stat(self, key: str) -> FileInfo | None:
        with translated_errors():
            try:
                return _to_file_info(
                    await asyncio.wait_for(obstore.head_async(self._store, key), self._timings.response)
                )
            except FileNotFoundError:
                return None

    async def list(self, prefix: str = "") -> AsyncIterator[FileInfo]:
        # An object store lists whole folders (`ab/`), not arbitrary prefixes (`ab/ab`).
        folder = f"{prefix.partition('/')[0]}/" if prefix else None
        with translated_errors():
            pages = obstore.list(self._store, folder, chunk_size=LIST_PAGE_SIZE)
            while page := await asyncio.wait_for(anext(pages, []), self._timings.response):
                for found in map(_to_file_info, page):
                    if found.key.startswith(prefix):
                        yield found

    async def delete(self, key: str) -> None:
        with translated_errors():
            try:
                await asyncio.wait_for(obstore.delete_async(self._store, key), self._timings.response)
            except FileNotFoundError as failure:
                if NO_BUCKET in str(failure):  # pragma: no branch - else a server calls a missing key an error
                    raise

    async def delete_unfinished(self, before: datetime, *, dry_run: bool = False) -> int:  # noqa: ARG002
        """Return 0: the bucket's lifecycle rule aborts unfinished multipart uploads."""
        return 0

    async def presigned_url(self, key: str, size: int, seconds: int) -> str | None:
        # Check the object first, so that no client is redirected to a server that is down.
        found = await self.stat(key)
        if found is None or found.size != size:
            return None
        with translated_errors():
            signed = obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))
            return str(await asyncio.wait_for(signed, self._timings.response))

    def free(self) -> int | None:
        return None

    async def _put_object(self, key: str, data: bytes, attributes: Any) -> None:
        within = self._timings.response + len(data) / self._timings.min_upload_rate
        await asyncio.wait_for(obstore.put_async(self._store, key, data, attributes=attributes), within)

    async def _wait_until_sent(self, sending: asyncio.Future[Any], source: HashingStream) -> None:
        """Wait until a file is sent. Raises TimeoutError if the server accepts no more data or does not respond."""
        while not (await asyncio.wait([sending], timeout=self._timings.stall / 10))[0]:
            completing = source.ended and source.failure is None
            if source.stalled() > (self._timings.complete if completing else self._timings.stall):
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
