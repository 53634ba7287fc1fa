"""The files of a case in a unit of work: the lock of the case with its checks, and the addition and removal of files.

Each addition or removal writes rows, an event, an audit entry and the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from support_service.attachments import attachment_rows
from support_service.attachments.attachment_rows import FILE_COUNT, LEDGER_ROW, OWNER, to_owner
from support_service.attachments.backlog import AttachmentBacklog
from support_service.attachments.model import StoredAttachment, attachment_url, attachment_view, audit_fields
from support_service.cases.model.published import CASE_UPDATED
from support_service.cases.sql import case_events
from support_service.cases.sql.conditions import IS_SYNTHETIC, LATEST_CHANGE
from support_service.core.clock import utc_now
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.core.errors import Conflict, FieldError, Forbidden, NotFound, ValidationFailed, case_not_found
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version, visible_version
from support_service.platform.audit import log as audit
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachments, tickets
from support_service.platform.idempotency.unit_of_work import UnitOfWork
from support_service.platform.telemetry.instruments import InstrumentSpec

_CASE_COLUMNS = (
    *OWNER,
    *(IS_SYNTHETIC.label("synthetic"), tickets.c.status, tickets.c.version, tickets.c.internal_changes),
    LATEST_CHANGE.label("latest"),
)
_CASE_BY_ID = tickets.c.id == sa.bindparam("case_id")
SELECT_CASE = compiled(
    sa.select(
        *_CASE_COLUMNS, FILE_COUNT.where(attachments.c.ticket_id == tickets.c.id).scalar_subquery().label("files")
    ).where(_CASE_BY_ID)
)
HOLD_CASE = compiled(sa.select(*_CASE_COLUMNS).where(_CASE_BY_ID).with_for_update(read=True))
LOCK_CASE = compiled(
    tickets.update()
    .where(_CASE_BY_ID)
    .values(
        version=tickets.c.version + sa.literal_column("1"),
        internal_changes=tickets.c.internal_changes + sa.bindparam("internal", type_=sa.Integer()),
    )
    .returning(*_CASE_COLUMNS)
)

ATTACHMENT_DELETED = InstrumentSpec(
    "support.attachment.deleted",
    "counter",
    "{file}",
    "Deleted attachments: by a request, by retention, or by an erasure",
    {"reason": ("request", "retention", "erasure")},
)


@dataclass(frozen=True, slots=True)
class CaseFileLimits:
    """How many files a case and an uploader may have, and how long staged files wait."""

    max_files_per_case: int = 1000  # because reading a case reads all its attachments
    max_staged_files: int = 100  # of one uploader, in all cases
    staged_for: timedelta = timedelta(hours=24)  # in which a message must name a staged file


class CaseForUpload(NamedTuple):
    """The fields of a case that attachment operations need.

    `internal_changes` is the number of changes that customers can't see, `latest` the time of the last change.
    """

    owner: CaseOwnership
    synthetic: bool
    status: str
    version: int
    internal_changes: int
    latest: datetime
    files: int = 0  # counted by `get_case` only


async def get_case(reader: Reader, case_id: str) -> CaseForUpload | None:
    """Return a case with its number of files, without locking it; None if it does not exist."""
    row = await reader.fetch_one(SELECT_CASE, {"case_id": case_id})
    return _to_case(row, files=row.files) if row else None


async def lock_case_and_bump_version(tx: Transaction, case_id: str, *, internal: bool = False) -> CaseForUpload | None:
    """Increment a case's version and lock the case until `tx` ends. Return None if it does not exist.

    `internal` says that the change concerns internal files only, so that customers see no new version.
    """
    row = await tx.fetch_one(LOCK_CASE, {"case_id": case_id, "internal": int(internal)})
    return _to_case(row) if row else None


async def read_accepting_case(
    reader: Reader, principal: Principal, case_id: str, expected: ExpectedVersions
) -> CaseForUpload:
    """Return a case that the principal may add a file to, without locking it.

    Raises NotFound (the case is unknown, or the principal may not see it), Conflict and VersionConflict.
    """
    found = await get_case(reader, case_id) if is_valid_id(case_id) else None
    return _require_accepting(principal, case_id, found, expected)


async def hold_accepting_case(
    tx: Transaction, principal: Principal, case_id: str, expected: ExpectedVersions
) -> CaseForUpload:
    """Return a case that the principal may add a file to; nobody else changes it until `tx` ends.

    Raises the errors of `read_accepting_case`.
    """
    row = await tx.fetch_one(HOLD_CASE, {"case_id": case_id})
    return _require_accepting(principal, case_id, _to_case(row) if row else None, expected)


async def lock_visible_case(
    work: UnitOfWork, case_id: str, expected: ExpectedVersions, *, visibility: str
) -> CaseForUpload:
    """Lock the case and increment its version, for a change of a file. Raises NotFound and VersionConflict."""
    principal = work.origin.principal
    locked = await lock_case_and_bump_version(work.tx, case_id, internal=visibility == "internal")
    case = _require_visible(principal, case_id, locked)
    expect_version(visible_version(principal, case.version, case.internal_changes) - 1, expected)
    return case


def require_accepting_files(principal: Principal, case: CaseForUpload) -> None:
    """Raise Conflict if the case is closed and the principal is its customer."""
    if case.status == "closed" and principal.role == "customer":
        raise Conflict("case_closed", "The case is closed and takes no more files of its customer; open a new one.")


def require_may_remove(principal: Principal) -> None:
    """Raise Forbidden if the principal is a customer: customers delete files only before they are sent."""
    if principal.role == "customer":
        raise Forbidden(
            "permission_missing",
            "The permission 'attachments:delete' covers a customer's staged files only; this file is in the case.",
        )


async def add_attachment(work: UnitOfWork, added: StoredAttachment, max_files: int, *, public_url: str) -> None:
    """Add an attachment to a case that `work` has locked. Raises Conflict if the case has `max_files` files.

    At the end of `work`, pass the attachment to `count_attachments`.
    """
    view = attachment_view(added, public_url)
    event = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.added", "attachment": view}
    await case_events.append(work.tx, added.ticket_id, CASE_UPDATED, added.created_at, **event)
    changes = {name: (None, value) for name, value in audit_fields(added).items()}
    await audit.record(work, added.ticket_id, "attachment.added", added.created_at, changes)
    if not await attachment_rows.add(work.tx, added, max_files):
        raise case_full(max_files)


async def count_attachments(work: UnitOfWork, added: Sequence[StoredAttachment], backlog: AttachmentBacklog) -> None:
    """Count added attachments in the ledger and the gauges. This must be the last step of `work`."""
    for storage in sorted({each.storage for each in added}):
        sizes = [each.size_bytes for each in added if each.storage == storage]
        totals = await attachment_rows.add_to_ledger(work.tx, storage, len(sizes), sum(sizes))
        work.after_commit(partial(backlog.update, storage, totals))


async def remove_attachments(
    work: UnitOfWork, ids: Sequence[str], reason: str, at: datetime, *, public_url: str | None
) -> list[StoredAttachment]:
    """Remove attachments of cases that `work` has locked, and return the attachments that existed.

    Append an event about each to the outbox, unless `public_url` is None. This must be the last step of `work`.
    """
    removed = await attachment_rows.remove(work.tx, ids, reason, at) if ids else []
    if public_url is not None:
        change = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.removed"}
        events = [(each.ticket_id, at, {**change, "attachment": attachment_view(each, public_url)}) for each in removed]
        await case_events.append_all(work.tx, CASE_UPDATED, events)
    await audit_removal(work, removed, reason, at)
    await attachment_rows.subtract_from_ledger(work.tx, removed)
    return removed


async def audit_removal(work: UnitOfWork, removed: Sequence[StoredAttachment], reason: str, at: datetime) -> None:
    """Record in the audit log which attachments `work` removes, and why."""
    changed = [
        (
            each.ticket_id,
            at,
            {name: (value, None) for name, value in audit_fields(each).items()} | {"reason": (None, reason)},
        )
        for each in removed
    ]
    await audit.record_all(work, "attachment.removed", changed)


class NamedFiles:
    """The files that one message names by their ids: staged files of its author, and files of the case.

    It implements `MessageFiles` of the cases.
    """

    rows = (LEDGER_ROW,)

    def __init__(self, ids: Sequence[str], backlog: AttachmentBacklog, max_files: int, *, public_url: str) -> None:
        self._ids = ids
        self._backlog = backlog
        self._max_files = max_files
        self._public_url = public_url
        self._staged: list[StoredAttachment] = []

    async def find(self, work: UnitOfWork, case_id: str) -> str:
        """Return the URI of the first file. `work` must have locked the case. Raises ValidationFailed."""
        principal = work.origin.principal
        found = await attachment_rows.list_staged(work.tx, principal, case_id, self._ids, utc_now())
        by_id = {each.id: each for each in found}
        for each in await attachment_rows.list_by_ids(work.tx, case_id, self._ids):
            if principal.may_see_visibility(each.visibility):
                by_id[each.id] = each
        if missing := set(self._ids) - by_id.keys():
            raise self._unknown(missing)
        self._staged = [by_id[each] for each in self._ids if by_id[each] in found]
        first = by_id[self._ids[0]]
        return attachment_url(self._public_url, case_id, first.id, first.filename)

    async def add_staged(self, work: UnitOfWork, at: datetime, visibility: str) -> None:
        """Add the staged files to the case, with the time and the visibility of the message.

        Raises ValidationFailed if a staged file has expired, and Conflict if the case is full.
        """
        if not self._staged:
            return
        if not await attachment_rows.take_staged(work.tx, self._staged):
            raise self._unknown({each.id for each in self._staged})
        self._staged = [replace(each, created_at=at, visibility=visibility) for each in self._staged]
        for each in self._staged:
            await add_attachment(work, each, self._max_files, public_url=self._public_url)

    async def count(self, work: UnitOfWork) -> None:
        """Count the added files. This must be the last step of `work`."""
        await count_attachments(work, self._staged, self._backlog)

    def _unknown(self, ids: set[str]) -> ValidationFailed:
        named = ", ".join(each for each in self._ids if each in ids)
        return ValidationFailed(
            "attachment_not_sendable",
            f"These files are neither in the case nor staged by you, or they have expired: {named}. Upload them again.",
            [
                FieldError(f"attachmentIds.{index}", "is neither a file of the case nor a staged file of yours")
                for index, each in enumerate(self._ids)
                if each in ids
            ],
        )


def attachment_not_found(attachment_id: str) -> NotFound:
    """Return the error for an attachment that does not exist, or that the principal may not see."""
    return NotFound("attachment_not_found", f"There is no attachment {attachment_id[:64]!r} in this case.")


def case_full(max_files: int) -> Conflict:
    """Return the error for a case that has as many files as it may have."""
    return Conflict("case_full", f"This case has {max_files:,} files, as many as it may have; open another case.")


def _require_visible(principal: Principal, case_id: str, case: CaseForUpload | None) -> CaseForUpload:
    """Return the case. Raises NotFound if there is none, or if the principal may not see it."""
    if case is None or not principal.may_see(case.owner):
        raise case_not_found(case_id)
    return case


def _require_accepting(
    principal: Principal, case_id: str, found: CaseForUpload | None, expected: ExpectedVersions
) -> CaseForUpload:
    case = _require_visible(principal, case_id, found)
    require_accepting_files(principal, case)
    expect_version(visible_version(principal, case.version, case.internal_changes), expected)
    return case


def _to_case(row: Row, files: int = 0) -> CaseForUpload:
    return CaseForUpload(to_owner(row), row.synthetic, row.status, row.version, row.internal_changes, row.latest, files)
