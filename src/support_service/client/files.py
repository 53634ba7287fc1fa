"""Files of cases: how they are sent with their SHA-256, and received in blocks."""

import asyncio
import hashlib
import mimetypes
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiofiles
import aiohttp

from support_service.cases.model.case import Attachment
from support_service.client.errors import NoAnswer, UnexpectedAnswer
from support_service.client.operations import Operations, parse_answer, write_headers
from support_service.client.parameters import Visibility
from support_service.client.retries import Attempts
from support_service.client.transport import Answer, Request
from support_service.core.errors import SupportError

BLOCK_BYTES = 256 * 1024  # bytes per write, and of a download at a time
UNKNOWN_CONTENT_TYPE = "application/octet-stream"
DAMAGED_FILE_CODE = "checksum_mismatch"

Progress = Callable[[int, int], object]
"""Called with the bytes that were sent and their total; after a failed attempt it starts again at 0."""


@dataclass(frozen=True, slots=True)
class FileToSend:
    """A file, or bytes, with what is sent beside them; `sha256` is in hex."""

    content: Path | bytes
    filename: str
    content_type: str
    size_bytes: int
    sha256: str

    @classmethod
    async def prepare(
        cls, file: str | os.PathLike[str] | bytes, filename: str | None, content_type: str | None
    ) -> Self:
        """Return a file with its size and SHA-256. Raises OSError."""
        content = file if isinstance(file, bytes) else Path(file)
        size, digest = await asyncio.to_thread(_size_and_sha256, content)
        name = filename or ("file" if isinstance(content, bytes) else content.name)
        kind = content_type or mimetypes.guess_type(name)[0] or UNKNOWN_CONTENT_TYPE
        return cls(content, printable_name(name) or "file", kind, size, digest)

    def multipart_form(self, sent: Progress, failures: list[Exception]) -> aiohttp.MultipartWriter:
        """Return a form with the file and its checksum; `sent` is called after each block.

        An error of the file, or of `sent`, is added to `failures`: the caller gets it as one of the connection.
        """
        form = aiohttp.MultipartWriter("form-data")
        part = form.append_payload(
            _SizedBlocks(self._blocks_with_callback(sent, failures), self.size_bytes, self.content_type)
        )
        part.set_content_disposition("form-data", quote_fields=False, name="file", filename=self.filename)
        part.headers["X-Checksum-Sha256"] = self.sha256
        return form

    async def _blocks_with_callback(self, sent: Progress, failures: list[Exception]) -> AsyncIterator[bytes]:
        done = 0
        try:
            async for block in self._read_blocks():
                yield block
                done += len(block)
                sent(done, self.size_bytes)
        except Exception as failure:
            failures.append(failure)
            raise

    async def _read_blocks(self) -> AsyncIterator[bytes]:
        if isinstance(self.content, bytes):
            for start in range(0, len(self.content), BLOCK_BYTES):
                yield self.content[start : start + BLOCK_BYTES]
            return
        async with aiofiles.open(self.content, "rb") as file:
            while block := await file.read(BLOCK_BYTES):
                yield block


class _SizedBlocks(aiohttp.payload.AsyncIterablePayload):
    """Blocks with their total size, so that the request has a Content-Length."""

    def __init__(self, blocks: AsyncIterator[bytes], size_bytes: int, content_type: str) -> None:
        super().__init__(blocks, content_type=content_type)
        self._size = size_bytes


def printable_name(name: str) -> str:
    """Return a file name as valid UTF-8 on one line, as headers and terminals require."""
    readable = os.fsencode(name).decode(errors="replace")
    return "".join(character for character in readable if character.isprintable())


def _size_and_sha256(content: Path | bytes) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256."""
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        digest: Any = hashlib.file_digest(file, "sha256")
        return os.fstat(file.fileno()).st_size, digest.hexdigest()


class FileOperations(Operations):
    """Upload and download of the files of cases."""

    async def upload(
        self,
        case_id: str,
        file: str | os.PathLike[str] | bytes,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        visibility: Visibility = "public",
        staged: bool = False,
        progress: Progress | None = None,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Attachment:
        """Add a file, or bytes, to a case.

        Name and type are taken from the path, unless they are given. The file is sent with
        its SHA-256, which the answer must confirm. `progress` is called with the bytes sent and their total.

        A `staged` file waits for a message that has its id among the `attachment_ids`, and gets its visibility.

        Raises OSError if the file can't be read.
        """
        prepared = await FileToSend.prepare(file, filename, content_type)
        path = ("support", "cases", case_id, "attachments")
        headers = write_headers(version, idempotency_key)
        request = Request("POST", path, {"staged": "true"} if staged else {"visibility": visibility}, headers=headers)
        attempts = Attempts(self._transport.timings)
        while True:
            try:
                stored = parse_answer(Attachment, await self._send_file(request, prepared, attempts, progress))
                break
            except SupportError as failure:
                await attempts.wait_after(failure)
        if (stored.sha256, stored.size_bytes) != (prepared.sha256, prepared.size_bytes):
            raise UnexpectedAnswer(DAMAGED_FILE_CODE, f"the service stored other bytes than {prepared.filename} has")
        return stored

    async def _send_file(
        self, request: Request, file: FileToSend, attempts: Attempts, progress: Progress | None
    ) -> Answer:
        """Send a file once. An attempt ends after `attempt` seconds in which nothing could be sent."""
        timings = self._transport.timings
        loop = asyncio.get_running_loop()
        failures: list[Exception] = []
        try:
            async with asyncio.timeout(timings.attempt) as limit:

                def sent(done: int, total: int) -> None:
                    with suppress(RuntimeError):  # the answer came before the end of the file
                        limit.reschedule(loop.time() + timings.attempt)
                    attempts.restart_deadline()
                    if progress is not None:
                        progress(done, total)

                no_limit = aiohttp.ClientTimeout(total=None, sock_connect=timings.connect)
                with file.multipart_form(sent, failures) as form:
                    async with self._transport.open(request, no_limit, form) as response:
                        return Answer(response.status, response.headers, await response.read())
        except NoAnswer:
            if failures:
                raise failures[0] from None
            raise
        except TimeoutError as failure:
            raise self._transport.no_answer_error(failure) from failure

    async def download(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an attachment in blocks; after a broken connection the rest is requested.

        Raises UnexpectedAnswer at the end if the bytes do not have the attachment's SHA-256.
        """
        digest, received = hashlib.sha256(), 0
        attempts = Attempts(self._transport.timings)
        while received < attachment.size_bytes or not received:
            try:
                async for block in self._read_from(attachment, received):
                    digest.update(block)
                    received += len(block)
                    attempts.note_progress()
                    yield block
                break
            except SupportError as failure:
                await attempts.wait_after(failure)
        if digest.hexdigest() != attachment.sha256:
            raise UnexpectedAnswer(
                DAMAGED_FILE_CODE, f"the bytes of {attachment.filename} differ from the uploaded ones"
            )

    async def _read_from(self, attachment: Attachment, start: int) -> AsyncGenerator[bytes, None]:
        path = ("support", "cases", attachment.ticket_id, "attachments", attachment.id, attachment.filename)
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{attachment.sha256}"'} if start else {}
        timings = self._transport.timings
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timings.connect, sock_read=timings.attempt)
        async with self._transport.open(Request("GET", path, headers=headers, redirects=True), timeout) as response:
            skip = 0 if response.status == 206 else start  # noqa: PLR2004 - HTTP's Partial Content
            async for block in response.content.iter_chunked(BLOCK_BYTES):
                rest = block[skip:]
                skip -= len(block) - len(rest)
                if rest:
                    yield rest
