"""AttachmentService: store, serve and delete the files of cases, and measure the backlog on local storage."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime

from support_service.attachments import store
from support_service.attachments.maintenance import garbage_queries, offload_queries
from support_service.attachments.maintenance.offload_queries import GarbageEntry
from support_service.attachments.model import (
    MAX_FILES_PER_CASE,
    Attachment,
    FileTotals,
    attachment_view,
    audit_fields,
    content_disposition,
)
from support_service.attachments.storage.base import AttachmentStorage, ResponseHeaders
from support_service.attachments.store import CaseForUpload
from support_service.attachments.upload_validation import UploadLimits, UploadValidator
from support_service.audit import log as audit
from support_service.core.case_vocabulary import SYNTHETIC
from support_service.core.errors import Conflict, NotFound, SupportError, Unavailable, case_not_found
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.database import Database, Transaction
from support_service.events import outbox
from support_service.idempotency.unit_of_work import UnitOfWork, WriteContext, unit_of_work
from support_service.telemetry.instruments import Instruments, Observations
from support_service.telemetry.instruments.attachments import (
    ATTACHMENT_BACKLOG,
    ATTACHMENT_BACKLOG_AGE,
    ATTACHMENT_BACKLOG_FILES,
    ATTACHMENT_DISK_FREE,
    ATTACHMENT_UPLOADS,
    CONTENT_TYPES,
    REJECTIONS,
)
from support_service.telemetry.labels import known_or_other

PRESIGNED_URL_SECONDS = 300  # seconds in which a redirected download must start
LOCAL = "local"
# One agent or customer may use a quarter of the upload slots, so that their slow uploads do not block everyone else.
MAX_UPLOAD_SHARE_DIVISOR = 4

log = logging.getLogger(__name__)


class AttachmentService:
    """Store, serve and delete attachments.

    Invariant: every row has its file. Uploads write the file first; deletes remove the row first. New files go to the
    first storage in `storages`; each file is read from the storage that its row names.
    """

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        instruments: Instruments,
        limits: UploadLimits,
        uploads: int = 64,
        *,
        public_url: str = "",
    ) -> None:
        self._database = database
        self._storages = storages
        self._storage = next(iter(storages.values()))
        self._instruments = instruments
        self._limits = limits
        self._max_uploads = uploads
        self._public_url = public_url
        self._uploads_per_user = max(1, uploads // MAX_UPLOAD_SHARE_DIVISOR)
        self._active_uploads = 0
        # Uploads by agent or customer; None for other callers.
        self._people: Counter[tuple[str, str | None] | None] = Counter()
        self._backlog: FileTotals | None = None
        self._oldest: datetime | None = None
        self._disk_free: int | None = None
        instruments.observe(ATTACHMENT_BACKLOG, lambda: [(self._backlog.bytes, {})] if self._backlog else [])
        instruments.observe(ATTACHMENT_BACKLOG_FILES, lambda: [(self._backlog.files, {})] if self._backlog else [])
        instruments.observe(ATTACHMENT_BACKLOG_AGE, self._backlog_age)
        instruments.observe(ATTACHMENT_DISK_FREE, lambda: [] if self._disk_free is None else [(self._disk_free, {})])
        instruments.observe(ATTACHMENT_UPLOADS, lambda: [(self._active_uploads, {})])

    async def expect(self, case_id: str) -> CaseForUpload:
        """Return the fields of a case that an upload needs.

        Raises NotFound for an unknown case and for one that the caller may not see.
        """
        return _require_visible(
            case_id, await store.get_case(self._database, case_id) if is_valid_id(case_id) else None
        )

    async def expect_takes(self, case_id: str, versions: ExpectedVersions = None) -> None:
        """Check that the caller may add a file, before its bytes are sent.

        Raises NotFound, Conflict (the case is full, or closed and the caller is its customer) and
        VersionConflict (the case's version is none of `versions`).
        """
        found = await self.expect(case_id)
        _require_accepting_files(found)
        expect_version(found.version, versions)
        if found.files >= MAX_FILES_PER_CASE:
            raise _case_full()

    async def add(
        self,
        case_id: str,
        filename: str,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        *,
        expected: int = 0,
        visibility: str = "public",
        versions: ExpectedVersions = None,
        context: WriteContext | None = None,
    ) -> Attachment:
        """Store a file of an existing case. `expected` is its approximate size in bytes, 0 if unknown.

        Raises RequestTooLarge, ValidationFailed (the file is empty), UnsupportedMediaType (its type is not
        allowed), InsufficientStorage, NotFound, Conflict (the case is full, or closed and the caller is its
        customer) and VersionConflict (when the row is inserted, the case's version is none of `versions`).
        """
        intake = UploadValidator(filename, content_type, self._limits)
        label = ResponseHeaders(intake.content_type, content_disposition(intake.filename))
        stored = await self._storage.put(intake.passing(chunks), expected=expected, label=label)
        attachment = Attachment(
            id=new_id(),
            ticket_id=case_id,
            filename=intake.filename,
            content_type=intake.content_type,
            size_bytes=stored.size,
            sha256=stored.sha256,
            storage=self._storage.name,
            storage_key=stored.key,
            created_at=datetime.now(UTC),
            detected_type=intake.detected_type,
            visibility=visibility,
        )
        committing = False
        try:
            async with unit_of_work(self._database, context or WriteContext(CURRENT_PRINCIPAL.get())) as work:
                backlog, channel = await self._insert(work, attachment, versions)
                committing = True
        except BaseException as failure:
            # A failed commit may have succeeded, and then a row names the file; a lost claim prevents the commit.
            if not committing or isinstance(failure, Conflict):
                await self._storage.delete(stored.key)
            raise
        if attachment.storage == LOCAL:
            self._backlog = backlog
        if channel != SYNTHETIC:
            self._instruments.attachment_stored.add(
                1, {"content_type": known_or_other(attachment.content_type, CONTENT_TYPES)}
            )
        return attachment

    async def of_case(self, case_id: str) -> list[Attachment]:
        """Return the case's attachments that the caller may see, oldest first. Raises NotFound for an unknown case."""
        await self.expect(case_id)
        return [
            each
            for each in await store.list_by_case(self._database, case_id)
            if CURRENT_PRINCIPAL.get().may_see_visibility(each.visibility)
        ]

    async def get(self, case_id: str, attachment_id: str) -> Attachment:
        """Return one attachment. Raises NotFound if it is unknown or the caller may not see it."""
        known = is_valid_id(case_id) and is_valid_id(attachment_id)
        found = await store.get(self._database, case_id, attachment_id) if known else None
        caller = CURRENT_PRINCIPAL.get()
        if found is None or not caller.may_see(found[0]) or not caller.may_see_visibility(found[1].visibility):
            raise _no_attachment(attachment_id)
        return found[1]

    async def read(self, attachment: Attachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes of an attachment, starting at `offset`; raises Unavailable.

        If the file was moved to another storage after its row was read, the bytes are read from there.
        """
        given = 0
        while True:
            try:
                async with aclosing(self._read_blocks(attachment, offset, length)) as blocks:
                    async for block in blocks:
                        given += len(block)
                        yield block
                    return
            except Unavailable:
                moved = None if given else await garbage_queries.get_by_id(self._database, attachment.id)
                if moved is None or moved.storage_key == attachment.storage_key:
                    raise
                attachment = moved  # the file was moved after its row was read

    async def link(self, attachment: Attachment) -> str | None:
        """Return a URL that serves the bytes directly for LINK_FOR seconds; None if the storage has no URLs."""
        storage = self._storages.get(attachment.storage)
        return await storage.link(attachment.storage_key, PRESIGNED_URL_SECONDS) if storage else None

    async def remove(
        self,
        case_id: str,
        attachment_id: str,
        versions: ExpectedVersions = None,
        context: WriteContext | None = None,
    ) -> None:
        """Delete an attachment. Raises NotFound and VersionConflict.

        Its bytes are deleted at once if possible, otherwise later by the garbage collection.
        """
        attachment = await self.get(case_id, attachment_id)
        at = datetime.now(UTC)
        async with unit_of_work(self._database, context or WriteContext(CURRENT_PRINCIPAL.get())) as work:
            tx = work.tx
            case = await self._lock_case(tx, case_id, versions)
            removed = await store.remove(tx, [attachment.id], "request", at)
            if not removed:
                # Another request deleted it first. The rollback leaves nothing changed.
                raise _no_attachment(attachment_id)
            await publish_removal(tx, removed, self._public_url, at)
            await audit_removal(work, removed, "request", at)
            await store.subtract_from_ledger(tx, removed)
        if case.channel != SYNTHETIC:
            self._instruments.attachment_deleted.add(1, {"reason": "request"})
        await self.discard(removed)

    async def remove_all(self, work: UnitOfWork, case_id: str) -> list[Attachment]:
        """Delete the attachments of a case that `work` has locked. After the commit, pass the result to `discard`."""
        tx = work.tx
        ids = [attachment.id for attachment in await store.list_by_case(tx, case_id)]
        removed = await store.remove(tx, ids, "request", datetime.now(UTC)) if ids else []
        await audit_removal(work, removed, "request", datetime.now(UTC))
        await store.subtract_from_ledger(tx, removed)
        return removed

    async def discard(self, removed: Iterable[Attachment]) -> None:
        """Delete the bytes of removed attachments. If that fails, the garbage collection deletes them later."""
        for gone in removed:
            await self._delete_bytes(gone)
        try:
            await self.refresh_backlog()
        except Unavailable as failure:  # the removal is committed; outdated gauges must not make it fail
            log.warning("The attachment backlog is read again later: %s", failure)

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Occupy an upload slot for the duration of the block; count rejections and client disconnects.

        Raises Unavailable if all upload slots are in use, or the share of this agent or customer.
        """
        caller = CURRENT_PRINCIPAL.get()
        person = (caller.name, caller.subject) if caller.role in ("agent", "customer") else None
        try:
            if self._active_uploads >= self._max_uploads or (person and self._people[person] >= self._uploads_per_user):
                raise Unavailable("uploads_busy", "Too many uploads are in progress; try again in a moment.")
            self._active_uploads += 1
            self._people[person] += 1
            try:
                yield
            finally:
                self._active_uploads -= 1
                self._people[person] -= 1
                if not self._people[person]:
                    del self._people[person]
        except SupportError as refusal:
            self._instruments.attachment_rejected.add(1, {"reason": known_or_other(refusal.code, REJECTIONS)})
            raise
        except ConnectionError:
            self._instruments.attachment_rejected.add(1, {"reason": "client_left"})
            raise

    async def refresh_backlog(self) -> None:
        """Update the gauges: free disk space, then the local ledger and the time of the oldest local file.

        The disk is read first because it needs no database. The ledger is read again because other replicas change it.
        """
        if LOCAL in self._storages:
            try:
                self._disk_free = await asyncio.to_thread(self._storages[LOCAL].free)
            except OSError:
                self._disk_free = None  # the disk is missing, so its free space is unknown
        self._backlog = await store.ledger_totals(self._database, LOCAL)
        self._oldest = await store.oldest_created_at(self._database, LOCAL) if self._backlog.files else None

    def _backlog_age(self) -> Observations:
        if self._backlog is None:
            return []
        return [(max(0.0, (datetime.now(UTC) - self._oldest).total_seconds()) if self._oldest else 0.0, {})]

    def _read_blocks(self, attachment: Attachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        storage = self._storages.get(attachment.storage)
        if storage is None:
            raise Unavailable(
                "attachment_unreadable", f"The file lies on a storage that is not set up here: {attachment.storage}."
            )
        return storage.read(attachment.storage_key, offset, length)

    async def _delete_bytes(self, gone: Attachment) -> None:
        """Delete the bytes of a removed attachment. If that fails, they stay on the garbage list."""
        storage = self._storages.get(gone.storage)
        try:
            if storage is not None:
                await storage.delete(gone.storage_key)
                async with self._database.transaction() as tx:
                    await offload_queries.delete_garbage_entries(
                        tx, [GarbageEntry(gone.storage, gone.storage_key, gone.size_bytes)]
                    )
        except Unavailable as failure:
            log.warning("The bytes of attachment %s go later: %s", gone.id, failure)

    async def _lock_case(self, tx: Transaction, case_id: str, versions: ExpectedVersions) -> CaseForUpload:
        """Lock the case and increment its version. Raises NotFound and VersionConflict."""
        touched = _require_visible(case_id, await store.lock_case(tx, case_id))
        expect_version(touched.version - 1, versions)
        return touched

    async def _insert(
        self, work: UnitOfWork, attachment: Attachment, versions: ExpectedVersions
    ) -> tuple[FileTotals, str]:
        """Insert an attachment's row, its event and its audit entry.

        Return the content of its storage after the insert, and the channel of the case.
        """
        tx = work.tx
        case = await self._lock_case(tx, attachment.ticket_id, versions)
        _require_accepting_files(case)
        public = attachment_view(attachment, self._public_url)
        at = attachment.created_at
        await outbox.append_event(
            tx, attachment.ticket_id, outbox.CASE_UPDATED, at, changeType="attachment.added", attachment=public
        )
        changes = {name: (None, value) for name, value in audit_fields(attachment).items()}
        await audit.record(work, attachment.ticket_id, "attachment.added", at, changes)
        backlog = await store.add(tx, attachment)
        if backlog is None:
            raise _case_full()
        return backlog, case.channel


def _require_visible(case_id: str, found: CaseForUpload | None) -> CaseForUpload:
    if found is None or not CURRENT_PRINCIPAL.get().may_see(found.owner):
        raise case_not_found(case_id)
    return found


def _require_accepting_files(case: CaseForUpload) -> None:
    if case.status == "closed" and CURRENT_PRINCIPAL.get().role == "customer":
        raise Conflict("case_closed", "The case is closed and takes no more files of its customer; open a new one.")


def _case_full() -> Conflict:
    return Conflict(
        "case_full", f"This case has {MAX_FILES_PER_CASE:,} files, as many as it may have; open another case."
    )


async def publish_removal(tx: Transaction, removed: Sequence[Attachment], public_url: str, at: datetime) -> None:
    """Append an event to the outbox for each attachment that `tx` removes. `tx` must have locked their cases."""
    changes = [
        (each.ticket_id, {"changeType": "attachment.removed", "attachment": attachment_view(each, public_url)})
        for each in removed
    ]
    await outbox.append_all(tx, outbox.CASE_UPDATED, at, changes)


async def audit_removal(work: UnitOfWork, removed: Sequence[Attachment], reason: str, at: datetime) -> None:
    """Record in the audit log which attachments `work` removes, and why."""
    changed = [
        (
            each.ticket_id,
            {name: (value, None) for name, value in audit_fields(each).items()} | {"reason": (None, reason)},
        )
        for each in removed
    ]
    await audit.record_all(work, "attachment.removed", at, changed)


def _no_attachment(attachment_id: str) -> NotFound:
    return NotFound("attachment_not_found", f"There is no attachment {attachment_id[:64]!r} in this case.")
