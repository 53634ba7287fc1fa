"""A locked case, and the record of each change: the audit entry, the event and the clocks, and the metric after it.

A use case says what changed, once; none of the four can be forgotten.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, Self

from support_service.cases.case_rules import check_may_assign, check_status_change
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.model.case import AUDITED, Case, CaseSummary, Message
from support_service.cases.model.published import CASE_CLOSED, CASE_OPENED, CASE_UPDATED
from support_service.cases.notifier import NO_MEMBERS, Notifier
from support_service.cases.sql import case_events, case_rows
from support_service.cases.sql.case_rows import CaseState
from support_service.cases.sql.link_rows import StoredLink
from support_service.core.clock import time_after
from support_service.core.domain import references
from support_service.core.domain.case_vocabulary import (
    ACTIVE_STATUSES,
    AUTHOR_TYPES,
    CHANNELS,
    STATUSES,
    SYNTHETIC,
    Status,
)
from support_service.core.errors import case_not_found
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, check_version
from support_service.platform.audit import log as audit
from support_service.platform.settings.process import CaseSettings
from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, known_or_other
from support_service.platform.unit_of_work import UnitOfWork

_JSON_NAMES = {name: field.alias or name for name, field in CaseSummary.model_fields.items()}
_AUDITED_AT_OPENING = [name for name, field in CaseSummary.model_fields.items() if AUDITED in field.metadata]

# From a minute, for a chat, to two weeks, for a complaint.
RESPONSE_TIME_BUCKETS = (60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0)
TICKET_CREATED = InstrumentSpec(  # further channels are added by SUPPORT_CHANNELS
    "support.ticket.created", "counter", "{ticket}", "Cases opened, by channel", {"channel": (*CHANNELS, OTHER)}
)
CONVERSATION_ADDED = InstrumentSpec(
    "support.conversation.added",
    "counter",
    "{message}",
    "Messages added to cases, including the first one of a case",
    {"author_type": AUTHOR_TYPES},
)
TICKET_STATUS_CHANGED = InstrumentSpec(
    "support.ticket.status_changed", "counter", "1", "Changes of a case's status, by new status", {"status": STATUSES}
)
TICKET_FIRST_RESPONSE = InstrumentSpec(
    "support.ticket.first_response",
    "histogram",
    "s",
    "Time from a case's opening to the first message of an agent",
    buckets=RESPONSE_TIME_BUCKETS,
)
TICKET_RESOLUTION = InstrumentSpec(
    "support.ticket.resolution",
    "histogram",
    "s",
    "Time from a case's opening until it is resolved, or closed without being resolved",
    buckets=RESPONSE_TIME_BUCKETS,
)


class CaseRecorder:
    """Records what happens to cases."""

    def __init__(
        self,
        instruments: Instruments,
        clocks: ClockTracker,
        settings: CaseSettings = CaseSettings(),
        notifier: Notifier | None = None,
    ) -> None:
        self._instruments = instruments
        self._notifier = notifier or Notifier()
        self.clocks = clocks
        self.settings = settings
        self._known_channels = settings.known_channels
        for channel in self._known_channels:
            instruments.start_series(TICKET_CREATED, {"channel": channel})

    async def record_opening(
        self, work: UnitOfWork, case: Case, first: Message | None, *, split_from: str | None = None
    ) -> None:
        """Record a case that was opened, with its first message, or with messages of the case `split_from`."""
        source = {"splitFrom": split_from} if split_from else {}
        told = NO_MEMBERS if case.synthetic else await self._notifier.tell_of_opening(work, case, first)
        members = {"actor": audit.actor_of(work.origin.principal), "initialMessage": first, **source, **told}
        await case_events.append(work.tx, case.id, CASE_OPENED, case.created_at, **members)
        changes = opening_changes(case) | (_message_changes(first) if first else {})
        changes |= {name: (None, value) for name, value in source.items()}
        await audit.record(work, case.id, "case.opened", case.created_at, changes)
        label = self._channel_label(case)
        work.after_commit(lambda: self._instruments.add(TICKET_CREATED, 1, {"channel": label}))
        if first and not case.synthetic:
            self._count_messages(work, first.author_type, 1)

    async def record_message(
        self, work: UnitOfWork, message: Message, state: CaseState, *, closing: bool, shows_file: bool
    ) -> None:
        """Record a message; `shows_file` if a file that it names got its visibility."""
        told = NO_MEMBERS if state.synthetic else await self._notifier.tell_of_message(work, message, state, state.at)
        added = {"changeType": "conversation.added", "conversation": message, **told}
        changes = _message_changes(message) | (_visibility_changes(message) if shows_file else {})
        await self._record_updates(work, "message.added", [(message.ticket_id, state.at, changes, added)])
        if state.synthetic:
            return
        self._count_messages(work, message.author_type, 1)
        if message.author_type == "agent" and state.answered_at == state.at:
            seconds = (state.at - state.created_at).total_seconds()
            work.after_commit(lambda: self._instruments.record(TICKET_FIRST_RESPONSE, seconds))
        is_heard = message.visibility == "public" and not (closing and message.author_type == "customer")
        if state.sla_policy is not None and is_heard:
            author, is_answered = message.author_type, state.answered_at is not None
            await self.clocks.note_message(
                work, message.ticket_id, state.sla_policy, author, state.at, is_answered=is_answered
            )

    async def record_bot_messages(self, work: UnitOfWork, messages: Sequence[Message], not_synthetic: int) -> None:
        """Record messages about an event of another service; `not_synthetic` of the cases are not synthetic."""
        added = [
            (
                each.ticket_id,
                each.created_at,
                _message_changes(each),
                {"changeType": "conversation.added", "conversation": each},
            )
            for each in messages
        ]
        await self._record_updates(work, "message.added", added)
        self._count_messages(work, "bot", not_synthetic)

    async def record_field_changes(
        self, work: UnitOfWork, before: CaseSummary, after: CaseSummary, fields: Collection[str]
    ) -> None:
        """Record changed fields: an event for all but the status, one for the status, and one for a closing.

        A snooze that begins or ends with the status has no event of its own.
        """
        at, actor = after.updated_at, audit.actor_of(work.origin.principal)
        told_by_status = {"status", "snoozed_until"} if before.status != after.status else set[str]()
        others = sorted(_JSON_NAMES[name] for name in set(fields) - told_by_status)
        if others:
            changed: dict[str, Any] = {"actor": actor, "changeType": "case.changed", "changedFields": others}
            if (before.assigned_agent_id, before.team) != (after.assigned_agent_id, after.team):
                # Reported to the streams of callers who may no longer see the case.
                changed["previousOwner"] = {"assignedAgentId": before.assigned_agent_id, "team": before.team}
                if not after.synthetic:
                    changed |= await self._notifier.tell_of_assignment(work, before, after)
            await case_events.append(work.tx, after.id, CASE_UPDATED, at, **changed)
        if before.status != after.status:
            members = {"actor": actor, "previousStatus": before.status, "currentStatus": after.status}
            told = NO_MEMBERS if after.synthetic else await self._notifier.tell_of_status(work, before, after)
            await case_events.append(
                work.tx, after.id, CASE_UPDATED, at, changeType="status.changed", **members, **told
            )
            if after.status == "closed":
                await case_events.append(work.tx, after.id, CASE_CLOSED, at, **members)
        changes = {_JSON_NAMES[name]: (getattr(before, name), getattr(after, name)) for name in fields}
        await audit.record(work, after.id, _action_of_change(before, after), at, changes)
        await self.clocks.note_status_change(work, before, after)
        work.after_commit(partial(self._count_status_change, before, after))

    async def record_link_change(
        self,
        work: UnitOfWork,
        link: StoredLink,
        case_ids: Collection[str],
        action: Literal["link.added", "link.removed"],
        at: datetime,
        *,
        public: bool,
    ) -> None:
        """Record a link that was added to or removed from both of its cases; customers see a public one."""
        updates = []
        for case_id in case_ids:
            shown = link.seen_from(case_id)
            values = {"linkId": shown.id, "kind": shown.kind, "linkedCaseId": shown.case_id}
            changes = {
                name: (None, value) if action == "link.added" else (value, None) for name, value in values.items()
            }
            members = {"changeType": action, "visibility": "public" if public else "internal", "link": shown}
            updates.append((case_id, at, changes, members))
        await self._record_updates(work, action, updates)

    async def record_split(
        self, work: UnitOfWork, case_id: str, split_into: str, message_ids: Sequence[str], at: datetime
    ) -> None:
        """Record messages that were moved out of a case into a new one, whose opening is recorded apart."""
        values = {"splitInto": split_into, "messageIds": message_ids}
        changes = {name: (None, value) for name, value in values.items()}
        members = {"changeType": "case.split", "visibility": "public", **values}
        await self._record_updates(work, "case.split", [(case_id, at, changes, members)])

    async def record_deletion(self, work: UnitOfWork, case: CaseSummary, at: datetime) -> None:
        """Record a synthetic case that was deleted; no event tells of it."""
        await audit.record(work, case.id, "case.deleted", at, {"status": (case.status, None)})

    async def _record_updates(
        self,
        work: UnitOfWork,
        action: audit.Action,
        changed: Sequence[tuple[str, datetime, audit.FieldChanges, Mapping[str, Any]]],
    ) -> None:
        """Record changes of cases: id, time, changes for the audit log, and members of the event."""
        actor = audit.actor_of(work.origin.principal)
        events = [(case_id, at, {"actor": actor, **members}) for case_id, at, _, members in changed]
        await case_events.append_all(work.tx, CASE_UPDATED, events)
        await audit.record_all(work, action, [(case_id, at, changes) for case_id, at, changes, _ in changed])

    def _count_messages(self, work: UnitOfWork, author_type: str, number: int) -> None:
        if number:
            work.after_commit(lambda: self._instruments.add(CONVERSATION_ADDED, number, {"author_type": author_type}))

    def _count_status_change(self, before: CaseSummary, after: CaseSummary) -> None:
        if after.status == before.status or after.synthetic:
            return
        self._instruments.add(TICKET_STATUS_CHANGED, 1, {"status": after.status})
        if before.status in ACTIVE_STATUSES and after.status not in ACTIVE_STATUSES:
            self._instruments.record(TICKET_RESOLUTION, (after.updated_at - after.created_at).total_seconds())

    def _channel_label(self, case: CaseSummary) -> str:
        """Return the metric label of a case's channel; dashboards and alerts leave out the label of synthetic cases."""
        if case.synthetic:
            return SYNTHETIC
        return OTHER if case.channel == SYNTHETIC else known_or_other(case.channel, self._known_channels)


