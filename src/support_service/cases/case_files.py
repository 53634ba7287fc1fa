"""The files of a case: their addition, their removal, and the staged files that a message names.

Each addition or removal writes rows, an event, an audit entry and the ledger in one unit of work.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from support_service.cases.links import check_not_merged, find_case_of_arrival
from support_service.cases.model.files import (
    FileTotals,
    StoredAttachment,
    attachment_json,
    attachment_url,
    audited_attachment_fields,
)
from support_service.cases.model.published import CASE_UPDATED
from support_service.cases.sql import attachment_rows, case_events, case_rows
from support_service.cases.sql.case_rows import CaseState
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import FieldError, SupportError, case_not_found, problem
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, check_version, visible_version
from support_service.platform.audit import log as audit
from support_service.platform.database import RowReader
from support_service.platform.telemetry.instruments import InstrumentSpec
from support_service.platform.unit_of_work import UnitOfWork

ATTACHMENT_DELETED = InstrumentSpec(
    "support.attachment.deleted",
    "counter",
    "{file}",
    "Deleted attachments: by a request, by retention, or by an erasure",
    {"reason": ("request", "retention", "erasure")},
)

MAX_FILES_PER_CASE = 1000  # because reading a case reads all its attachments
MAX_STAGED_FILES = 100  # of one uploader, in all cases
STAGING_TIME = timedelta(hours=24)  # in which a message must name a staged file


@dataclass(slots=True)
class MessageFiles:
    """The files that a message names by their ids, with the URI of the first one; `staged` are none of the case yet."""

    ids: Sequence[str]
    uri: str
    staged: list[StoredAttachment]


class CaseFiles:
    """Adds files to cases, and removes them. `totals` are the totals of each storage that this process knows."""

    def __init__(self, public_url: str = "") -> None:
        self._public_url = public_url
        self.totals: dict[str, FileTotals] = {}

    def staged_until(self, attachment: StoredAttachment) -> datetime:
        """Return the time until which a message must name a staged file."""
        return attachment.created_at + STAGING_TIME

    async def check_upload(
        self, reader: RowReader, principal: Principal, case_id: str, expected: ExpectedVersions = None
    ) -> None:
        """Check that the principal may add a file to a case.

        Raises NotFound, Conflict (the case is full, or closed and the principal is its customer) and VersionConflict.
        A file for a closed duplicate is added to the case that it is a duplicate of.
        """
        case = await case_rows.read_state(reader, case_id) if is_valid_id(case_id) else None
        case = _check_accepts_files(principal, case_id, case, expected)
        if original := await find_case_of_arrival(reader, principal, case_id, case):
            await self.check_upload(reader, principal, original)
            return
        _check_open_for_files(principal, case)
        if case.files >= MAX_FILES_PER_CASE:
            raise self._too_many_files()

    async def add(
        self, work: UnitOfWork, attachment: StoredAttachment, expected: ExpectedVersions
    ) -> tuple[StoredAttachment, bool]:
        """Add a file to its case. Return it with its time, and if the case is synthetic.

        Raises NotFound, VersionConflict, CaseMerged, and Conflict for a case that is full or takes no files of its
        customer.
        """
        case = await lock_case_for_file(work, attachment.ticket_id, expected, visibility=attachment.visibility)
        if attachment.visibility == "public":
            await check_not_merged(work.tx, work.origin.principal, attachment.ticket_id, case)
        _check_open_for_files(work.origin.principal, case)
        attachment = replace(attachment, created_at=time_after(case.at))
        await self._add_to_locked_case(work, attachment)
        return attachment, case.synthetic

    async def stage(self, work: UnitOfWork, attachment: StoredAttachment, expected: ExpectedVersions) -> bool:
        """Keep a file for a message of its uploader. Return whether the case is synthetic.

        A closed duplicate keeps it, too: its message arrives in another case. Raises the errors of `check_upload`, and
        Conflict if the uploader has too many staged files.
        """
        principal, most = work.origin.principal, MAX_STAGED_FILES
        # An erasure that runs at the same time deletes the file, or ends first and the customer has no case.
        locked = await case_rows.lock_shared(work.tx, attachment.ticket_id)
        case = _check_accepts_files(principal, attachment.ticket_id, locked, expected)
        if not await find_case_of_arrival(work.tx, principal, attachment.ticket_id, case):
            _check_open_for_files(principal, case)
        if not await attachment_rows.add_staged(work.tx, attachment, principal, self.staged_until(attachment), most):
            raise problem(
                "too_many_staged_files",
                f"You have {most:,} staged files, as many as may wait; send or delete some of them first.",
            )
        return case.synthetic

    async def find_message_files(
        self, work: UnitOfWork, case_id: str, ids: Sequence[str], staged_for: str
    ) -> MessageFiles:
        """Return the files that a message names: staged files of its author, and files of the case.

        Files may be staged for the case, or for a duplicate, `staged_for`. `work` has locked the case. Raises
        ValidationFailed for an id of another file.
        """
        principal = work.origin.principal
        staged = {
            each.id: replace(each, ticket_id=case_id)
            for named in {case_id, staged_for}
            for each in await attachment_rows.list_staged(work.tx, principal, named, ids, utc_now())
        }
        present = {
            each.id: each
            for each in await attachment_rows.list_by_ids(work.tx, case_id, ids)
            if principal.may_see_visibility(each.visibility)
        }
        if missing := set(ids) - staged.keys() - present.keys():
            raise _files_not_sendable(ids, missing)
        first = present.get(ids[0]) or staged[ids[0]]
        uri = attachment_url(self._public_url, case_id, first.id, first.filename)
        return MessageFiles(ids, uri, [staged[each] for each in ids if each in staged and each not in present])

    async def add_staged_files(
        self, work: UnitOfWork, message_files: MessageFiles, at: datetime, visibility: str
    ) -> None:
        """Make staged files that a message names files of the case, with the message's time and visibility.

        Raises ValidationFailed if one has expired, and Conflict if the case is full.
        """
        if not message_files.staged:
            return
        if not await attachment_rows.take_staged(work.tx, message_files.staged):
            raise _files_not_sendable(message_files.ids, {each.id for each in message_files.staged})
        message_files.staged = [replace(each, created_at=at, visibility=visibility) for each in message_files.staged]
        for each in message_files.staged:
            await self._add_to_locked_case(work, each)

    async def remove(
        self, work: UnitOfWork, ids: Sequence[str], reason: str, at: datetime, *, is_published: bool = True
    ) -> list[StoredAttachment]:
        """Remove files of cases that `work` has locked; return the files that existed.

        No event tells of it unless it `is_published`.
        """
        removed = await attachment_rows.remove(work.tx, ids, reason, at) if ids else []
        if is_published:
            change = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.removed"}
            events = [
                (each.ticket_id, at, {**change, "attachment": attachment_json(each, self._public_url)})
                for each in removed
            ]
            await case_events.append_all(work.tx, CASE_UPDATED, events)
        await audit_removal(work, removed, reason, at)
        await attachment_rows.subtract_from_ledger(work.tx, removed)
        return removed

    async def remove_all(self, work: UnitOfWork, case_id: str, at: datetime) -> list[StoredAttachment]:
        """Remove all files of a case that `work` deletes, also staged ones. Their bytes remain to be deleted."""
        discarded = await attachment_rows.discard_staged_of_case(work.tx, case_id, at)
        ids = [attachment.id for attachment in await attachment_rows.list_by_case(work.tx, case_id)]
        return discarded + await self.remove(work, ids, "request", at, is_published=False)

    async def _add_to_locked_case(self, work: UnitOfWork, added: StoredAttachment) -> None:
        """Add a file to a case that `work` has locked. Raises Conflict for a full case."""
        view = attachment_json(added, self._public_url)
        event = {"actor": audit.actor_of(work.origin.principal), "changeType": "attachment.added", "attachment": view}
        await case_events.append(work.tx, added.ticket_id, CASE_UPDATED, added.created_at, **event)
        changes = {name: (None, value) for name, value in audited_attachment_fields(added).items()}
        await audit.record(work, added.ticket_id, "attachment.added", added.created_at, changes)
        await attachment_rows.add_to_ledger(work.tx, added.storage, 1, added.size_bytes)
        if not await attachment_rows.add(work.tx, added, MAX_FILES_PER_CASE):
            raise self._too_many_files()
        work.after_commit(partial(self._add_to_totals, added))

    def _add_to_totals(self, added: StoredAttachment) -> None:
        if known := self.totals.get(added.storage):
            self.totals[added.storage] = FileTotals(known.files + 1, known.bytes + added.size_bytes)

    def _too_many_files(self) -> SupportError:
        most = MAX_FILES_PER_CASE
        return problem("case_full", f"This case has {most:,} files, as many as it may have; open another case.")


async def audit_removal(work: UnitOfWork, removed: Sequence[StoredAttachment], reason: str, at: datetime) -> None:
    """Record in the audit log which attachments `work` removes, and why."""
    changed = [
        (
            each.ticket_id,
            at,
            {name: (value, None) for name, value in audited_attachment_fields(each).items()}
            | {"reason": (None, reason)},
        )
        for each in removed
    ]
    await audit.record_all(work, "attachment.removed", changed)


def attachment_not_found(attachment_id: str) -> SupportError:
    """Return the error for an attachment that does not exist, or that the principal may not see."""
    return problem("attachment_not_found", f"There is no attachment {attachment_id[:64]!r} in this case.")


def check_may_remove_files(principal: Principal) -> None:
    """Raise Forbidden if the principal is a customer: customers delete files only before they are sent."""
    if principal.role == "customer":
        raise problem(
            "permission_missing",
            "The permission 'attachments:delete' covers a customer's staged files only; this file is in the case.",
        )


async def lock_case_for_file(
    work: UnitOfWork, case_id: str, expected: ExpectedVersions, *, visibility: str
) -> CaseState:
    """Lock a case for a change of a file, and give the case its next version. Raises NotFound and VersionConflict."""
    principal = work.origin.principal
    if not is_valid_id(case_id):
        raise case_not_found(case_id)
    locked = await case_rows.increment_version(work.tx, case_id, internal=visibility == "internal")
    case = _check_visible(principal, case_id, locked)
    check_version(visible_version(principal, case.version, case.internal_changes) - 1, expected)
    return case


def _check_visible(principal: Principal, case_id: str, case: CaseState | None) -> CaseState:
    """Return the case. Raises NotFound if there is none, or if the principal may not see it."""
    if case is None or not principal.may_see(case):
        raise case_not_found(case_id)
    return case


def _check_open_for_files(principal: Principal, case: CaseState) -> None:
    """Raise Conflict if the case is closed and the principal is its customer."""
    if case.status == "closed" and principal.role == "customer":
        raise problem("case_closed", "The case is closed and takes no more files of its customer; open a new one.")


def _check_accepts_files(
    principal: Principal, case_id: str, found: CaseState | None, expected: ExpectedVersions
) -> CaseState:
    case = _check_visible(principal, case_id, found)
    check_version(visible_version(principal, case.version, case.internal_changes), expected)
    return case


def _files_not_sendable(ids: Sequence[str], missing: Collection[str]) -> SupportError:
    named = ", ".join(each for each in ids if each in missing)
    return problem(
        "attachment_not_sendable",
        f"These files are neither in the case nor staged by you, or they have expired: {named}. Upload them again.",
        [
            FieldError(f"attachmentIds.{index}", "is neither a file of the case nor a staged file of yours")
            for index, each in enumerate(ids)
            if each in missing
        ],
    )
