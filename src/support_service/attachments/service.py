"""AttachmentService: find, serve and delete the files of cases; `uploader.py` adds them."""

import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing

from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.garbage import delete_garbage_entries
from support_service.attachments.storage.base import STORAGES, AttachmentStorage, UnreadableFile, read_verified
from support_service.attachments.uploader import AttachmentUploader, UploadSlots
from support_service.cases.case_files import (
    ATTACHMENT_DELETED,
    CaseFiles,
    attachment_not_found,
    check_may_remove_files,
    lock_case_for_file,
)
from support_service.cases.model.files import StoredAttachment
from support_service.cases.sql import attachment_rows, link_rows
from support_service.cases.sql.case_rows import CaseState
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import Unavailable, case_not_found, problem
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, version_conflict
from support_service.platform.database import ContendedRow, Database
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

log = logging.getLogger(__name__)
CONCURRENT_UPLOADS = 64  # a quarter of them for one agent or customer
PRESIGNED_URL_SECONDS = 300  # seconds in which a redirected download must start

ATTACHMENT_UNREADABLE = InstrumentSpec(
    "support.attachment.unreadable",
    "counter",
    "{read}",
    "Downloads that failed because the stored file is missing, or its bytes differ from its row",
    {"storage": STORAGES, "kind": ("missing", "damaged")},
)


