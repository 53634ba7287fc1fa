"""SupportService: the one place that changes a case, one method a use case."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import pydantic_core
from pydantic.alias_generators import to_camel

from support_service import references
from support_service.callers import CALLER
from support_service.cases import store
from support_service.cases.fields import Status
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
)
from support_service.cases.rights import expect_may_assign, expect_may_open, expect_may_say, heard, missing
from support_service.database import Database, Transaction
from support_service.errors import Conflict, FieldError, Invalid, no_case
from support_service.events import outbox
from support_service.ids import may_be_id, new_id
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Reading
from support_service.telemetry.labels import CHANNELS, SYNTHETIC, UNSETTLED, closed

TALLY_EVERY = 15.0  # seconds
TALLY_KEPT = 4 * TALLY_EVERY  # how long a count is told while no newer one can be had


@dataclass(frozen=True, slots=True)
class Added:
    """A message that was added, its case's channel, and the seconds from the opening where it was an agent's first."""

    message: Message
    channel: str
    answered_after: float | None


class SupportService:
    """Opens, reads and changes cases; every change is one transaction, and is counted after its commit."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._instruments = instruments
        self._tallied_at: float | None = None
        self._open: dict[tuple[str, str], int] = {}
        self._waiting_since: datetime | None = None
        instruments.observe(rows.TICKET_OPEN, self._open_cases)
        instruments.observe(rows.TICKET_OLDEST_UNANSWERED, self._oldest_unanswered)

    async def open_case(self, new: NewCase) -> Case:
        """Open a case, with its first message if there is one; raises Forbidden."""
        new = expect_may_open(CALLER.get(), new)
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
        first = _message(case.id, new.initial_message, at) if new.initial_message else None
        async with self._database.transaction() as tx:
            await store.add(tx, case, references.rows(case.context), first)
            await outbox.append(tx, case.id, outbox.OPENED, at, initialMessage=first)
        case.messages = [first] if first else []
        self._instruments.ticket_created.add(1, {"channel": closed(case.channel, CHANNELS)})
        self._count_messages(case.channel, case.messages)
        return case

    async def get_case(self, case_id: str) -> Case:
        """A case with its conversation and attachments; raises NotFound."""
        caller = CALLER.get()
        case = await store.get(self._database, case_id) if may_be_id(case_id) else None
        if case is None or not caller.sees(case):
            raise no_case(case_id)
        case.messages = heard(caller, case.messages)
        return case

    async def list_cases(self, query: CaseQuery) -> CasePage:
        """A page of the cases that match, newest first; raises Invalid for a cursor that is none of ours."""
        found = await store.find(self._database, query, _read_cursor(query.cursor), CALLER.get())
        page = found[: query.limit]
        more = len(found) > len(page)
        return CasePage.model_construct(
            items=[ticket for _, ticket in page], next_cursor=_cursor(page[-1][0]) if more else None
        )

    async def change_case(self, case_id: str, change: CaseChange) -> Ticket:
        """Change the fields given, and nothing where they are as they were; raises NotFound and Forbidden."""
        async with self._database.transaction() as tx:
            before = ticket = await self._lock(tx, case_id)
            changed = {name: value for name, value in change.given().items() if not _same(getattr(before, name), value)}
            if "assigned_agent_id" in changed:
                expect_may_assign(CALLER.get(), before.assigned_agent_id, changed["assigned_agent_id"])
            if changed:
                ticket = before.model_copy(update=changed | {"updated_at": datetime.now(UTC)})
                await store.change(tx, ticket, changed)
                await _announce_change(tx, before, ticket, changed)
            if "context" in changed:
                await store.replace_references(tx, case_id, references.rows(ticket.context))
        self._count_status(before, ticket)
        return ticket

    async def set_status(self, case_id: str, change: StatusChange) -> Ticket:
        """Give a case a status, and an agent if one is named; raises NotFound and Forbidden."""
        async with self._database.transaction() as tx:
            before, ticket = await self._set_status(tx, case_id, change.status, change.assigned_agent_id)
        self._count_status(before, ticket)
        return ticket

    async def close_case(self, case_id: str, closing: Closing) -> Case:
        """Close a case, with a last message if there is one; a closed case stays closed. Raises NotFound, Forbidden."""
        last = closing.last_message()
        async with self._database.transaction() as tx:
            before, ticket = await self._set_status(tx, case_id, "closed", closing.assigned_agent_id)
            added = await self._append(tx, case_id, last) if last else None
            case = await store.get(tx, case_id)
        assert case is not None  # noqa: S101 - this transaction has changed it
        self._count_status(before, ticket)
        if added:
            self._count_messages(added.channel, [added.message], added.answered_after)
        return case

    async def add_message(self, case_id: str, new: NewMessage) -> Message:
        """Append a message to a case; raises NotFound and Forbidden."""
        async with self._database.transaction() as tx:
            added = await self._append(tx, case_id, new)
        self._count_messages(added.channel, [added.message], added.answered_after)
        return added.message

    async def remove_synthetic(self, case_id: str) -> None:
        """Remove a made-up case; raises NotFound, and Conflict for one of a real channel or with a file."""
        async with self._database.transaction() as tx:
            ticket = await self._lock(tx, case_id)
            expect_synthetic(ticket)
            if await store.has_attachments(tx, case_id):
                raise Conflict("case_has_attachments", "A file has just come to this case; delete it once more.")
            await store.remove(tx, case_id)

    async def workload(self, agent_id: str) -> Workload:
        """How many cases an agent has by status; an agent nobody knows has none. Raises Forbidden."""
        caller = CALLER.get()
        if caller.role == "agent" and agent_id != caller.subject:
            raise missing("agents:read-others", "Agents see their own workload.")
        cases = await store.workload(self._database, agent_id) if may_be_id(agent_id) else {}
        return Workload.model_validate({"agentId": agent_id, **cases})

    async def refresh_tally(self) -> None:
        """Count the open cases for the gauges."""
        self._open, self._waiting_since = await store.tally(self._database)
        self._tallied_at = monotonic()

    def _knows_tally(self) -> bool:
        """Whether there is a count young enough to be told: during an outage of the database nobody knows."""
        return self._tallied_at is not None and monotonic() - self._tallied_at < TALLY_KEPT

    def _open_cases(self) -> Reading:
        if not self._knows_tally():
            return []
        return [
            (self._open.get((series["status"], series["priority"]), 0), series) for series in rows.TICKET_OPEN.series()
        ]

    def _oldest_unanswered(self) -> Reading:
        if not self._knows_tally():
            return []
        since = self._waiting_since
        return [(max(0.0, (datetime.now(UTC) - since).total_seconds()) if since else 0.0, {})]

    async def _append(self, tx: Transaction, case_id: str, new: NewMessage) -> Added:
        caller = CALLER.get()
        expect_may_say(caller, new)
        message = _message(case_id, new, datetime.now(UTC))
        spoken = await store.add_message(tx, message) if may_be_id(case_id) else None
        if spoken is None or not caller.sees(spoken):
            raise no_case(case_id)  # which undoes the message
        await outbox.append(
            tx, case_id, outbox.UPDATED, message.created_at, changeType="conversation.added", conversation=message
        )
        first_answer = message.author_type == "agent" and spoken.answered_at == message.created_at
        after = (message.created_at - spoken.created_at).total_seconds() if first_answer else None
        return Added(message, spoken.channel, after)

    async def _set_status(
        self, tx: Transaction, case_id: str, status: Status, agent_id: str | None
    ) -> tuple[Ticket, Ticket]:
        """The ticket before and after the change."""
        before = await self._lock(tx, case_id)
        wanted = {"status": status} | ({"assigned_agent_id": agent_id} if agent_id else {})
        if all(getattr(before, name) == value for name, value in wanted.items()):
            return before, before
        expect_may_assign(CALLER.get(), before.assigned_agent_id, agent_id or before.assigned_agent_id)
        ticket = before.model_copy(update=wanted | {"updated_at": datetime.now(UTC)})
        await store.change(tx, ticket, wanted)
        await _announce_change(tx, before, ticket, wanted)
        return before, ticket

    async def _lock(self, tx: Transaction, case_id: str) -> Ticket:
        ticket = await store.lock(tx, case_id) if may_be_id(case_id) else None
        if ticket is None or not CALLER.get().sees(ticket):
            raise no_case(case_id)
        return ticket

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


