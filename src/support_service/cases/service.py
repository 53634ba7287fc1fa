"""The case service: all changes of cases, one method per use case."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from pydantic.alias_generators import to_camel

from support_service.audit import log as audit
from support_service.cases import store
from support_service.cases.model import (
    Case,
    CaseChange,
    CasePage,
    CaseQuery,
    Closing,
    Message,
    NewCase,
    NewMessage,
    StatusChange,
    Ticket,
    Workload,
    check_conversation_size,
    check_status_change,
)
from support_service.cases.policy import (
    authorize_new_case,
    check_may_assign,
    check_may_write,
    permission_missing,
    redact,
)
from support_service.cases.vocabulary import Status
from support_service.core import pagination, references
from support_service.core.errors import Conflict, case_not_found
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_version
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.database import Database, Transaction
from support_service.events import outbox
from support_service.idempotency.unit_of_work import UnitOfWork, WriteContext, unit_of_work
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Observations
from support_service.telemetry.labels import CHANNELS, SYNTHETIC, UNSETTLED, known_or_other

COUNT_EVERY_SECONDS = 15.0  # seconds
AUDITED_AT_OPENING = ("status", "priority", "channel", "customer_id", "assigned_agent_id")
COUNT_MAX_AGE = 4 * COUNT_EVERY_SECONDS  # seconds for which a count is published while it can't be refreshed


@dataclass(frozen=True, slots=True)
class AddedMessage:
    """An added message with its case's channel.

    `answered_after` is the time from opening to the first agent message in seconds, None for all other messages.
    """

    message: Message
    channel: str
    answered_after: float | None
    reopened: tuple[Ticket, Ticket] | None = None  # the case before and after, if the message reopened it


class CaseService:
    """Opens, reads and changes cases. Each change is one transaction; metrics are recorded after the commit."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._instruments = instruments
        self._tallied_at: float | None = None
        self._open: dict[tuple[str, str], int] = {}
        self._waiting_since: datetime | None = None
        instruments.observe(rows.TICKET_OPEN, self._open_cases)
        instruments.observe(rows.TICKET_OLDEST_UNANSWERED, self._oldest_unanswered)

    async def open_case(self, context: WriteContext, new: NewCase) -> Case:
        """Open a case, with its first message if one is given, and return it. Raises Forbidden."""
        new = authorize_new_case(context.principal, new)
        at = datetime.now(UTC)
        opened = {
            "id": new_id(),
            "status": "open",
            "created_at": at,
            "updated_at": at,
            "messages": [],
            "attachments": [],
        }
        case = Case.model_validate(new.__dict__ | opened, by_name=True, by_alias=False)
        first = _build_message(case.id, new.initial_message, at) if new.initial_message else None
        async with unit_of_work(self._database, context) as work:
            await store.add_case(work.tx, case, references.reference_rows(case.context), first)
            await outbox.append_event(work.tx, case.id, outbox.CASE_OPENED, at, initialMessage=first)
            await audit.record(work, case.id, "case.opened", at, _opening_changes(case, first))
        case.messages = [first] if first else []
        self._instruments.ticket_created.add(1, {"channel": known_or_other(case.channel, CHANNELS)})
        self._count_messages(case.channel, case.messages)
        return case

    async def get_case(self, case_id: str) -> Case:
        """Return a case with the messages and attachments that the caller may read. Raises NotFound."""
        caller = CURRENT_PRINCIPAL.get()
        case = await store.get(self._database, case_id) if is_valid_id(case_id) else None
        if case is None or not caller.sees(case):
            raise case_not_found(case_id)
        return redact(caller, case)

    async def list_cases(self, query: CaseQuery) -> CasePage:
        """Return a page of the matching cases that the caller sees, newest first.

        Raises ValidationFailed for a bad cursor. A page has at most `query.limit` cases, and fewer if they are large;
        `next_cursor` continues after the last one.
        """
        found = await store.find(self._database, query, pagination.decode_cursor(query.cursor), CURRENT_PRINCIPAL.get())
        return CasePage.model_construct(
            items=[ticket for _, ticket in found.tickets],
            next_cursor=pagination.encode_cursor(found.tickets[-1][0]) if found.more else None,
        )

    async def change_case(
        self, context: WriteContext, case_id: str, change: CaseChange, expected: ExpectedVersions = None
    ) -> Ticket:
        """Change the given fields and return the case; fields with an unchanged value have no effect.

        Raises NotFound, Forbidden, VersionConflict (the case is not at an expected version), and Conflict for a
        status change that is not allowed.
        """
        async with unit_of_work(self._database, context) as work:
            before = ticket = await _lock(work, case_id, expected)
            changed = {
                name: value for name, value in change.given().items() if not _is_same_json(getattr(before, name), value)
            }
            if "assigned_agent_id" in changed:
                check_may_assign(context.principal, before.assigned_agent_id, changed["assigned_agent_id"])
            if changed:
                ticket = await _change(work, before, changed)
            if "context" in changed:
                await store.replace_references(work.tx, case_id, references.reference_rows(ticket.context))
        self._count_status(before, ticket)
        return ticket

    async def set_status(
        self, context: WriteContext, case_id: str, change: StatusChange, expected: ExpectedVersions = None
    ) -> Ticket:
        """Set the status of a case, and its agent if one is given.

        Raises NotFound, Forbidden, VersionConflict, Conflict.
        """
        async with unit_of_work(self._database, context) as work:
            before = await _lock(work, case_id, expected)
            ticket = await _set_status(work, before, change.status, change.assigned_agent_id)
        self._count_status(before, ticket)
        return ticket

    async def close_case(
        self, context: WriteContext, case_id: str, closing: Closing, expected: ExpectedVersions = None
    ) -> Case:
        """Close a case, with a last message if one is given, and return it; a closed case stays closed.

        The last message does not reopen the case. A customer's last message is accepted unless the case was closed
        before. Raises NotFound, Forbidden, VersionConflict, Conflict.
        """
        last = closing.last_message()
        async with unit_of_work(self._database, context) as work:
            before = await _lock(work, case_id, expected)
            if last and last.author_type == "customer":
                _expect_not_closed(before.status)
            ticket = await _set_status(work, before, "closed", closing.assigned_agent_id)
            added = await _append_message(work, case_id, last, closing=True) if last else None
            case = await store.get(work.tx, case_id)
        assert case is not None  # noqa: S101 - this transaction has changed it
        self._count_status(before, ticket)
        if added:
            self._count_messages(added.channel, [added.message], added.answered_after)
        return case

    async def add_message(
        self, context: WriteContext, case_id: str, new: NewMessage, expected: ExpectedVersions = None
    ) -> Message:
        """Append a message to a case and return it.

        Raises NotFound, Forbidden, VersionConflict, and Conflict for a full case.

        A customer's message reopens a resolved case, and raises Conflict for a closed case. Agents and bots may add
        messages to a closed case, which stays closed.
        """
        async with unit_of_work(self._database, context) as work:
            added = await _append_message(work, case_id, new, expected)
        if added.reopened:
            self._count_status(*added.reopened)
        self._count_messages(added.channel, [added.message], added.answered_after)
        return added.message

    async def remove_synthetic(
        self,
        context: WriteContext,
        case_id: str,
        remove_files: Callable[[UnitOfWork], Awaitable[None]],
        expected: ExpectedVersions = None,
    ) -> None:
        """Delete a synthetic case. Raises NotFound, VersionConflict, and Conflict for a case of another channel.

        `remove_files` deletes the rows of its attachments first, in the same transaction.
        """
        async with unit_of_work(self._database, context) as work:
            ticket = await _lock(work, case_id, expected)
            _expect_synthetic(ticket)
            await remove_files(work)
            await store.delete(work.tx, case_id)
            await audit.record(work, case_id, "case.deleted", datetime.now(UTC), {"status": (ticket.status, None)})

    async def workload(self, agent_id: str) -> Workload:
        """Return the number of an agent's cases by status; zeros for an unknown agent. Raises Forbidden.

        Agents may read their own workload only.
        """
        caller = CURRENT_PRINCIPAL.get()
        if caller.role == "agent" and agent_id != caller.subject:
            raise permission_missing("agents:read-others", "Agents see their own workload.")
        cases = await store.workload(self._database, agent_id) if is_valid_id(agent_id) else {}
        return Workload.model_validate({"agentId": agent_id, **cases})

    async def refresh_tally(self) -> None:
        """Count the unsettled cases for the gauges."""
        self._open, self._waiting_since = await store.count_unsettled(self._database)
        self._tallied_at = monotonic()

    def _is_tally_recent(self) -> bool:
        """Return whether the last count is recent enough to publish; it is not during a database outage."""
        return self._tallied_at is not None and monotonic() - self._tallied_at < COUNT_MAX_AGE

    def _open_cases(self) -> Observations:
        if not self._is_tally_recent():
            return []
        return [
            (self._open.get((series["status"], series["priority"]), 0), series) for series in rows.TICKET_OPEN.series()
        ]

    def _oldest_unanswered(self) -> Observations:
        if not self._is_tally_recent():
            return []
        since = self._waiting_since
        return [(max(0.0, (datetime.now(UTC) - since).total_seconds()) if since else 0.0, {})]

    def _count_messages(self, channel: str, added: Iterable[Message], answered_after: float | None = None) -> None:
        if channel == SYNTHETIC:
            return
        for message in added:
            self._instruments.conversation_added.add(1, {"author_type": message.author_type})
        if answered_after is not None:
            self._instruments.ticket_first_response.record(answered_after)

    def _count_status(self, before: Ticket, after: Ticket) -> None:
        if after.status == before.status or after.channel == SYNTHETIC:
            return
        self._instruments.ticket_status_changed.add(1, {"status": after.status})
        if before.status in UNSETTLED and after.status not in UNSETTLED:
            self._instruments.ticket_resolution.record((after.updated_at - after.created_at).total_seconds())


