"""AttachmentUploader: check an upload, store its file and add it to its case; UploadSlots limits concurrent uploads."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from support_service.attachments import attachment_rows
from support_service.attachments.attachment_rows import LEDGER_ROW
from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.case_files import (
    CaseFileLimits,
    add_attachment,
    case_full,
    count_attachments,
    hold_accepting_case,
    lock_visible_case,
    read_accepting_case,
    require_accepting_files,
)
from support_service.attachments.content import UploadLimits, UploadValidator, discard_bytes, store_file
from support_service.attachments.model import StoredAttachment
from support_service.attachments.storage.base import AttachmentStorage
from support_service.core.clock import time_after
from support_service.core.domain.content_types import KNOWN_CONTENT_TYPES
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, InsufficientStorage, SupportError, Unavailable
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.platform.database import ContendedRow, Database
from support_service.platform.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, known_or_other

# One agent or customer may use a quarter of the upload slots, so that their slow uploads do not block everyone else.
MAX_UPLOAD_SHARE_DIVISOR = 4

COUNTED_CONTENT_TYPES = (*KNOWN_CONTENT_TYPES, OTHER)
REJECTIONS = (
    "attachment_too_large",
    "body_too_large",
    "body_too_slow",
    "case_not_found",
    "checksum_mismatch",
    "client_left",
    "file_missing",
    "file_repeated",
    "malformed_checksum",
    "malformed_multipart",
    "storage_full",
    "storage_unavailable",
    "type_not_allowed",
    "unsupported_type",
    "uploads_busy",
    OTHER,
)
ATTACHMENT_STORED = InstrumentSpec(
    "support.attachment.stored",
    "counter",
    "{attachment}",
    "Stored attachments by the content type that the client declared",
    {"content_type": COUNTED_CONTENT_TYPES},
)
ATTACHMENT_REJECTED = InstrumentSpec(
    "support.attachment.rejected",
    "counter",
    "{upload}",
    "Refused and aborted uploads",
    {"reason": REJECTIONS},
)
ATTACHMENT_UPLOADS = InstrumentSpec(
    "support.attachment.uploads",
    "observed sum",
    "{upload}",
    "Uploads in progress",
)


class UploadSlots:
    """Counts the uploads in progress. Each upload occupies a slot from its first check to its last byte."""

    def __init__(self, instruments: Instruments, slots: int) -> None:
        self._instruments = instruments
        self._slots = slots
        self._slots_per_user = max(1, slots // MAX_UPLOAD_SHARE_DIVISOR)
        self._active = 0
        self._active_by_user: Counter[tuple[str, str | None]] = Counter()  # agents and customers only
        instruments.observe(ATTACHMENT_UPLOADS, lambda: [(self._active, {})])

    @contextmanager
    def occupy(self, principal: Principal) -> Iterator[None]:
        """Occupy a slot for the duration of the block; count rejections and client disconnects.

        Raises Unavailable if all slots are in use, or the share of this agent or customer.
        """
        try:
            with self._slot(principal):
                yield
        except SupportError as refusal:
            self._instruments.add(ATTACHMENT_REJECTED, 1, {"reason": known_or_other(refusal.code, REJECTIONS)})
            raise
        except ConnectionError:
            self._instruments.add(ATTACHMENT_REJECTED, 1, {"reason": "client_left"})
            raise

    @contextmanager
    def _slot(self, principal: Principal) -> Iterator[None]:
        user = (principal.name, principal.subject) if principal.role in ("agent", "customer") else None
        if self._active >= self._slots or (user and self._active_by_user[user] >= self._slots_per_user):
            raise Unavailable("uploads_busy", "Too many uploads are in progress; try again in a moment.")
        self._active += 1
        if user:
            self._active_by_user[user] += 1
        try:
            yield
        finally:
            self._active -= 1
            if user:
                self._active_by_user[user] -= 1
                if not self._active_by_user[user]:
                    del self._active_by_user[user]


class AttachmentUploader:
    """Adds files to cases. A file is written first and its row after it, so that every row has its file."""

    def __init__(
        self,
        database: Database,
        storage: AttachmentStorage,
        instruments: Instruments,
        limits: UploadLimits,
        backlog: AttachmentBacklog,
        *,
        case_limits: CaseFileLimits,
        public_url: str,
    ) -> None:
        self._database = database
        self._storage = storage
        self._instruments = instruments
        self._limits = limits
        self._case_limits = case_limits
        self._backlog = backlog
        self._public_url = public_url
        self.store_fault: str | None = None  # the problem code of the last upload that its storage refused

    async def check_upload(
        self, principal: Principal, case_id: str, expected_versions: ExpectedVersions = None
    ) -> None:
        """Check that the principal may add a file, before its bytes are sent.

        Raises NotFound, Conflict (the case is full, or closed and the principal is its customer) and
        VersionConflict (the case is not at an expected version).
        """
        case = await read_accepting_case(self._database, principal, case_id, expected_versions)
        if case.files >= self._case_limits.max_files_per_case:
            raise case_full(self._case_limits.max_files_per_case)

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
        staged: bool = False,
        expected_versions: ExpectedVersions = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> StoredAttachment:
        """Store a file of an existing case. `size_hint` is its approximate size in bytes, 0 if unknown.

        A `staged` file changes nothing in the case: a message of the same principal makes it a file of the case.

        `before_commit` is awaited when the file is stored, before its row is written; if it raises an error, the file
        is deleted.

        Raises RequestTooLarge, UnsupportedMediaType (its type is not allowed), InsufficientStorage, NotFound, Conflict
        (the case is full, or closed and the principal is its customer, or the principal has too many staged files) and
        VersionConflict (when the row is inserted, the case is not at an expected version).
        """
        upload = UploadValidator(filename, content_type, self._limits)
        try:
            attachment = await store_file(
                self._storage, upload, case_id, chunks, size_hint=size_hint, visibility=visibility
            )
        except (Unavailable, InsufficientStorage) as failure:
            self.store_fault = failure.code
            raise
        self.store_fault = None
        committing = False
        try:
            if before_commit is not None:
                await before_commit()
            contended = (ContendedRow(case_id),) if staged else (ContendedRow(case_id), LEDGER_ROW)
            async with unit_of_work(self._database, origin, *contended) as work:
                if staged:
                    synthetic = await self._stage(work, attachment, expected_versions)
                else:
                    attachment, synthetic = await self._insert(work, attachment, expected_versions)
                committing = True
        except BaseException as failure:
            # A failed commit may have succeeded, and then a row names the file; a lost claim prevents the commit.
            if not committing or isinstance(failure, Conflict):
                await discard_bytes(self._storage, attachment.storage_key)
            raise
        if not synthetic:
            self._instruments.add(
                ATTACHMENT_STORED, 1, {"content_type": known_or_other(attachment.content_type, COUNTED_CONTENT_TYPES)}
            )
        return attachment

    def staged_until(self, attachment: StoredAttachment) -> datetime:
        """Return the time until which a message must name a staged file."""
        return attachment.created_at + self._case_limits.staged_for

    async def _insert(
        self, work: UnitOfWork, attachment: StoredAttachment, expected_versions: ExpectedVersions
    ) -> tuple[StoredAttachment, bool]:
        """Add an attachment to its case. Return it with its final time, and whether the case is synthetic."""
        visibility = attachment.visibility
        case = await lock_visible_case(work, attachment.ticket_id, expected_versions, visibility=visibility)
        require_accepting_files(work.origin.principal, case)
        attachment = replace(attachment, created_at=time_after(case.latest))
        await add_attachment(work, attachment, self._case_limits.max_files_per_case, public_url=self._public_url)
        await count_attachments(work, [attachment], self._backlog)
        return attachment, case.synthetic

    async def _stage(self, work: UnitOfWork, attachment: StoredAttachment, expected_versions: ExpectedVersions) -> bool:
        """Insert the row of a staged file. Return whether the case is synthetic."""
        principal, most = work.origin.principal, self._case_limits.max_staged_files
        # An erasure that runs at the same time deletes the file, or ends first and the customer has no case.
        case = await hold_accepting_case(work.tx, principal, attachment.ticket_id, expected_versions)
        if not await attachment_rows.add_staged(work.tx, attachment, principal, self.staged_until(attachment), most):
            raise Conflict(
                "too_many_staged_files",
                f"You have {most:,} staged files, as many as may wait; send or delete some of them first.",
            )
        return case.synthetic
