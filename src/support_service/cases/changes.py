"""Changes of cases inside a unit of work, each with its events and its audit entry."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support_service.cases.message_files import MessageFiles
from support_service.cases.model.case import AUDITED, Case, CaseSummary, Message, check_status_change
from support_service.cases.model.requests import CaseChange, NewMessage
from support_service.cases.policy import check_may_assign, check_may_write
from support_service.cases.store import case_store
from support_service.core.clock import time_after, utc_now
from support_service.core.domain import references
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, Status
from support_service.core.errors import Conflict, case_not_found
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version, visible_version
from support_service.events import outbox
from support_service.platform.audit import log as audit
from support_service.platform.idempotency.unit_of_work import UnitOfWork
from support_service.sla.clock_tracker import ClockTracker

_AUDITED_AT_OPENING = [name for name, field in CaseSummary.model_fields.items() if AUDITED in field.metadata]
_JSON_NAMES = {name: field.alias or name for name, field in CaseSummary.model_fields.items()}


@dataclass(frozen=True, slots=True)
class AddedMessage:
    """An added message, whether its case is synthetic, and the case's version after it.

    `answered_after` is the time from opening to the first agent message in seconds, None for all other messages.
    """

    message: Message
    synthetic: bool
    version: int
    answered_after: float | None
    reopened: tuple[CaseSummary, CaseSummary] | None = None  # the case before and after, if the message reopened it


async def add_case(work: UnitOfWork, clocks: ClockTracker, case: Case, first: Message | None) -> bool:
    """Insert a new case, with its first message if it has one. Return False if its external id is in use."""
    at = case.created_at
    author = first.author_type if first and first.visibility == "public" else None
    started = None if case.synthetic else clocks.start(case, at, author)
    due_at = None
    if started:
        case.sla_policy, due_at = started.policy.id, started.first_due
        if started.policy.content.public or work.origin.principal.may_see_visibility("internal"):
            case.sla = started.measured.shown(at)
    if not await case_store.add_case(work.tx, case, references.reference_rows(case.context), first, due_at):
        return False
    if started:
        await started.add(work.tx, case.id)
    case.waiting_since = case_store.waiting_since(case, first)
    actor = audit.actor_of(work.origin.principal)
    await outbox.append_event(work.tx, case.id, outbox.CASE_OPENED, at, actor=actor, initialMessage=first)
    await audit.record(work, case.id, "case.opened", at, opening_changes(case, first))
    return True


async def lock_case(work: UnitOfWork, case_id: str, expected: ExpectedVersions = None) -> CaseSummary:
    """Lock a case until the unit of work ends, and return it. Raises NotFound and VersionConflict."""
    case = await case_store.lock(work.tx, case_id) if is_valid_id(case_id) else None
    if case is None or not work.origin.principal.may_see(case):
        raise case_not_found(case_id)
    expect_version(case.version, expected)
    return case


async def append_message(
    work: UnitOfWork,
    clocks: ClockTracker,
    case_id: str,
    new: NewMessage,
    expected: ExpectedVersions = None,
    *,
    max_bytes: int,
    closing: bool = False,
    files: MessageFiles | None = None,
) -> AddedMessage:
    """Append a message; a customer's message reopens a resolved case, unless the case is being closed.

    Its `files` are counted at the end of `work`. Raises Conflict if the conversation would have more than `max_bytes`
    bytes of JSON, and ValidationFailed for files that the message can't name.
    """
    principal = work.origin.principal
    check_may_write(principal, new)
    message, reopened = build_message(case_id, new, utc_now()), None
    if files:
        await lock_case(work, case_id)
        message.attachment_uri = await files.find(work, case_id)
    state = await case_store.add_message(work.tx, message) if is_valid_id(case_id) else None
    if state is None or not principal.may_see(state):
        raise case_not_found(case_id)  # rolls the message back
    expect_version(visible_version(principal, state.version, state.internal_changes) - 1, expected)
    if state.conversation_bytes > max_bytes:
        raise Conflict("case_full", "The conversation of this case is full; open another case.")
    if message.author_type == "customer" and not closing:
        expect_not_closed(state.status)
    recorded = _message_changes(message)
    if await case_store.update_attachment_visibility(work.tx, message):
        recorded = {**recorded, **_visibility_changes(message)}
        if message.visibility == "internal":  # a file that customers saw is hidden from them
            await case_store.count_as_public(work.tx, case_id)
    if files:
        await files.add_staged(work, state.at, message.visibility)
    actor = audit.actor_of(principal)
    added: dict[str, Any] = {"actor": actor, "changeType": "conversation.added", "conversation": message}
    await outbox.append_event(work.tx, case_id, outbox.CASE_UPDATED, state.at, **added)
    await audit.record(work, case_id, "message.added", state.at, recorded)
    if (
        state.sla_policy is not None
        and message.visibility == "public"
        and not (closing and message.author_type == "customer")
    ):
        is_answered = state.answered_at is not None
        author = message.author_type
        await clocks.message_added(work, case_id, state.sla_policy, author, state.at, is_answered=is_answered)
    if message.author_type == "customer" and not closing and state.status == "resolved":
        before = await lock_case(work, case_id)
        reopened = before, await change_fields(work, clocks, before, {"status": "open"})
    first_answer = message.author_type == "agent" and state.answered_at == state.at
    answered_after = (state.at - state.created_at).total_seconds() if first_answer else None
    return AddedMessage(message, state.synthetic, state.version, answered_after, reopened)


async def set_status(
    work: UnitOfWork, clocks: ClockTracker, before: CaseSummary, status: Status, agent_id: str | None
) -> CaseSummary:
    """Set the status and, if given, the agent; return the new case, or `before` if nothing changes."""
    wanted = {"status": status} | ({"assigned_agent_id": agent_id} if agent_id else {})
    if all(getattr(before, name) == value for name, value in wanted.items()):
        return before
    check_may_assign(work.origin.principal, before.assigned_agent_id, agent_id or before.assigned_agent_id)
    return await change_fields(work, clocks, before, wanted)


def changed_fields(before: CaseSummary, change: CaseChange) -> dict[str, Any]:
    """Return the fields that a change gives another value, by their Python names."""
    return {name: value for name, value in change.given().items() if not _is_same_json(getattr(before, name), value)}


async def change_fields(
    work: UnitOfWork, clocks: ClockTracker, before: CaseSummary, changed: dict[str, Any]
) -> CaseSummary:
    """Change the fields of a locked case and return it. Raises Conflict for a status change that is not allowed."""
    if "status" in changed:
        check_status_change(before.status, changed["status"])
    at = time_after(before.updated_at)
    after = before.model_copy(update=changed | {"updated_at": at, "version": before.version + 1})
    await case_store.update(work.tx, after, changed)
    await _append_change_events(work, before, after, changed)
    changes = {_JSON_NAMES[name]: (getattr(before, name), value) for name, value in changed.items()}
    await audit.record(work, after.id, _audit_action(before, after), after.updated_at, changes)
    await clocks.status_changed(work, before, after)
    return after


def expect_not_closed(status: str) -> None:
    """Raise Conflict if a case of this status accepts no message from its customer."""
    if status == "closed":
        raise Conflict("case_closed", "The case is closed and takes no more messages of its customer; open a new one.")


def build_message(case_id: str, new: NewMessage, at: datetime) -> Message:
    """Return the message that is added to a case."""
    # Validation runs in native code, and is faster than `model_construct`.
    message = {**new.__dict__, "id": new_id(), "ticket_id": case_id, "created_at": at}
    return Message.model_validate(message, by_name=True, by_alias=False)


def _audit_action(before: CaseSummary, after: CaseSummary) -> audit.Action:
    if after.status == before.status or "closed" not in (before.status, after.status):
        reopened = before.status not in ACTIVE_STATUSES and after.status in ACTIVE_STATUSES
        return "case.reopened" if reopened else "case.changed"
    return "case.closed" if after.status == "closed" else "case.reopened"


def opening_changes(case: CaseSummary, first: Message | None = None) -> audit.FieldChanges:
    """Return the audit log's changes for an opened case.

    Texts are left out: the case holds them, and the first change of a text records the old one as `before`.
    """
    changes = {
        _JSON_NAMES[name]: (None, value)
        for name in _AUDITED_AT_OPENING
        if (value := getattr(case, name)) not in (None, [])
    }
    return {**changes, **_message_changes(first)} if first else changes


def _message_changes(message: Message) -> audit.FieldChanges:
    """Return the audit log's changes for an added message: its id and author type, without the text."""
    return {"messageId": (None, message.id), "authorType": (None, message.author_type)}