def opening_changes(case: CaseSummary) -> dict[str, tuple[Any, Any]]:
    """Return the audit log's changes for an opened case.

    Texts are left out: the case holds them, and the first change of a text records the old one as `before`.
    """
    values = {_JSON_NAMES[name]: getattr(case, name) for name in _AUDITED_AT_OPENING}
    return {name: (None, value) for name, value in values.items() if value not in (None, [])}


def _message_changes(message: Message) -> dict[str, tuple[Any, Any]]:
    """Return the audit log's changes for an added message: its id and author type, without the text."""
    return {"messageId": (None, message.id), "authorType": (None, message.author_type)}


def _visibility_changes(message: Message) -> dict[str, tuple[Any, Any]]:
    """Return the audit log's changes for an attachment whose visibility the message changed."""
    before = "internal" if message.visibility == "public" else "public"
    return {"attachmentVisibility": (before, message.visibility)}


def _action_of_change(before: CaseSummary, after: CaseSummary) -> audit.Action:
    if after.status == before.status or "closed" not in (before.status, after.status):
        reopened = before.status not in ACTIVE_STATUSES and after.status in ACTIVE_STATUSES
        return "case.reopened" if reopened else "case.changed"
    return "case.closed" if after.status == "closed" else "case.reopened"


class LockedCase:
    """A locked case; `current` is the case after the changes so far."""

    def __init__(self, work: UnitOfWork, recorder: CaseRecorder, case: CaseSummary) -> None:
        self.current = case
        self._work = work
        self._recorder = recorder

    @classmethod
    async def lock(
        cls, work: UnitOfWork, recorder: CaseRecorder, case_id: str, expected: ExpectedVersions = None
    ) -> Self:
        """Lock a case until the unit of work ends. Raises NotFound and VersionConflict."""
        case = await case_rows.lock(work.tx, case_id) if is_valid_id(case_id) else None
        if case is None or not work.origin.principal.may_see(case):
            raise case_not_found(case_id)
        check_version(case.version, expected)
        return cls(work, recorder, case)

    async def change_fields(self, values: Mapping[str, Any], *, any_status: bool = False) -> Collection[str]:
        """Give fields other values; return the changed ones. A field that has its value already is not one of them.

        Raises Forbidden, and Conflict for a status that may not follow the present one. With `any_status`, every
        change of status is allowed.
        """
        before, tx = self.current, self._work.tx
        if values.get("status", before.status) != before.status:
            values = {"snoozed_until": None, **values}
        changed = {name: value for name, value in values.items() if not _is_same_json(getattr(before, name), value)}
        if not changed:
            return changed
        if "assigned_agent_id" in changed:
            check_may_assign(self._work.origin.principal, before.assigned_agent_id, changed["assigned_agent_id"])
        if "status" in changed and not any_status:
            check_status_change(before.status, changed["status"])
        at = time_after(before.updated_at)
        self.current = before.model_copy(update=changed | {"updated_at": at, "version": before.version + 1})
        await case_rows.update(tx, self.current, changed)
        await self._recorder.record_field_changes(self._work, before, self.current, changed)
        if "context" in changed:
            await case_rows.replace_references(tx, self.current.id, references.reference_rows(self.current.context))
        return changed

    async def set_status(
        self, status: Status, agent_id: str | None = None, *, snoozed_until: datetime | None = None
    ) -> None:
        """Set the status and, if given, the agent; end a snooze, or begin one. Raises the errors of `change_fields`."""
        values: dict[str, Any] = {"status": status, "snoozed_until": snoozed_until}
        await self.change_fields(values | ({"assigned_agent_id": agent_id} if agent_id else {}))


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