class AttachmentService:
    """Find, serve and delete attachments; `uploader` adds them.

    Invariant: every row has its file. Uploads write the file first; deletes remove the row first. New files go to the
    first storage in `storages`. Each file is read from the storage that its row names, and verified while it is read.
    """

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        instruments: Instruments,
        settings: AttachmentSettings,
        *,
        files: CaseFiles | None = None,
    ) -> None:
        self._database = database
        self._storages = storages
        self._instruments = instruments
        self.files = files or CaseFiles()
        self.backlog = AttachmentBacklog(database, storages.get("local"), instruments, self.files)
        self.upload_slots = UploadSlots(instruments, CONCURRENT_UPLOADS)
        first = next(iter(storages.values()))
        self.uploader = AttachmentUploader(database, first, instruments, settings, self.files)

    async def list_by_case(self, principal: Principal, case_id: str) -> list[StoredAttachment]:
        """Return the attachments that the principal may see, oldest first.

        The attachments of the case's duplicates are among them.
        """
        public_only = principal.reads_only_public
        found = None
        if is_valid_id(case_id):
            found = await attachment_rows.list_with_owner(self._database, case_id, public_only=public_only)
        if found is None or not principal.may_see(found.owner):
            raise case_not_found(case_id)
        return [each for each in found.attachments if principal.may_see_visibility(each.visibility)]

    async def list_by_cases(self, principal: Principal, case_ids: Sequence[str], limit: int) -> list[StoredAttachment]:
        """Return at most `limit` attachments of cases that the principal may see, newest first."""
        public_only = principal.reads_only_public
        return (
            await attachment_rows.list_by_cases(self._database, case_ids, limit, public_only=public_only)
            if case_ids
            else []
        )

    async def get(self, principal: Principal, case_id: str, attachment_id: str) -> StoredAttachment:
        """Return one attachment, or a staged file of the principal.

        A file that a split has moved to another case is found by its former address. Staff find the files of a
        duplicate by the cases that it is a duplicate of. Raises NotFound if the file is unknown or the principal may
        not see it.
        """
        if not (is_valid_id(case_id) and is_valid_id(attachment_id)):
            raise attachment_not_found(attachment_id)
        found = await attachment_rows.get(self._database, case_id, attachment_id)
        if found is None:
            staged = await attachment_rows.list_staged(self._database, principal, case_id, [attachment_id], utc_now())
            if staged:
                return staged[0]
            found = await attachment_rows.find_moved(self._database, case_id, attachment_id)
        if found is None or not principal.may_see_visibility(found.attachment.visibility):
            raise attachment_not_found(attachment_id)
        owners = [found.owner]
        if principal.role == "agent" and not principal.may_see(found.owner):
            owners = await link_rows.read_owners_of_originals(self._database, found.attachment.ticket_id)
        if not any(map(principal.may_see, owners)):
            raise attachment_not_found(attachment_id)
        return found.attachment

    async def read(self, attachment: StoredAttachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Yield `length` bytes of an attachment, starting at `offset`.

        The last block of a whole file is only yielded if its SHA-256 equals the row's. Of a range, only the size of the
        file is compared. If the file was moved to another storage after its row was read, the bytes are read from
        there. Raises UnreadableFile, Unavailable, and NotFound if the attachment was deleted in the meantime.
        """
        yielded = 0
        while True:
            try:
                async with aclosing(self._blocks(attachment, offset, length)) as blocks:
                    async for block in blocks:
                        yielded += len(block)
                        yield block
                    self.uploader.count_transfer("download")
                    return
            except Unavailable as failure:
                current = await attachment_rows.get_by_id(
                    self._database, attachment.id
                ) or await attachment_rows.get_staged(self._database, attachment.id)
                if current is not None and current.storage_key == attachment.storage_key:
                    if isinstance(failure, UnreadableFile):
                        self._count_unreadable(attachment, failure)
                    self.uploader.count_transfer("download", failure)
                    raise
                if yielded:
                    raise
                if current is None:
                    raise attachment_not_found(attachment.id) from failure
                attachment = current  # the file was moved after its row was read

    async def presigned_url(self, attachment: StoredAttachment) -> str | None:
        """Return a URL that serves the bytes directly for some minutes.

        None if the storage has no URLs, or not this file in its size.
        """
        storage = self._storages.get(attachment.storage)
        if storage is None:
            return None
        try:
            url = await storage.presigned_url(attachment.storage_key, attachment.size_bytes, PRESIGNED_URL_SECONDS)
        except Unavailable as failure:
            self.uploader.count_transfer("download", failure)
            raise
        if url is not None:
            self.uploader.count_transfer("download")
        return url

    async def remove(
        self, origin: WriteOrigin, case_id: str, attachment_id: str, expected_versions: ExpectedVersions = None
    ) -> None:
        """Delete an attachment, or a staged file of the principal.

        Its bytes are deleted at once if possible, otherwise later by the garbage collection. A staged file is
        not part of its case, so the version of the case does not matter.
        """
        attachment = await self.get(origin.principal, case_id, attachment_id)
        case: CaseState | None = None
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            removed = await attachment_rows.discard_staged(work.tx, origin.principal, case_id, attachment_id, utc_now())
            if not removed:
                check_may_remove_files(origin.principal)
                if attachment.ticket_id != case_id:
                    raise attachment_not_found(attachment_id)
                case = await lock_case_for_file(work, case_id, expected_versions, visibility=attachment.visibility)
                removed = await self.files.remove(work, [attachment.id], "request", time_after(case.at))
                # After an error the rollback leaves nothing changed.
                if not removed or removed[0].ticket_id != case_id:  # another request deleted it, or a split moved it
                    raise attachment_not_found(attachment_id)
                if removed[0].visibility != attachment.visibility:  # a message has shown or hidden it since it was read
                    raise version_conflict()
        if case is not None and not case.synthetic:
            self._instruments.add(ATTACHMENT_DELETED, 1, {"reason": "request"})
        await self.delete_bytes(removed)

    async def delete_bytes(self, removed: Iterable[StoredAttachment]) -> None:
        """Delete the bytes of removed attachments. If that fails, the garbage collection deletes them later."""
        for attachment in removed:
            storage = self._storages.get(attachment.storage)
            if storage is None:
                continue
            try:
                await storage.delete(attachment.storage_key)
                async with self._database.transaction() as tx:
                    await delete_garbage_entries(tx, [attachment_rows.garbage_entry_of(attachment)])
            except Unavailable as failure:
                log.warning("The bytes of attachment %s are deleted later: %s", attachment.id, failure)
        try:
            await self.backlog.refresh()
        except Unavailable as failure:  # the removal is committed; outdated gauges must not make it fail
            log.warning("The attachment backlog is read again later: %s", failure)

    def _blocks(self, attachment: StoredAttachment, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        storage, key, size = self._storages.get(attachment.storage), attachment.storage_key, attachment.size_bytes
        if storage is None:
            raise problem(
                "attachment_unreadable",
                f"The file is on the storage {attachment.storage}, which is not configured here.",
            )
        if (offset, length) == (0, size):
            return read_verified(storage, key, size, attachment.sha256)
        return storage.read(key, offset, length, size=size)

    def _count_unreadable(self, attachment: StoredAttachment, failure: UnreadableFile) -> None:
        log.error(
            "A download failed: attachment %s on %s is %s: %s",
            attachment.id,
            attachment.storage,
            failure.fault,
            failure,
        )
        self._instruments.add(ATTACHMENT_UNREADABLE, 1, {"storage": attachment.storage, "kind": failure.fault})