def _visibility_changes(message: Message) -> audit.FieldChanges:
    """Return the audit log's changes for an attachment whose visibility the message changed."""
    before = "internal" if message.visibility == "public" else "public"
    return {"attachmentVisibility": (before, message.visibility)}


async def _append_change_events(
    work: UnitOfWork, before: CaseSummary, after: CaseSummary, fields: Iterable[str]
) -> None:
    """Append the events of a change: one for all fields but the status, one for the status, and one for a closing."""
    tx, at, actor = work.tx, after.updated_at, audit.actor_of(work.origin.principal)
    other_fields = sorted(_JSON_NAMES[name] for name in set(fields) - {"status"})
    if other_fields:
        changed: dict[str, Any] = {"actor": actor, "changeType": "case.changed", "changedFields": other_fields}
        if (before.assigned_agent_id, before.team) != (after.assigned_agent_id, after.team):
            # Reported to the streams of callers who may no longer see the case.
            changed["previousOwner"] = {"assignedAgentId": before.assigned_agent_id, "team": before.team}
        await outbox.append_event(tx, after.id, outbox.CASE_UPDATED, at, **changed)
    if before.status == after.status:
        return
    statuses = {"actor": actor, "previousStatus": before.status, "currentStatus": after.status}
    await outbox.append_event(tx, after.id, outbox.CASE_UPDATED, at, changeType="status.changed", **statuses)
    if after.status == "closed":
        await outbox.append_event(tx, after.id, outbox.CASE_CLOSED, at, **statuses)


def _is_same_json(before: object, after: object) -> bool:
    """Return whether two values are the same JSON.

    The order of members does not count, because PostgreSQL does not keep it. `1` and `true` differ, although they are
    equal in Python.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            _is_same_json(value, after[name]) for name, value in before.items()
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_same_json, before, after))
    return before == after and isinstance(before, bool) == isinstance(after, bool)
