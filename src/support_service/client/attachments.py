"""Operations on the files of cases: upload, list, download, remove."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp
from pydantic import TypeAdapter

from support_service.cases.model.case import Attachment
from support_service.client.cases import CASES
from support_service.client.errors import NoAnswer, UnexpectedAnswer
from support_service.client.operations import Operations, parse, write_headers
from support_service.client.parameters import Visibility
from support_service.client.retries import Attempts
from support_service.client.transport import Answer, Request
from support_service.client.uploads import FileToSend, Progress
from support_service.core.errors import SupportError

BLOCK_BYTES = 256 * 1024  # bytes of a download at a time
ATTACHMENTS = TypeAdapter(list[Attachment], config={"defer_build": True})
DAMAGED = "checksum_mismatch"


class AttachmentOperations(Operations):
    """Operations on the files of cases."""

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

        The name is that of the file, and the type follows from the name, unless they are given. The file is sent with
        its SHA-256, which the answer must confirm. `progress` is called with the bytes sent and their total.

        A `staged` file waits for a message that has its id among the `attachment_ids`, and gets its visibility.

        Raises OSError if the file can't be read.
        """
        prepared = await FileToSend.prepare(file, filename, content_type)
        path = (*CASES, case_id, "attachments")
        headers = write_headers(version, idempotency_key)
        request = Request("POST", path, {"staged": "true"} if staged else {"visibility": visibility}, headers=headers)
        attempts = Attempts(self._transport.timings)
        while True:
            try:
                stored = parse(Attachment, await self._send_file(request, prepared, attempts, progress))
                break
            except SupportError as failure:
                await attempts.wait_after(failure)
        if (stored.sha256, stored.size_bytes) != (prepared.sha256, prepared.size_bytes):
            raise UnexpectedAnswer(DAMAGED, f"the service stored other bytes than those of {prepared.filename}")
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
                    attempts.extend()
                    if progress is not None:
                        progress(done, total)

                no_limit = aiohttp.ClientTimeout(total=None, sock_connect=timings.connect)
                with file.form(sent, failures) as form:
                    async with self._transport.open(request, no_limit, form) as response:
                        return Answer(response.status, response.headers, await response.read())
        except NoAnswer:
            if failures:
                raise failures[0] from None
            raise
        except TimeoutError as failure:
            raise self._transport.no_answer(failure) from failure

    async def list_attachments(self, case_id: str) -> list[Attachment]:
        """List a case's attachments, oldest first."""
        answer = await self._transport.send(Request("GET", (*CASES, case_id, "attachments")))
        try:
            return ATTACHMENTS.validate_json(answer.body)
        except ValueError as failure:
            raise UnexpectedAnswer("unexpected_answer", "the answer is no list of attachments") from failure

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
                    attempts.progress()
                    yield block
                break
            except SupportError as failure:
                await attempts.wait_after(failure)
        if digest.hexdigest() != attachment.sha256:
            raise UnexpectedAnswer(DAMAGED, f"the bytes of {attachment.filename} differ from those that were uploaded")

    async def _read_from(self, attachment: Attachment, start: int) -> AsyncGenerator[bytes, None]:
        path = (*CASES, attachment.ticket_id, "attachments", attachment.id, attachment.filename)
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

    async def remove_attachment(
        self, case_id: str, attachment_id: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Remove an attachment from its case."""
        path = (*CASES, case_id, "attachments", attachment_id)
        await self._write("DELETE", *path, version=version, key=idempotency_key)