async def _announce_change(tx: Transaction, before: Ticket, after: Ticket, fields: Iterable[str]) -> None:
    """Keep the events of a change: of the status its own, of all other fields one together."""
    if before.status != after.status:
        closes = after.status == "closed"
        kind = outbox.CLOSED if closes else outbox.UPDATED
        change = {} if closes else {"changeType": "status.changed"}
        statuses = {"previousStatus": before.status, "currentStatus": after.status}
        await outbox.append(tx, after.id, kind, after.updated_at, **change, **statuses)
    others = sorted(to_camel(name) for name in set(fields) - {"status"})
    if others:
        await outbox.append(
            tx, after.id, outbox.UPDATED, after.updated_at, changeType="case.changed", changedFields=others
        )


def _same(before: object, after: object) -> bool:
    """Whether two values are the same JSON; Python takes 1 and true for equal."""
    return pydantic_core.to_json(before) == pydantic_core.to_json(after)


def expect_synthetic(ticket: Ticket) -> None:
    """Raise Conflict where a case is not made up."""
    if ticket.channel != SYNTHETIC:
        refusal = f"Only cases of the channel {SYNTHETIC!r} can be deleted; close this one instead."
        raise Conflict("case_not_synthetic", refusal)


def _message(case_id: str, new: NewMessage, at: datetime) -> Message:
    # Validated in native code, which takes less than constructing it unchecked does.
    message = {**new.__dict__, "id": new_id(), "ticket_id": case_id, "created_at": at}
    return Message.model_validate(message, by_name=True, by_alias=False)


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(seq.to_bytes(8)).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=", altchars=b"-_", validate=True)
    except ValueError:  # binascii's error is one
        raw = b""
    seq = int.from_bytes(raw, signed=True)
    if len(raw) != 8 or seq < 0:  # noqa: PLR2004 - the bytes that _cursor writes
        problem = FieldError("cursor", "is not a cursor that this list gave; start again without one")
        raise Invalid("invalid_request", "The cursor can't be read.", [problem])
    return seq
