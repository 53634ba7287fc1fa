"""AttachmentUploader: check an upload, store its file and add it to its case; UploadSlots limits concurrent uploads."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

from support_service.attachments.content import UploadValidator, discard_bytes, store_file
from support_service.attachments.storage.base import AttachmentStorage, StorageOutcome
from support_service.cases.case_files import CaseFiles
from support_service.cases.links import CaseMerged, check_version_of_duplicate, contended_rows_of, hold_arrival
from support_service.cases.model.files import StoredAttachment
from support_service.core.domain.case_vocabulary import KNOWN_CONTENT_TYPES
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.core.part_state import OK
from support_service.platform.database import Database
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, known_or_other
from support_service.platform.unit_of_work import WriteOrigin, retried_with_locks, unit_of_work

# One agent or customer may use a quarter of the upload slots, so that their slow uploads do not block everyone else.
MAX_UPLOAD_SHARE_DIVISOR = 4

COUNTED_CONTENT_TYPES = (*KNOWN_CONTENT_TYPES, OTHER)
REJECTION_CODES = (
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
    "support.attachment.rejected", "counter", "{upload}", "Refused and aborted uploads", {"reason": REJECTION_CODES}
)
TRANSFER_OUTCOMES: tuple[StorageOutcome, ...] = tuple(
    outcome for outcome in get_args(StorageOutcome) if outcome != "not_found"
)
ATTACHMENT_TRANSFERS = InstrumentSpec(
    "support.attachment.transfers",
    "counter",
    "{file}",
    "Uploads and downloads by what the disk or S3 answered; other reasons to refuse a file do not count",
    {"transfer": ("upload", "download"), "outcome": TRANSFER_OUTCOMES},
)
ATTACHMENT_UPLOADS = InstrumentSpec("support.attachment.uploads", "observed sum", "{upload}", "Uploads in progress")


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
            with self._occupy_slot(principal):
                yield
        except SupportError as refusal:
            self._instruments.add(ATTACHMENT_REJECTED, 1, {"reason": known_or_other(refusal.code, REJECTION_CODES)})
            raise
        except ConnectionError:
            self._instruments.add(ATTACHMENT_REJECTED, 1, {"reason": "client_left"})
            raise

    @contextmanager
    def _occupy_slot(self, principal: Principal) -> Iterator[None]:
        user = (principal.name, principal.subject) if principal.role in ("agent", "customer") else None
        if self._active >= self._slots or (user and self._active_by_user[user] >= self._slots_per_user):
            raise problem("uploads_busy", "Too many uploads are in progress; try again in a moment.")
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


@dataclass(slots=True)
class StoredUpload:
    """A file whose bytes are stored, and which has no row yet."""

    attachment: StoredAttachment
    is_committing: bool = False


class AttachmentUploader:
    """Adds files to cases. A file is written first and its row after it, so that every row has its file."""

    def __init__(
        self,
        database: Database,
        storage: AttachmentStorage,
        instruments: Instruments,
        settings: AttachmentSettings,
        files: CaseFiles,
    ) -> None:
        self._database = database
        self._storage = storage
        self._instruments = instruments
        self._settings = settings
        self._files = files
        self._status = OK  # or the problem code of the last upload, if its storage refused it

    def status(self) -> str:
        """Return OK, or the problem code of the last upload if its storage refused it."""
        return self._status

    @asynccontextmanager
    async def store_bytes(
        self,
        case_id: str,
        filename: str,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        *,
        size_hint: int = 0,
        visibility: str = "public",
    ) -> AsyncIterator[StoredUpload]:
        """Store the bytes of a file, about `size_hint` bytes, for `add_to_case`. If the block fails, they are deleted.

        Raises ValidationFailed (its size or its type is not allowed) and Unavailable.
        """
        upload = UploadValidator(filename, content_type, self._settings)
        try:
            attachment = await store_file(
                self._storage, upload, case_id, chunks, size_hint=size_hint, visibility=visibility
            )
        except Unavailable as failure:
            self._status = failure.code
            self.count_transfer("upload", failure)
            raise
        self._status = OK
        self.count_transfer("upload")
        new = StoredUpload(attachment)
        try:
            yield new
        except BaseException as failure:
            # A failed commit may have succeeded, and then a row names the file; a lost claim prevents the commit.
            has_lost_claim = isinstance(failure, SupportError) and failure.code == "idempotency_key_in_use"
            if has_lost_claim or not new.is_committing:
                await discard_bytes(self._storage, attachment.storage_key)
            raise

    def count_transfer(self, transfer: Literal["upload", "download"], failure: SupportError | None = None) -> None:
        """Count an upload or download by what its storage answered, if it is known."""
        if failure is None:
            outcome = "ok"
        elif failure.code == "storage_full":
            outcome = "full"
        elif failure.code == "storage_unavailable":
            outcome = known_or_other(failure.reason, TRANSFER_OUTCOMES)
        else:
            return
        self._instruments.add(ATTACHMENT_TRANSFERS, 1, {"transfer": transfer, "outcome": outcome})

    @retried_with_locks
    async def add_to_case(
        self, origin: WriteOrigin, new: StoredUpload, expected: ExpectedVersions = None, *, staged: bool = False
    ) -> StoredAttachment:
        """Add a stored file to its case. If it is `staged`, a message of the same principal adds it later.

        Raises NotFound, Conflict (the case is full, or closed and the principal is its customer, or the principal has
        too many staged files) and VersionConflict. A file for a closed duplicate is added to the case that it is a
        duplicate of.
        """
        attachment, new.is_committing = new.attachment, False
        while not new.is_committing:
            sent_to, case_id = new.attachment.ticket_id, attachment.ticket_id
            rows = contended_rows_of(*{sent_to, case_id})
            try:
                async with unit_of_work(self._database, origin, *rows, with_locks=staged) as work:
                    if sent_to != case_id:
                        await hold_arrival(work.tx, origin.principal, sent_to, case_id)
                        await check_version_of_duplicate(work.tx, origin.principal, sent_to, expected)
                    if staged:
                        synthetic = await self._files.stage(work, attachment, expected)
                    else:
                        version = expected if sent_to == case_id else None  # that of the duplicate
                        attachment, synthetic = await self._files.add(work, attachment, version)
                    new.is_committing = True
            except CaseMerged as merged:
                attachment = replace(attachment, ticket_id=merged.original)
        if not synthetic:
            self._instruments.add(
                ATTACHMENT_STORED, 1, {"content_type": known_or_other(attachment.content_type, COUNTED_CONTENT_TYPES)}
            )
        return attachment