async def _append_message(
    work: UnitOfWork,
    case_id: str,
    new: NewMessage,
    expected: ExpectedVersions = None,
    *,
    closing: bool = False,
) -> AddedMessage:
    """Append a message; a customer's message reopens a resolved case, unless the case is being closed."""
    caller = work.context.principal
    check_may_write(caller, new)
    message = _build_message(case_id, new, datetime.now(UTC))
    at, reopened = message.created_at, None
    state = await store.add_message(work.tx, message) if is_valid_id(case_id) else None
    if state is None or not caller.sees(state):
        raise case_not_found(case_id)  # rolls the message back
    expect_version(state.version - 1, expected)
    check_conversation_size(state.conversation_bytes)
    if message.author_type == "customer" and not closing:
        _expect_not_closed(state.status)
        if state.status == "resolved":
            before = await _lock(work, case_id)
            reopened = before, await _change(work, before, {"status": "open"})
    await outbox.append_event(
        work.tx, case_id, outbox.CASE_UPDATED, at, changeType="conversation.added", conversation=message
    )
    visibility_changes = (
        _visibility_changes(message) if await store.update_attachment_visibility(work.tx, message) else {}
    )
    await audit.record(work, case_id, "message.added", at, {**_message_changes(message), **visibility_changes})
    first_answer = message.author_type == "agent" and state.answered_at == at
    answered_after = (at - state.created_at).total_seconds() if first_answer else None
    return AddedMessage(message, state.channel, answered_after, reopened)


