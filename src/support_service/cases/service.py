"""The case service: all changes of cases, one method per use case."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from support_service.cases import changes, external_ids, list_cursor
from support_service.cases.changes import AddedMessage
from support_service.cases.conflicts import describe_conflict
from support_service.cases.external_ids import ExistingCase
from support_service.cases.message_files import MessageFiles
from support_service.cases.model.case import Case, CasePage, CaseSummary, Message, Workload
from support_service.cases.model.requests import (
    CaseChange,
    CaseFilters,
    CaseQuery,
    Closing,
    NewCase,
    NewMessage,
    StatusChange,
)
from support_service.cases.policy import (
    authorize_new_case,
    check_may_assign,
    permission_missing,
)
from support_service.cases.shared_counts import SharedCountLimits, SharedCounts
from support_service.cases.status_metrics import count_status
from support_service.cases.store import case_links, case_list, case_reading
from support_service.cases.store import case_store as store
from support_service.cases.store.case_reading import NO_VERSION, StoredCase
from support_service.core.clock import time_after, utc_now
from support_service.core.domain import references
from support_service.core.domain.case_vocabulary import CHANNELS, SYNTHETIC
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.core.errors import Conflict, ValidationFailed, case_not_found
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database
from support_service.platform.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.labels import OTHER, known_or_other
from support_service.sla.clock_tracker import ClockTracker


@dataclass(frozen=True, slots=True)
class CaseChannels:
    """The channels with a metric label of their own, and those whose cases are synthetic."""

    known: Collection[str] = CHANNELS
    synthetic: Collection[str] = (SYNTHETIC,)


@dataclass(frozen=True, slots=True)
class CaseLimits:
    """Limits of cases."""

    max_conversation_bytes: int = 4 * 1024 * 1024  # of a case's messages as JSON
    customers_set_priority: bool = False  # also tags; service levels go by both
    counts: SharedCountLimits = field(default_factory=SharedCountLimits)


class CaseService:
    """Opens, reads and changes cases. Each change is one transaction; metrics are recorded after the commit."""

    def __init__(
        self,
        database: Database,
        instruments: Instruments,
        limits: CaseLimits = CaseLimits(),
        channels: CaseChannels = CaseChannels(),
        clocks: ClockTracker | None = None,
    ) -> None:
        self._database = database
        self._instruments = instruments
        self._limits = limits
        self._channels = channels
        self._counts = SharedCounts(database, limits.counts)
        self._clocks = clocks or ClockTracker.without_policies(database, instruments)

    async def open_case(self, origin: WriteOrigin, new: NewCase) -> Case | ExistingCase:
        """Open a case, with its first message if one is given, and return it.

        If the channel has a case with its external id, that one is returned. Raises Forbidden, and Conflict if the
        principal may not see that one.
        """
        synthetic = new.channel in self._channels.synthetic
        may_prioritize = self._limits.customers_set_priority or origin.principal.role != "customer"
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
        first = changes.build_message(case.id, new.initial_message, at) if new.initial_message else None
        if first and first.sent_at is None:
            first.sent_at = new.sent_at
        async with unit_of_work(self._database, origin) as work:
            existing = await external_ids.add_case_once(work, self._clocks, case, first)
        if existing:
            return ExistingCase(existing, await self.read_long_case(origin.principal, existing, with_history=True))
        case.messages = [first] if first else []
        self._instruments.ticket_created.add(1, {"channel": self._label(case)})
        self._count_messages(case.messages, synthetic=synthetic)
        return case

    async def read_case(
        self, principal: Principal, case_id: str, known_version: int = NO_VERSION, known_history: int | None = None
    ) -> StoredCase:
        """Return a case with what the principal may read of it, as `case_reading.read` does. Raises NotFound."""
        read = partial(case_reading.read, known_version=known_version, known_history=known_history)
        return await self._read(principal, case_id, read)

    async def read_long_case(self, principal: Principal, case_id: str, *, with_history: bool = False) -> StoredCase:
        """Return a case with its JSON of any length, without blocking the event loop. Raises NotFound."""
        return await self._read(principal, case_id, partial(case_reading.read_any_size, with_history=with_history))

    async def expect_visible(self, principal: Principal, case_id: str) -> CaseOwnership:
        """Return the customer, the agent and the team of a case. Raises NotFound if the principal may not see it."""
        owner = await case_reading.read_owner(self._database, case_id) if is_valid_id(case_id) else None
        if owner is None or not principal.may_see(owner):
            raise case_not_found(case_id)
        return owner

    async def owners_of(self, case_ids: Collection[str]) -> dict[str, CaseOwnership]:
        """Return the customer, the agent and the team of each case by its id. Unknown ids are left out."""
        return await case_reading.read_owners(self._database, case_ids)

    async def read_case_page(self, principal: Principal, case_id: str, after: str | None, limit: int) -> StoredCase:
        """Return a case with the JSON of at most `limit` messages: the first ones, or those after a message.

        Raises NotFound, and ValidationFailed if the message is not one that the principal may read.
        """
        stored = await self._read(principal, case_id, partial(case_reading.read_page, after=after, limit=limit))
        if stored.messages is None:
            raise ValidationFailed("invalid_request", "`messagesAfter` is not the id of a message of this case.")
        return stored

    async def list_cases(self, principal: Principal, query: CaseQuery) -> CasePage:
        """Return a page of the matching cases that the principal may see, in the order of the query's sort.

        Raises ValidationFailed for a bad cursor. A page has at most `query.limit` cases, and fewer if they are large;
        `next_cursor` continues after the last one.
        """
        after = list_cursor.decode(query.sort, query.cursor)
        found = await case_list.find(self._database, query, after, principal)
        for _, case in found.cases:
            case.sla = await self._clocks.policies.shown_now(case.clocks)
        return CasePage.model_construct(
            items=[case for _, case in found.cases],
            next_cursor=list_cursor.encode(query.sort, found.cases[-1][0]) if found.more else None,
        )

    async def count_cases(
        self, principal: Principal, query: CaseFilters, most: int, turn: Callable[[], AbstractAsyncContextManager[None]]
    ) -> int:
        """Return the number of matching cases that the principal may see; at most `most` are counted.

        They are counted in a `turn` of the caller, unless their number was counted a moment ago.
        """
        return await self._counts.share(principal, query, most, turn)

    async def change_case(
        self, origin: WriteOrigin, case_id: str, change: CaseChange, expected: ExpectedVersions = None
    ) -> CaseSummary:
        """Change the given fields and return the case; fields with an unchanged value have no effect.

        Raises NotFound, Forbidden, VersionConflict, and Conflict for a status change that is not allowed.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            before = after = await changes.lock_case(work, case_id, expected)
            changed = changes.changed_fields(before, change)
            if "assigned_agent_id" in changed:
                check_may_assign(origin.principal, before.assigned_agent_id, changed["assigned_agent_id"])
            if changed:
                after = await changes.change_fields(work, self._clocks, before, changed)
            if "context" in changed:
                await store.replace_references(work.tx, case_id, references.reference_rows(after.context))
        count_status(self._instruments, before, after)
        return after

    async def set_status(
        self, origin: WriteOrigin, case_id: str, change: StatusChange, expected: ExpectedVersions = None
    ) -> CaseSummary:
        """Set the status of a case, and its agent if one is given.

        Raises NotFound, Forbidden, VersionConflict, Conflict.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            before = await changes.lock_case(work, case_id, expected)
            after = await changes.set_status(work, self._clocks, before, change.status, change.assigned_agent_id)
        count_status(self._instruments, before, after)
        return after

    async def close_case(
        self,
        origin: WriteOrigin,
        case_id: str,
        closing: Closing,
        expected: ExpectedVersions = None,
        files: MessageFiles | None = None,
    ) -> StoredCase:
        """Close a case, with a last message if one is given; return it with its JSON and history.

        The last message reopens no case; a customer's is accepted unless the case was closed before. Raises NotFound,
        Forbidden, VersionConflict, Conflict, and ValidationFailed for `files` that the message can't name.
        """
        last = closing.last_message()
        async with unit_of_work(self._database, origin, ContendedRow(case_id), *_rows(files)) as work:
            before = await changes.lock_case(work, case_id, expected)
            if last and last.author_type == "customer":
                changes.expect_not_closed(before.status)
            added = await self._append_message(work, case_id, last, closing=True, files=files) if last else None
            if added:
                at = added.message.created_at
                before = before.model_copy(update={"updated_at": at, "version": added.version})
            after = await changes.set_status(work, self._clocks, before, "closed", closing.assigned_agent_id)
            public_only = not origin.principal.may_see_visibility("internal")
            case = await case_reading.read_any_size(work.tx, case_id, public_only=public_only, with_history=True)
            if files:
                await files.count(work)
        assert case is not None  # noqa: S101 - this transaction has changed it
        count_status(self._instruments, before, after)
        if added:
            self._count_messages([added.message], added.answered_after, synthetic=added.synthetic)
        return case

    async def add_message(
        self,
        origin: WriteOrigin,
        case_id: str,
        new: NewMessage,
        expected: ExpectedVersions = None,
        files: MessageFiles | None = None,
    ) -> Message:
        """Append a message to a case and return it. `files` are the files that its `attachment_ids` name.

        Raises NotFound, Forbidden, VersionConflict, Conflict for a full case, and ValidationFailed for files that the
        message can't name.

        A customer's message reopens a resolved case, and raises Conflict for a closed one. Others leave it closed.

        If the case has a message with the external id of the new one, that message is returned, whatever the status and
        version of the case. Raises Conflict if the principal may not see it.
        """
        described = describe_conflict(self._database, origin.principal, case_id, expected)
        async with described, unit_of_work(self._database, origin, ContendedRow(case_id), *_rows(files)) as work:
            if new.external_id and (existing := await external_ids.lock_and_find_message(work, case_id, new)):
                return existing
            added = await self._append_message(work, case_id, new, expected, files=files)
            if files:
                await files.count(work)
        if added.reopened:
            count_status(self._instruments, *added.reopened)
        self._count_messages([added.message], added.answered_after, synthetic=added.synthetic)
        return added.message

    async def remove_synthetic(
        self,
        origin: WriteOrigin,
        case_id: str,
        remove_files: Callable[[UnitOfWork, datetime], Awaitable[None]],
        expected: ExpectedVersions = None,
    ) -> None:
        """Delete a synthetic case. Raises NotFound, VersionConflict, and Conflict for any other case.

        `remove_files` deletes the rows of its attachments first, with the time of the deletion.
        """
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            await case_links.lock_with_linked_cases(work.tx, case_id)
            case = await changes.lock_case(work, case_id, expected)
            if not case.synthetic:
                raise Conflict("case_not_synthetic", "Only synthetic cases can be deleted; close this one instead.")
            at = time_after(case.updated_at)
            await remove_files(work, at)
            await case_links.change_linked_cases(work.tx, case_id)
            await store.delete(work.tx, case_id)
            await audit.record(work, case_id, "case.deleted", at, {"status": (case.status, None)})

    async def workload(self, principal: Principal, agent_id: str) -> Workload:
        """Return the number of an agent's cases by status; zeros for an unknown agent. Raises Forbidden.

        Agents may read their own workload only.
        """
        if principal.role == "agent" and agent_id != principal.subject:
            raise permission_missing("agents:read-others", "Agents see their own workload.")
        cases = await case_list.workload(self._database, agent_id) if is_valid_id(agent_id) else {}
        return Workload.model_validate({"agentId": agent_id, **cases})

    async def _read(
        self, principal: Principal, case_id: str, read: Callable[..., Awaitable[StoredCase | None]]
    ) -> StoredCase:
        public_only = not principal.may_see_visibility("internal")
        stored = await read(self._database, case_id, public_only=public_only) if is_valid_id(case_id) else None
        if stored is None or not principal.may_see(stored):
            raise case_not_found(case_id)
        return stored

    async def _append_message(
        self,
        work: UnitOfWork,
        case_id: str,
        new: NewMessage,
        expected: ExpectedVersions = None,
        *,
        closing: bool = False,
        files: MessageFiles | None,
    ) -> AddedMessage:
        limit, clocks = self._limits.max_conversation_bytes, self._clocks
        return await changes.append_message(
            work, clocks, case_id, new, expected, max_bytes=limit, closing=closing, files=files
        )

    def _label(self, case: CaseSummary) -> str:
        """Return the metric label of a case's channel; dashboards and alerts leave out the label of synthetic cases."""
        if case.synthetic:
            return SYNTHETIC
        return OTHER if case.channel == SYNTHETIC else known_or_other(case.channel, self._channels.known)

    def _count_messages(
        self, added: Iterable[Message], answered_after: float | None = None, *, synthetic: bool
    ) -> None:
        if synthetic:
            return
        for message in added:
            self._instruments.conversation_added.add(1, {"author_type": message.author_type})
        if answered_after is not None:
            self._instruments.ticket_first_response.record(answered_after)


def _rows(files: MessageFiles | None) -> tuple[ContendedRow, ...]:
    return files.rows if files else ()
