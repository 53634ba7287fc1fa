"""AttachmentService: store, serve and delete the files of cases."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from support_service.attachments import garbage_queries, store
from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.case_access import (
    attachment_not_found,
    lock_visible_case,
    require_accepting_files,
    require_visible,
)
from support_service.attachments.garbage_queries import GarbageEntry
from support_service.attachments.ledger import LEDGER_ROW
from support_service.attachments.model import (
    FileTotals,
    StoredAttachment,
    attachment_view,
    audit_fields,
    content_disposition,
)
from support_service.attachments.reader import AttachmentReader
from support_service.attachments.removal import remove_attachments
from support_service.attachments.storage.base import (
    AttachmentStorage,
    ResponseHeaders,
    StoredFile,
    UnreadableFile,
    verify,
)
from support_service.attachments.store import CaseForUpload
from support_service.attachments.upload.slots import UploadSlots
from support_service.attachments.upload.validation import UploadLimits, UploadValidator
from support_service.audit import log as audit
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, Unavailable
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version, version_conflict, visible_version
from support_service.database import ContendedRow, Database
from support_service.events import outbox
from support_service.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.instruments.attachments import CONTENT_TYPES
from support_service.telemetry.labels import known_or_other

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
        self._public_url = public_url
        self.backlog = AttachmentBacklog(database, storages.get("local"), instruments)
        self.reader = AttachmentReader(database, storages, instruments)
        self.upload_slots = UploadSlots(instruments, uploads)

    async def get_case(self, principal: Principal, case_id: str) -> CaseForUpload:
        """Return the fields of a case that an upload needs.

        Raises NotFound for an unknown case and for one that the principal may not see.
        """
        case = await store.get_case(self._database, case_id) if is_valid_id(case_id) else None
        return require_visible(principal, case_id, case)

    async def check_upload(
        self, principal: Principal, case_id: str, expected_versions: ExpectedVersions = None
    ) -> None:
        """Check that the principal may add a file, before its bytes are sent.

        Raises NotFound, Conflict (the case is full, or closed and the principal is its customer) and
        VersionConflict (the case is not at an expected version).
        """
        case = await self.get_case(principal, case_id)
        require_accepting_files(principal, case)
        expect_version(visible_version(principal, case.version, case.internal_changes), expected_versions)
        if case.files >= self._limits.max_files_per_case:
            raise self._case_full()

    async def add(
        self,
        origin: WriteOrigin,
        case_id: str,
        filename: str,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        *,
        size_hint: int = 0,
        visibility: str = "public",
        expected_versions: ExpectedVersions = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> StoredAttachment:
        """Store a file of an existing case. `size_hint` is its approximate size in bytes, 0 if unknown.

        `before_commit` is awaited when the file is stored, before its row is written; if it raises an error, the file
        is deleted.

        Raises RequestTooLarge, UnsupportedMediaType (its type is not allowed), InsufficientStorage, NotFound, Conflict
        (the case is full, or closed and the principal is its customer) and VersionConflict (when the row is inserted,
        the case is not at an expected version).
        """
        upload = UploadValidator(filename, content_type, self._limits)
        response_headers = ResponseHeaders(upload.content_type, content_disposition(upload.filename))
        stored = await self._storage.put(
            upload.validated(chunks), size_hint=size_hint, response_headers=response_headers
        )
        attachment = StoredAttachment(
            id=new_id(),
            ticket_id=case_id,
            filename=upload.filename,
            content_type=upload.content_type,
            size_bytes=stored.size,
            sha256=stored.sha256,
            storage=self._storage.name,
            storage_key=stored.key,
            created_at=utc_now(),
            detected_type=upload.detected_type,
            visibility=visibility,
        )
        committing = False
        try:
            await self._expect_kept(stored)
            if before_commit is not None:
                await before_commit()
            async with unit_of_work(self._database, origin, ContendedRow(case_id), LEDGER_ROW) as work:
                attachment, totals, synthetic = await self._insert(work, attachment, expected_versions)
                committing = True
        except BaseException as failure:
            # A failed commit may have succeeded, and then a row names the file; a lost claim prevents the commit.
            if not committing or isinstance(failure, Conflict):
                with suppress(Unavailable):  # then the sweep deletes the file, and the caller learns of `failure`
                    await self._storage.delete(stored.key)
            raise
        self.backlog.update(attachment.storage, totals)
        if not synthetic:
            self._instruments.attachment_stored.add(
                1, {"content_type": known_or_other(attachment.content_type, CONTENT_TYPES)}
            )
        return attachment

    async def list_by_case(self, principal: Principal, case_id: str) -> list[StoredAttachment]:
        """Return the attachments that the principal may see, oldest first. Raises NotFound for an unknown case."""
        await self.get_case(principal, case_id)
        found = await store.list_by_case(self._database, case_id)
        return [each for each in found if principal.may_see_visibility(each.visibility)]

    async def get(self, principal: Principal, case_id: str, attachment_id: str) -> StoredAttachment:
        """Return one attachment. Raises NotFound if it is unknown or the principal may not see it."""
        valid = is_valid_id(case_id) and is_valid_id(attachment_id)
        found = await store.get(self._database, case_id, attachment_id) if valid else None
        if found and principal.may_see(found.owner) and principal.may_see_visibility(found.attachment.visibility):
            return found.attachment
        raise attachment_not_found(attachment_id)

    async def remove(
        self, origin: WriteOrigin, case_id: str, attachment_id: str, expected_versions: ExpectedVersions = None
    ) -> None:
        """Delete an attachment. Raises NotFound and VersionConflict.

        Its bytes are deleted at once if possible, otherwise later by the garbage collection.
        """
        attachment = await self.get(origin.principal, case_id, attachment_id)
        async with unit_of_work(self._database, origin, ContendedRow(case_id), LEDGER_ROW) as work:
            case = await lock_visible_case(work, case_id, expected_versions, visibility=attachment.visibility)
            at = time_after(case.latest)
            removed = await remove_attachments(work, [attachment.id], "request", at, public_url=self._public_url)
            # After an error the rollback leaves nothing changed.
            if not removed:  # another request deleted it first
                raise attachment_not_found(attachment_id)
            if removed[0].visibility != attachment.visibility:  # a message has shown or hidden it since it was read
                raise version_conflict()
        if not case.synthetic:
            self._instruments.attachment_deleted.add(1, {"reason": "request"})
        await self.delete_bytes(removed)

    async def remove_all(self, work: UnitOfWork, case_id: str, at: datetime) -> list[StoredAttachment]:
        """Delete the attachments of a case that `work` has locked. After the commit, call `delete_bytes`."""
        ids = [attachment.id for attachment in await store.list_by_case(work.tx, case_id)]
        return await remove_attachments(work, ids, "request", at, public_url=None)

    async def delete_bytes(self, removed: Iterable[StoredAttachment]) -> None:
        """Delete the bytes of removed attachments. If that fails, the garbage collection deletes them later."""
        for attachment in removed:
            storage = self._storages.get(attachment.storage)
            if storage is None:
                continue
            entry = GarbageEntry(attachment.storage, attachment.storage_key, attachment.size_bytes)
            try:
                await storage.delete(attachment.storage_key)
                async with self._database.transaction() as tx:
                    await garbage_queries.delete_garbage_entries(tx, [entry])
            except Unavailable as failure:
                log.warning("The bytes of attachment %s are deleted later: %s", attachment.id, failure)
        try:
            await self.backlog.refresh()
        except Unavailable as failure:  # the removal is committed; outdated gauges must not make it fail
            log.warning("The attachment backlog is read again later: %s", failure)

    async def _expect_kept(self, stored: StoredFile) -> None:
        """Raise Unavailable if a new file reads back otherwise than it was sent."""
        if not self._storage.reads_back:
            return
        try:
            await verify(self._storage, stored.key, stored.size, stored.sha256)
        except UnreadableFile as failure:
            log.error("The storage %s did not keep %s as it was sent: %s", self._storage.name, stored.key, failure)  # noqa: TRY400 - the message suffices
            raise Unavailable(
                "storage_unavailable", "The storage did not keep the file as it was sent; send it again."
            ) from failure

    async def _insert(
        self, work: UnitOfWork, attachment: StoredAttachment, expected_versions: ExpectedVersions
    ) -> tuple[StoredAttachment, FileTotals, bool]:
        """Insert an attachment's row, its event and its audit entry.

        Return the attachment with the time of the insert, the content of its storage after the insert, and whether
        the case is synthetic.
        """
        visibility = attachment.visibility
        case = await lock_visible_case(work, attachment.ticket_id, expected_versions, visibility=visibility)
        require_accepting_files(work.origin.principal, case)
        at = time_after(case.latest)
        attachment = replace(attachment, created_at=at)
        view = attachment_view(attachment, self._public_url)
        await outbox.append_event(
            work.tx, attachment.ticket_id, outbox.CASE_UPDATED, at, changeType="attachment.added", attachment=view
        )
        changes = {name: (None, value) for name, value in audit_fields(attachment).items()}
        await audit.record(work, attachment.ticket_id, "attachment.added", at, changes)
        totals = await store.add(work.tx, attachment, self._limits.max_files_per_case)
        if totals is None:
            raise self._case_full()
        return attachment, totals, case.synthetic

    def _case_full(self) -> Conflict:
        limit = self._limits.max_files_per_case
        return Conflict("case_full", f"This case has {limit:,} files, as many as it may have; open another case.")