async def _lock(work: UnitOfWork, case_id: str, expected: ExpectedVersions = None) -> Ticket:
    ticket = await store.lock(work.tx, case_id) if is_valid_id(case_id) else None
    if ticket is None or not work.context.principal.sees(ticket):
        raise case_not_found(case_id)
    expect_version(ticket.version, expected)
    return ticket


async def _set_status(work: UnitOfWork, before: Ticket, status: Status, agent_id: str | None) -> Ticket:
    """Set the status and, if given, the agent; return the new ticket, or `before` if nothing changes."""
    wanted = {"status": status} | ({"assigned_agent_id": agent_id} if agent_id else {})
    if all(getattr(before, name) == value for name, value in wanted.items()):
        return before
    check_may_assign(work.context.principal, before.assigned_agent_id, agent_id or before.assigned_agent_id)
    return await _change(work, before, wanted)


async def _change(work: UnitOfWork, before: Ticket, changed: dict[str, Any]) -> Ticket:
    """Change the fields of a locked ticket and return it. Raises Conflict for a status change that is not allowed."""
    if "status" in changed:
        check_status_change(before.status, changed["status"])
    ticket = before.model_copy(update=changed | {"updated_at": datetime.now(UTC), "version": before.version + 1})
    await store.update(work.tx, ticket, changed)
    await _append_change_events(work.tx, before, ticket, changed)
    changes = {to_camel(name): (getattr(before, name), value) for name, value in changed.items()}
    await audit.record(work, ticket.id, _audit_action(before, ticket), ticket.updated_at, changes)
    return ticket


