"""AttachmentService: keeps, gives and removes the files of cases, and knows how much of them lies on local storage."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from support_service.attachments import store
from support_service.attachments.model import Attachment, Backlog, clean_content_type, clean_filename, view
from support_service.attachments.storage import LocalAttachmentStorage
from support_service.database import Database, Transaction
from support_service.errors import Invalid, NotFound, SupportError, TooLarge, no_case
from support_service.events import outbox
from support_service.ids import may_be_id, new_id
from support_service.telemetry.instruments import ATTACHMENT_BACKLOG, ATTACHMENT_BACKLOG_FILES, Instruments
from support_service.telemetry.labels import CONTENT_TYPES, REJECTIONS, SYNTHETIC, closed

BACKLOG_EVERY = 10.0  # seconds until this replica's gauges show what the others stored


class AttachmentService:
    """The bytes first, then the row; the row first, then the bytes when one is removed: no row without its file."""

    def __init__(
        self,
        database: Database,
        storage: LocalAttachmentStorage,
        instruments: Instruments,
        max_bytes: int,
        public_url: str = "",
    ) -> None:
        self._database = database
        self._storage = storage
        self._instruments = instruments
        self._max_bytes = max_bytes
        self._public_url = public_url
        self._backlog: Backlog | None = None
        instruments.observe(ATTACHMENT_BACKLOG, lambda: [(self._backlog.bytes, {})] if self._backlog else [])
        instruments.observe(ATTACHMENT_BACKLOG_FILES, lambda: [(self._backlog.files, {})] if self._backlog else [])

    async def expect(self, case_id: str) -> None:
        """Raise NotFound where there is no such case, before anyone sends its file."""
        if not (may_be_id(case_id) and await store.case_exists(self._database, case_id)):
            raise no_case(case_id)

    async def add(
        self, case_id: str, filename: str, content_type: str | None, chunks: AsyncIterator[bytes]
    ) -> Attachment:
        """Keep a file of a case that exists; raises TooLarge, Invalid for an empty file, OutOfSpace."""
        stored = await self._storage.put(self._bounded(chunks))
        attachment = Attachment(
            id=new_id(),
            ticket_id=case_id,
            filename=clean_filename(filename),
            content_type=clean_content_type(content_type),
            size_bytes=stored.size,
            sha256=stored.sha256,
            storage=self._storage.name,
            storage_key=stored.key,
            created_at=datetime.now(UTC),
        )
        committing = False
        try:
            async with self._database.transaction() as tx:
                backlog, channel = await self._record(tx, attachment)
                committing = True
        except BaseException:
            if not committing:  # else the commit's answer got lost, and a row may name the file
                await self._storage.delete(stored.key)
            raise
        self._backlog = backlog
        if channel != SYNTHETIC:
            self._instruments.attachment_stored.add(1, {"content_type": closed(attachment.content_type, CONTENT_TYPES)})
        return attachment

    async def of_case(self, case_id: str) -> list[Attachment]:
        """A case's attachments, oldest first; raises NotFound for an unknown case."""
        await self.expect(case_id)
        return await store.of_case(self._database, case_id)

    async def get(self, case_id: str, attachment_id: str) -> Attachment:
        """One attachment; raises NotFound."""
        known = may_be_id(case_id) and may_be_id(attachment_id)
        attachment = await store.get(self._database, case_id, attachment_id) if known else None
        if attachment is None:
            raise NotFound("attachment_not_found", f"There is no attachment {attachment_id[:64]!r} in this case.")
        return attachment

    def read(self, attachment: Attachment, offset: int, length: int) -> AsyncIterator[bytes]:
        """An attachment's bytes from an offset on."""
        return self._storage.read(attachment.storage_key, offset, length)

    async def remove(self, case_id: str, attachment_id: str) -> None:
        """Remove an attachment; raises NotFound."""
        attachment = await self.get(case_id, attachment_id)
        async with self._database.transaction() as tx:
            left = await store.remove(tx, attachment)
        if left is not None:
            self._backlog = left
            await self._storage.delete(attachment.storage_key)

    @contextmanager
    def counting_rejections(self) -> Iterator[None]:
        """Count an upload that is refused within the block, or whose client leaves."""
        try:
            yield
        except SupportError as refusal:
            self._instruments.attachment_rejected.add(1, {"reason": closed(refusal.code, REJECTIONS)})
            raise
        except ConnectionError:
            self._instruments.attachment_rejected.add(1, {"reason": "client_left"})
            raise

    async def refresh_backlog(self) -> None:
        """Read the ledger, which other replicas change too."""
        self._backlog = await store.backlog(self._database, self._storage.name)

    async def _record(self, tx: Transaction, attachment: Attachment) -> tuple[Backlog, str]:
        """Keep an attachment's row and its event; what the storage holds now, and the channel of the case."""
        channel = await store.lock_case(tx, attachment.ticket_id)
        if channel is None:
            raise no_case(attachment.ticket_id)
        public = view(attachment, self._public_url)
        at = attachment.created_at
        await outbox.append(
            tx, attachment.ticket_id, outbox.UPDATED, at, changeType="attachment.added", attachment=public
        )
        return await store.add(tx, attachment), channel

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_bytes:
                raise TooLarge("attachment_too_large", f"A file may have at most {self._max_bytes} bytes.")
            yield chunk
        if not size:
            raise Invalid("attachment_empty", "The file is empty; nothing was kept.")
