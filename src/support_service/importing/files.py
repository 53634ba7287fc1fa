"""The files of imported cases: read below one folder only, and stored before the rows, as for an upload."""

import asyncio
import errno
import mimetypes
import os
import stat
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from support_service.attachments.content import UploadValidator, discard_bytes, store_file
from support_service.attachments.storage.base import AttachmentStorage
from support_service.cases.model.files import StoredAttachment, attachment_url
from support_service.cases.sql import attachment_rows
from support_service.core.errors import FieldError, SupportError, Unavailable, ValidationFailed
from support_service.core.os_errors import describe_os_error
from support_service.importing.imported_case import CaseToImport, FileToImport
from support_service.platform.background import cancel_all
from support_service.platform.database import Transaction
from support_service.platform.settings.resources import AttachmentSettings

BLOCK_BYTES = 256 * 1024  # bytes per read
CONCURRENT_FILES = 16  # they share the flush of a folder
MISSING = "missing"  # reason of the refusal of a file that a case names and that does not exist
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # so that a named pipe does not block


def open_below(folder: Path, path: str) -> BinaryIO:
    """Open a regular file by its path relative to a folder, each part without following symbolic links.

    Raises ValidationFailed for a path or a file that is not allowed, and with the reason MISSING.
    """
    *parents, name = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in (*parents, name)):
        raise _unreadable_file_error(path, "must be a relative path with / between names, without . and ..")
    with ExitStack() as opened:
        try:
            # The folder itself may be a link: the caller chose it.
            descriptor = _close_later(opened, os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for part in parents:
                descriptor = _close_later(opened, os.open(part, _OPEN_FLAGS | os.O_DIRECTORY, dir_fd=descriptor))
            found = os.open(name, _OPEN_FLAGS, dir_fd=descriptor)
        except FileNotFoundError:
            raise _unreadable_file_error(path, "does not exist", reason=MISSING) from None
        except (OSError, ValueError) as failure:  # ValueError: a lone surrogate
            raise _unreadable_file_error(path, _describe_failure(failure)) from None
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise _unreadable_file_error(path, "is not a regular file")
    return os.fdopen(found, "rb")


def _close_later(opened: ExitStack, descriptor: int) -> int:
    opened.callback(os.close, descriptor)
    return descriptor


def _describe_failure(failure: OSError | ValueError) -> str:
    if isinstance(failure, ValueError):
        return "is not a valid name"
    if failure.errno in (errno.ELOOP, errno.ENOTDIR):
        return "is a symbolic link, or is below one or below a file; only files of the folder itself are read"
    return f"can't be opened: {describe_os_error(failure)}"


def _unreadable_file_error(path: str, why: str, code: str = "invalid_request", *, reason: str = "") -> ValidationFailed:
    found = FieldError("attachments", f"{path[:200]!r}: {why}")
    failure = ValidationFailed(code, f"A file of the case can't be read: {path[:200]!r} {why}", [found])
    failure.reason = reason
    return failure


async def _read_blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


class ImportedFiles:
    """Reads files below one folder, and stores them. `missing` counts the files that were left out."""

    def __init__(
        self,
        folder: Path,
        storage: AttachmentStorage,
        settings: AttachmentSettings,
        *,
        public_url: str = "",
        skip_missing: bool = False,
    ) -> None:
        self._folder = folder
        self._storage = storage
        self._settings = settings
        self._public_url = public_url
        self._skip_missing = skip_missing
        self._slots = asyncio.Semaphore(CONCURRENT_FILES)
        self.missing = 0

    def find_unreadable(self, case: CaseToImport) -> SupportError | None:
        """Return why a file of the case can't be read, or None if all can."""
        for file in list(case.files):
            try:
                with open_below(self._folder, file.sent.path):
                    pass
            except SupportError as failure:
                if not self._leave_out_if_missing(case, file, failure):
                    return failure
        return None

    async def store_files_of_cases(
        self, cases: Sequence[CaseToImport], stored: Sequence[list[StoredAttachment]]
    ) -> list[SupportError | None]:
        """Store the bytes of cases' files, adding them to `stored`. Return for each case why it is refused, or None.

        Raises Unavailable.
        """
        if not any(each.files for each in cases):
            return [None] * len(cases)
        tasks = [asyncio.ensure_future(each) for each in map(self._store_files_of_case, cases, stored)]
        try:
            await asyncio.wait(tasks)  # all, also if one fails: none must use the storage after its end
        finally:
            await cancel_all(tasks)  # if this task is cancelled, some still run
        return [task.result() for task in tasks]

    async def discard(self, stored: Iterable[StoredAttachment]) -> None:
        """Delete the bytes of a case that is not stored."""
        for attachment in stored:
            await discard_bytes(self._storage, attachment.storage_key)

    async def add_rows(self, tx: Transaction, stored: Sequence[StoredAttachment]) -> None:
        """Insert the rows of stored files, and count them in the ledger."""
        if stored:
            await attachment_rows.add_all(tx, stored)
            size = sum(attachment.size_bytes for attachment in stored)
            await attachment_rows.add_to_ledger(tx, self._storage.name, len(stored), size)

    async def _store_files_of_case(self, case: CaseToImport, stored: list[StoredAttachment]) -> SupportError | None:
        for file in list(case.files):
            try:
                async with self._slots:
                    attachment = await self._store_file(case.case.id, file)
            except Unavailable:
                raise
            except SupportError as failure:
                if self._leave_out_if_missing(case, file, failure):
                    continue
                await self.discard(stored)
                named = failure.code == "invalid_request"  # by `open_below`
                return failure if named else _unreadable_file_error(file.sent.path, failure.detail, failure.code)
            stored.append(attachment)
            url = attachment_url(self._public_url, case.case.id, attachment.id, attachment.filename)
            for message in case.messages_by_file.get(file.sent.path, ()):
                case.history.name_attachment(message, attachment.id, url)
        return None

    def _leave_out_if_missing(self, case: CaseToImport, file: FileToImport, failure: SupportError) -> bool:
        """Leave out a missing file, if that is wanted. Return True if it is left out."""
        if not self._skip_missing or failure.reason != MISSING:
            return False
        case.leave_out(file)
        self.missing += 1
        return True

    async def _store_file(self, case_id: str, file: FileToImport) -> StoredAttachment:
        sent = file.sent
        filename = sent.filename or sent.path.rpartition("/")[2]
        with open_below(self._folder, sent.path) as opened:
            content_type = sent.content_type or mimetypes.guess_type(filename)[0]
            upload = UploadValidator(filename, content_type, self._settings)
            attachment = await store_file(
                self._storage, upload, case_id, _read_blocks(opened), visibility=file.visibility
            )
        return replace(attachment, id=file.id, created_at=file.created_at)
