"""The changes of cases, one method per use case. Each is one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import pydantic_core

from support_service.cases.case_files import CaseFiles
from support_service.cases.case_rules import author_of, authorize_new_case, check_is_filled, check_may_write
from support_service.cases.links import (
    CaseMerged,
    check_not_merged,
    check_version_of_duplicate,
    contended_rows_of,
    hold_arrival,
)
from support_service.cases.model.case import MAX_CONVERSATION_BYTES, Case, CaseSummary, Message
from support_service.cases.model.files import StoredAttachment
from support_service.cases.model.requests import CaseChange, Closing, NewCase, NewMessage, StatusChange
from support_service.cases.reading import CaseReader
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql import case_reading, case_rows, link_rows
from support_service.cases.sql.case_reading import NO_VERSION, StoredCase, read_messages_since
from support_service.core.clock import time_after, utc_now
from support_service.core.domain import references
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, case_not_found, problem
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, check_version, visible_version
from support_service.platform.database import ContendedRow, Database
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, retried_with_locks, unit_of_work

MAX_NEW_MESSAGES = 50  # in the answer to a conflict: the newest messages that the caller does not know


class ExistingCase(NamedTuple):
    """A case that was opened before with the same external id, as the principal may read it now."""

    id: str
    stored: StoredCase

    @property
    def version(self) -> int:
        """The version of the case."""
        return self.stored.version


class CaseService(CaseReader):
    """Opens and changes cases, and reads them."""

    def __init__(self, database: Database, recorder: CaseRecorder, files: CaseFiles | None = None) -> None:
        super().__init__(database, recorder.clocks.policies)
        self._recorder = recorder
        self._files = files or CaseFiles()

    @retried_with_locks
    async def open_case(self, origin: WriteOrigin, new: NewCase) -> Case | ExistingCase:
        """Open a case, with its first message if one is given, and return it.

        If the channel has a case with its external id, this method returns the existing case. Raises Forbidden,
        ValidationFailed for variables of macros without a value, and Conflict if the principal may not see the existing
        case.
        """
        synthetic = new.channel in self._recorder.settings.synthetic_channels
        may_prioritize = self._recorder.settings.customers_set_priority or origin.principal.role != "customer"
        new = authorize_new_case(origin.principal, new, synthetic=synthetic, may_prioritize=may_prioritize)
        at = utc_now()
        opened = {
            "id": new_id(),
            "status": "open",
            "synthetic": synthetic,
            "created_at": at,
            "updated_at": at,
            "messages": [],
            "attachments": [],
        }
        case = Case.model_validate(new.__dict__ | opened, by_name=True, by_alias=False)
        first = None
        if new.initial_message:
            author_id = author_of(origin.principal, new.initial_message, case.customer_id)
            first = _build_message(case.id, new.initial_message, author_id, at)
        if first and first.sent_at is None:
            first.sent_at = new.sent_at
        async with unit_of_work(self._database, origin) as work:
            existing = await self._insert_case_once(work, case, first)
        if existing:
            read = self.read_case(origin.principal, existing, known_history=NO_VERSION, any_size=True)
            return ExistingCase(existing, await read)
        case.messages = [first] if first else []
        return case

    @retried_with_locks
    async def change_case(
        self, origin: WriteOrigin, case_id: str, change: CaseChange, expected: ExpectedVersions = None
    ) -> CaseSummary:
        """Change the given fields and return the case; fields with an unchanged value have no effect.

        Raises NotFound, Forbidden, VersionConflict, and Conflict for a status change that is not allowed.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            case = await LockedCase.lock(work, self._recorder, case_id, expected)
            await case.change_fields(change.sent_fields())
        return case.current

    @retried_with_locks
    async def set_status(
        self, origin: WriteOrigin, case_id: str, change: StatusChange, expected: ExpectedVersions = None
    ) -> CaseSummary:
        """Set the status of a case, and its agent if one is given; end its snooze, or begin one.

        Raises NotFound, Forbidden, VersionConflict, Conflict.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            case = await LockedCase.lock(work, self._recorder, case_id, expected)
            await case.set_status(change.status, change.assigned_agent_id, snoozed_until=change.until)
        return case.current

    async def close_case(
        self, origin: WriteOrigin, case_id: str, closing: Closing, expected: ExpectedVersions = None
    ) -> StoredCase:
        """Close a case, with a last message if one is given; return it with its JSON and history.

        The last message reopens no case; a customer's is accepted unless the case was closed before. Raises NotFound,
        Forbidden, VersionConflict, Conflict, and ValidationFailed for files that the message can't name, or for
        variables of macros without a value.
        """
        last = closing.last_message()
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            case = await LockedCase.lock(work, self._recorder, case_id, expected)
            if last and last.author_type == "customer":
                _check_not_closed(case.current.status)
            if last:
                message, version = await self._append_message(work, case_id, last, closing=True)
                if message.visibility == "internal":  # whom it mentions follows the case now
                    case = await LockedCase.lock(work, self._recorder, case_id)
                else:
                    changed = {"updated_at": message.created_at, "version": version}
                    case.current = case.current.model_copy(update=changed)
            await case.set_status("closed", closing.assigned_agent_id)
            public_only = origin.principal.reads_only_public
            closed = await case_reading.read(
                work.tx, case_id, public_only=public_only, known_history=NO_VERSION, any_size=True
            )
        assert closed is not None  # noqa: S101 - this transaction has changed it
        return closed

    @retried_with_locks
    async def add_message(
        self, origin: WriteOrigin, case_id: str, new: NewMessage, expected: ExpectedVersions = None
    ) -> Message:
        """Append a message to a case and return it.

        Raises NotFound, Forbidden, VersionConflict, and Conflict for a full case. Raises ValidationFailed for files
        that the message can't name, and for variables of macros without a value.

        A customer's message opens a resolved or snoozed case, and raises Conflict for a closed one. Others leave it as
        it is. A message to a closed duplicate is added to the case that it is a duplicate of, unless it is an internal
        note.

        If the case has a message with the external id and visibility of the new one, that message is returned. This
        holds for any status and version of the case. Raises Conflict if the principal may not see it.
        """
        target = case_id
        while True:
            try:
                return await self._add_message_once(origin, target, new, expected, sent_to=case_id)
            except CaseMerged as merged:
                target = merged.original

    async def _add_message_once(
        self, origin: WriteOrigin, case_id: str, new: NewMessage, expected: ExpectedVersions, *, sent_to: str
    ) -> Message:
        """Append a message to a case, or return the existing message with its external id.

        `sent_to` is the case, or the closed duplicate that the message was sent to, whose versions are expected. Raises
        CaseMerged, see `add_message`.
        """
        described = self._conflict_with_new_messages(origin.principal, sent_to, expected)
        names_files = bool(new.attachment_ids or new.attachment_uri)
        rows = contended_rows_of(*{sent_to, case_id})
        async with described, unit_of_work(self._database, origin, *rows, with_locks=names_files) as work:
            if sent_to != case_id:
                await hold_arrival(work.tx, origin.principal, sent_to, case_id)
            if new.external_id and (existing := await self._lock_and_find_message(work, case_id, new, sent_to)):
                work.note_answer(existing.ticket_id)
                return existing
            if sent_to != case_id:
                await check_version_of_duplicate(work.tx, origin.principal, sent_to, expected)
            version = expected if sent_to == case_id else None
            message, _ = await self._append_message(work, case_id, new, version, staged_for=sent_to)
        return message

    async def remove_synthetic(
        self, origin: WriteOrigin, case_id: str, expected: ExpectedVersions = None
    ) -> list[StoredAttachment]:
        """Delete a synthetic case; return its files, whose bytes remain to be deleted.

        Raises NotFound, VersionConflict, and Conflict for any other case.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            await link_rows.lock_with_linked_cases(work.tx, [case_id])
            case = (await LockedCase.lock(work, self._recorder, case_id, expected)).current
            if not case.synthetic:
                raise problem("case_not_synthetic", "Only synthetic cases can be deleted; close this one instead.")
            at = time_after(case.updated_at)
            removed = await self._files.remove_all(work, case_id, at)
            await link_rows.increment_versions_of_linked_cases(work.tx, [case_id])
            await case_rows.delete(work.tx, [case_id])
            await self._recorder.record_deletion(work, case, at)
        return removed

    async def _insert_case_once(self, work: UnitOfWork, case: Case, first: Message | None) -> str | None:
        """Insert a new case and return its id.

        If its channel has a case with its external id, insert nothing and return the id of the existing case.

        Raises Conflict if the principal may not see the existing case.
        """
        existing = await self._find_case(work, case)
        while existing is None:
            if await self._insert_case(work, case, first):
                return None
            existing = await self._find_case(work, case)  # None: it was deleted after it had prevented the insert
        if not work.origin.principal.may_see(existing):
            raise _external_id_taken()
        await case_rows.lock_shared(work.tx, existing.id)  # so that the commit waits for a synchronous standby
        work.note_answer(existing.id)
        return existing.id

    async def _find_case(self, work: UnitOfWork, case: Case) -> case_rows.OwnedCase | None:
        """Return the case of the same channel that has the external id of a new case, or None."""
        if case.external_id is None:
            return None
        return await case_rows.find_case_by_external_id(work.tx, case.channel, case.external_id)

    async def _insert_case(self, work: UnitOfWork, case: Case, first: Message | None) -> bool:
        """Insert a new case, with its first message if it has one. Return False if its external id is in use.

        Raises ValidationFailed if the message has variables of macros without a value.
        """
        if first:
            check_is_filled(first, "initialMessage.message")
        author = first.author_type if first and first.visibility == "public" else None
        started = None if case.synthetic else self._recorder.clocks.start_clocks(case, case.created_at, author)
        due_at = None
        if started:
            case.sla_policy, due_at = started.policy.id, started.first_due
            if started.policy.content.public or not work.origin.principal.reads_only_public:
                case.sla = started.measured.shown_at(case.created_at)
        if not await case_rows.add_case(work.tx, case, references.reference_rows(case.context), first, due_at):
            return False
        if started:
            await started.insert(work.tx, case.id)
        case.waiting_since = case_rows.waiting_since_opening(case, first)
        await self._recorder.record_opening(work, case, first)
        return True

    async def _append_message(
        self,
        work: UnitOfWork,
        case_id: str,
        new: NewMessage,
        expected: ExpectedVersions = None,
        *,
        closing: bool = False,
        staged_for: str | None = None,
    ) -> tuple[Message, int]:
        """Append a message and return it with the case's version.

        A customer's message opens a resolved or snoozed case, unless the case is being closed. The message may name
        files that were staged for the case, or for the duplicate `staged_for`. Raises Conflict if the conversation
        would be too long, and CaseMerged unless the case is being closed. Raises ValidationFailed for files that the
        message can't name, and for variables of macros without a value.
        """
        principal = work.origin.principal
        check_may_write(principal, new)
        message = _build_message(case_id, new, author_of(principal, new, None), utc_now())
        check_is_filled(message, "message")
        is_public = not closing and message.visibility == "public"  # a note is about the duplicate
        message_files = None
        if new.attachment_ids:
            case = (await LockedCase.lock(work, self._recorder, case_id)).current
            if is_public:  # else the files of the case in which the message arrives would be unknown
                await check_not_merged(work.tx, principal, case_id, case)
            message_files = await self._files.find_message_files(
                work, case_id, new.attachment_ids, staged_for or case_id
            )
            message.attachment_uri = message_files.uri
        state = await case_rows.add_message(work.tx, message) if is_valid_id(case_id) else None
        if state is None or not principal.may_see(state):
            raise case_not_found(case_id)  # rolls the message back
        if is_public:
            await check_not_merged(work.tx, principal, case_id, state)
        check_version(visible_version(principal, state.version, state.internal_changes) - 1, expected)
        if state.conversation_bytes > MAX_CONVERSATION_BYTES:
            raise problem("case_full", "The conversation of this case is full; open another case.")
        if message.author_type == "customer" and not closing:
            _check_not_closed(state.status)
        shows_file = await case_rows.update_attachment_visibility(work.tx, message)
        if shows_file and message.visibility == "internal":  # a file that customers saw is hidden from them
            await case_rows.count_last_change_as_public(work.tx, case_id)
        if message_files:
            await self._files.add_staged_files(work, message_files, state.at, message.visibility)
        await self._recorder.record_message(work, message, state, closing=closing, shows_file=shows_file)
        opens = state.status == "resolved" or state.snoozed_until is not None
        if message.author_type == "customer" and not closing and opens:
            await (await LockedCase.lock(work, self._recorder, case_id)).set_status("open")
        return message, state.version

    async def _lock_and_find_message(
        self, work: UnitOfWork, case_id: str, new: NewMessage, sent_to: str
    ) -> Message | None:
        """Lock a case, and return the message with the external id of a new one, or None if the new one must be added.

        Only one of the same visibility counts, so that customers learn nothing of notes.

        The message was sent to the case `sent_to`. It may be in a case that this was merged into, or in a split one.
        Nothing that is sent to a case arrives in that of another customer, so a message there is another one.

        The lock is held until the unit of work ends, so that no other request adds such a message meanwhile. Raises
        NotFound, Forbidden, and Conflict if the principal may not see the message.
        """
        principal = work.origin.principal
        check_may_write(principal, new)
        case = (await LockedCase.lock(work, self._recorder, case_id)).current
        is_taken = False
        for existing in await case_rows.find_existing_messages(work.tx, sent_to, new):
            owner = await case_reading.read_owner(work.tx, existing.ticket_id)
            if owner is None or owner.customer_id != case.customer_id:
                continue
            if principal.may_see(owner):
                if principal.role == "customer" and existing.author_type != "customer":
                    existing.author_id = None  # the id of a member of staff
                return existing
            is_taken = True
        if is_taken:
            raise _external_id_taken()
        return None

    @asynccontextmanager
    async def _conflict_with_new_messages(
        self, principal: Principal, case_id: str, expected: ExpectedVersions
    ) -> AsyncIterator[None]:
        """Add to an error `case_changed` the version of the case, and the messages that the principal does not know.

        The principal may see the case. If it sent no version, no message is new to it.
        """
        try:
            yield
        except SupportError as conflict:
            if conflict.code != "case_changed":
                raise
            public_only = principal.reads_only_public
            most = MAX_NEW_MESSAGES if expected else 0
            found = await read_messages_since(
                self._database, case_id, max(expected or (0,)), most, public_only=public_only
            )
            if found is not None:
                messages = pydantic_core.from_json(found.messages)
                conflict.problem = {"currentVersion": found.version, "messages": messages}
            raise


def _build_message(case_id: str, new: NewMessage, author_id: str | None, at: datetime) -> Message:
    # Validation runs in native code, and is faster than `model_construct`.
    message = {**new.__dict__, "id": new_id(), "ticket_id": case_id, "author_id": author_id, "created_at": at}
    return Message.model_validate(message, by_name=True, by_alias=False)


def _check_not_closed(status: str) -> None:
    """Raise Conflict if a case of this status accepts no message from its customer."""
    if status == "closed":
        raise problem("case_closed", "The case is closed and takes no more messages of its customer; open a new one.")


def _external_id_taken() -> SupportError:
    """Return the error for the external id of something that the caller may not see, without anything about it."""
    return problem("external_id_taken", "This `externalId` is in use; send another one.")