def _audit_action(before: Ticket, after: Ticket) -> audit.Action:
    if after.status == before.status or "closed" not in (before.status, after.status):
        reopened = before.status not in UNSETTLED and after.status in UNSETTLED
        return "case.reopened" if reopened else "case.changed"
    return "case.closed" if after.status == "closed" else "case.reopened"


def _opening_changes(case: Case, first: Message | None) -> audit.FieldChanges:
    """Return the audit log's changes for an opened case.

    Texts are left out: the case holds them, and the first change of a text records the old one as `before`.
    """
    changes = {
        to_camel(name): (None, getattr(case, name)) for name in AUDITED_AT_OPENING if getattr(case, name) is not None
    }
    return {**changes, **_message_changes(first)} if first else changes


def _message_changes(message: Message) -> audit.FieldChanges:
    """Return the audit log's changes for an added message: its id and author type, without the text."""
    return {"messageId": (None, message.id), "authorType": (None, message.author_type)}


def _visibility_changes(message: Message) -> audit.FieldChanges:
    """Return the audit log's changes for an attachment whose visibility the message changed."""
    before = "internal" if message.visibility == "public" else "public"
    return {"attachmentVisibility": (before, message.visibility)}


def _expect_not_closed(status: str) -> None:
    """Raise Conflict if a case of this status accepts no message from its customer."""
    if status == "closed":
        raise Conflict("case_closed", "The case is closed and takes no more messages of its customer; open a new one.")


async def _append_change_events(tx: Transaction, before: Ticket, after: Ticket, fields: Iterable[str]) -> None:
    """Append the events of a change to the outbox: one for the status, and one for all other fields together."""
    if before.status != after.status:
        closes = after.status == "closed"
        kind = outbox.CASE_CLOSED if closes else outbox.CASE_UPDATED
        change = {} if closes else {"changeType": "status.changed"}
        statuses = {"previousStatus": before.status, "currentStatus": after.status}
        await outbox.append_event(tx, after.id, kind, after.updated_at, **change, **statuses)
    other_fields = sorted(to_camel(name) for name in set(fields) - {"status"})
    if other_fields:
        await outbox.append_event(
            tx, after.id, outbox.CASE_UPDATED, after.updated_at, changeType="case.changed", changedFields=other_fields
        )


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


def _expect_synthetic(ticket: Ticket) -> None:
    """Raise Conflict if a case is not synthetic."""
    if ticket.channel != SYNTHETIC:
        refusal = f"Only cases of the channel {SYNTHETIC!r} can be deleted; close this one instead."
        raise Conflict("case_not_synthetic", refusal)


def _build_message(case_id: str, new: NewMessage, at: datetime) -> Message:
    # Validation runs in native code, and is faster than `model_construct`.
    message = {**new.__dict__, "id": new_id(), "ticket_id": case_id, "created_at": at}
    return Message.model_validate(message, by_name=True, by_alias=False)
