"""The files of imported cases: their bytes are stored before the rows, as for an upload."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from support_service.attachments import attachment_rows
from support_service.attachments.attachment_rows import LEDGER_ROW
from support_service.attachments.content import UploadLimits, UploadValidator, discard_bytes, store_file
from support_service.attachments.model import StoredAttachment, attachment_url
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.errors import InsufficientStorage, SupportError, Unavailable, ValidationFailed
from support_service.importing.case_rows import CaseToImport, FileToImport
from support_service.importing.files import MissingFile, blocks, for_path, guess_type, open_below
from support_service.platform.background import cancel_all
from support_service.platform.database import ContendedRow, Transaction

CONCURRENT_FILES = 16  # they share the flush of a folder


@dataclass(slots=True)
class StoredFiles:
    """Attachments of a case whose bytes are stored, before their rows are inserted."""

    attachments: list[StoredAttachment] = field(default_factory=list)


class ImportedFiles:
    """Reads files below one folder, and stores them. `missing` counts the files that were left out."""

    def __init__(
        self,
        folder: Path,
        storage: AttachmentStorage,
        limits: UploadLimits,
        *,
        public_url: str = "",
        skip_missing: bool = False,
    ) -> None:
        self._folder = folder
        self._storage = storage
        self._limits = limits
        self._public_url = public_url
        self._skip_missing = skip_missing
        self._slots = asyncio.Semaphore(CONCURRENT_FILES)
        self.missing = 0

    def check(self, wanted: CaseToImport) -> SupportError | None:
        """Return why a file of the case can't be read, or None if all can."""
        for file in list(wanted.files):
            try:
                with open_below(self._folder, file.sent.path):
                    pass
            except MissingFile as failure:
                if not self._skip_missing:
                    return failure
                self._leave_out(wanted, file)
            except SupportError as failure:
                return failure
        return None

    async def store_all(
        self, wanted: Sequence[CaseToImport], stored: Sequence[StoredFiles]
    ) -> list[SupportError | None]:
        """Store the files of cases, adding them to `stored`. Return for each case why it is refused, or None.

        Raises Unavailable and InsufficientStorage.
        """
        if not any(each.files for each in wanted):
            return [None] * len(wanted)
        tasks = [asyncio.ensure_future(each) for each in map(self._store_files, wanted, stored)]
        try:
            await asyncio.wait(tasks)  # all, also if one fails: none must use the storage after its end
        finally:
            await cancel_all(tasks)  # if this task is cancelled, some still run
        return [task.result() for task in tasks]

    async def discard(self, stored: StoredFiles) -> None:
        """Delete the bytes of a case that is not stored."""
        for attachment in stored.attachments:
            await discard_bytes(self._storage, attachment.storage_key)

    def ledger_rows(self, stored: Iterable[StoredFiles]) -> tuple[ContendedRow, ...]:
        """Return the contended rows of `add_rows`."""
        return (LEDGER_ROW,) if any(each.attachments for each in stored) else ()

    async def add_rows(self, tx: Transaction, stored: Sequence[StoredFiles]) -> None:
        """Insert the rows of stored files, and count them in the ledger."""
        attachments = [attachment for each in stored for attachment in each.attachments]
        if attachments:
            await attachment_rows.add_all(tx, attachments)
            size = sum(attachment.size_bytes for attachment in attachments)
            await attachment_rows.add_to_ledger(tx, self._storage.name, len(attachments), size)

    async def _store_files(self, wanted: CaseToImport, stored: StoredFiles) -> SupportError | None:
        for file in list(wanted.files):
            try:
                async with self._slots:
                    attachment = await self._store_file(wanted.case.id, file)
            except (Unavailable, InsufficientStorage):
                raise
            except MissingFile as failure:
                if not self._skip_missing:
                    return await self._refused(stored, failure)
                self._leave_out(wanted, file)
            except ValidationFailed as failure:  # of `open_below`
                return await self._refused(stored, failure)
            except SupportError as failure:
                return await self._refused(stored, for_path(file.sent.path, failure))
            else:
                stored.attachments.append(attachment)
                url = attachment_url(self._public_url, wanted.case.id, attachment.id, attachment.filename)
                for message in wanted.naming.get(file.sent.path, ()):
                    wanted.history.name_attachment(message, attachment.id, url)
        return None

    def _leave_out(self, wanted: CaseToImport, file: FileToImport) -> None:
        wanted.leave_out(file)
        self.missing += 1

    async def _refused(self, stored: StoredFiles, failure: SupportError) -> SupportError:
        await self.discard(stored)
        return failure

    async def _store_file(self, case_id: str, file: FileToImport) -> StoredAttachment:
        sent = file.sent
        filename = sent.filename or sent.path.rpartition("/")[2]
        with open_below(self._folder, sent.path) as opened:
            upload = UploadValidator(filename, sent.content_type or guess_type(filename), self._limits)
            attachment = await store_file(self._storage, upload, case_id, blocks(opened), visibility=file.visibility)
        return replace(attachment, id=file.id, created_at=file.created_at)
