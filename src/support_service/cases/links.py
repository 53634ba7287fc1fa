"""Links between cases: adding and removing them, and where what is sent to a closed duplicate arrives.

A link changes both of its cases: each gets a new version, an event and an audit entry. To merge a case into another one
is to link it as a duplicate. Nothing is moved, so that the removal of the link undoes it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from support_service.cases.model.case import CaseLink, CaseSummary
from support_service.cases.model.requests import NewLink
from support_service.cases.model.vocabulary import DUPLICATE_OF, MAX_LINKS, PUBLIC_LINK_KINDS, RELATED
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql import case_rows, link_rows
from support_service.cases.sql.link_rows import StoredLink
from support_service.core.clock import time_after
from support_service.core.domain.principals import CaseOwnership, HasOwner, Principal
from support_service.core.errors import FieldError, case_not_found, problem, suppress_codes
from support_service.core.ids import is_valid_id
from support_service.core.optimistic_lock import ExpectedVersions, check_version, visible_version
from support_service.platform.database import ContendedRow, Database, RowReader, Transaction
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work

DIRECTED_LINKS = ContendedRow("all links of cases that have a direction")  # longer than any id of a case
LockedCases = dict[str, LockedCase]  # by id


class CaseMerged(Exception):
    """What was sent to a closed duplicate belongs in the case `original`. It rolls the transaction back."""

    def __init__(self, original: str) -> None:
        super().__init__(original)
        self.original = original


class HasStatus(HasOwner, Protocol):
    """A case with its status, and what decides who may see it."""

    @property
    def status(self) -> str:
        """The status of the case."""


async def find_case_of_arrival(reader: RowReader, principal: Principal, case_id: str, case: HasStatus) -> str | None:
    """Return the id of the case in which arrives what is sent to a closed duplicate; None if it stays where it is.

    It is the case that the duplicate is one of; if that is a closed duplicate as well, the next one. Nothing arrives in
    a case that the principal may not see, or that has another customer, who would read it.
    """
    original = await link_rows.find_original(reader, case_id) if case.status == "closed" else None
    while (
        original and original.status == "closed" and (following := await link_rows.find_original(reader, original.id))
    ):
        original = following
    if original and original.customer_id == case.customer_id:
        owner = CaseOwnership(original.customer_id, original.assigned_agent_id, original.team)
        if principal.may_see(owner):
            return str(original.id)
    return None


async def check_not_merged(reader: RowReader, principal: Principal, case_id: str, case: HasStatus) -> None:
    """Raise CaseMerged if what is sent to the case arrives in another one."""
    if original := await find_case_of_arrival(reader, principal, case_id, case):
        raise CaseMerged(original)


async def hold_arrival(tx: Transaction, principal: Principal, duplicate: str, original: str) -> None:
    """Lock a duplicate and the case in which arrives what is sent to it, until the transaction ends.

    Raises CaseMerged if it arrives in another case now, or in the duplicate itself, which was opened meanwhile.
    """
    cases = await link_rows.lock_cases(tx, (duplicate, original))
    if duplicate not in cases:
        raise case_not_found(duplicate)
    now = await find_case_of_arrival(tx, principal, duplicate, cases[duplicate]) or duplicate
    if now != original:
        raise CaseMerged(now)


async def check_version_of_duplicate(
    tx: Transaction, principal: Principal, duplicate: str, expected: ExpectedVersions
) -> None:
    """Raise VersionConflict if a duplicate that `hold_arrival` holds does not have one of the expected versions."""
    if expected is None:
        return
    state = await case_rows.lock_shared(tx, duplicate)
    assert state is not None  # noqa: S101 - the row is locked
    check_version(visible_version(principal, state.version, state.internal_changes), expected)


class LinkService:
    """Adds and removes links of cases."""

    def __init__(self, database: Database, recorder: CaseRecorder) -> None:
        self._database = database
        self._recorder = recorder

    async def add(
        self, origin: WriteOrigin, case_id: str, new: NewLink, expected: ExpectedVersions = None
    ) -> tuple[CaseLink, bool]:
        """Link a case with another one; return the link, and False if it exists already. Raises the errors of `merge`.

        A link `duplicate-of` closes the case.
        """
        link, is_new, _ = await self._add(origin, case_id, new, expected)
        return link, is_new

    async def merge(
        self, origin: WriteOrigin, case_id: str, into: str, expected: ExpectedVersions = None
    ) -> CaseSummary:
        """Close a case as a duplicate of another one, and return the other case.

        If it is one already, nothing changes. Raises ValidationFailed if both are the same case, NotFound,
        and VersionConflict. Raises Conflict for a cycle, for a duplicate of a second case or of a closed one, and for
        too many links.
        """
        new = NewLink.model_construct(kind=DUPLICATE_OF, case_id=into)
        return (await self._add(origin, case_id, new, expected, named="into", shown=into))[2]

    async def _add(
        self,
        origin: WriteOrigin,
        case_id: str,
        new: NewLink,
        expected: ExpectedVersions,
        *,
        named: str = "caseId",
        shown: str | None = None,
    ) -> tuple[CaseLink, bool, CaseSummary]:
        """Link a case with another one, which is `named` so; return the link, whether it is new, and the other case.

        The answer shows the case `shown`, if it is given, and the link otherwise.
        """
        if case_id == new.case_id:
            wrong = FieldError(named, "must be the id of another case")
            raise problem("invalid_request", "A case can't be linked with itself.", [wrong])
        is_directed = new.kind != RELATED
        rows = [*([DIRECTED_LINKS] if is_directed else []), *contended_rows_of(case_id, new.case_id)]
        async with unit_of_work(self._database, origin, *rows) as work:
            work.note_answer(shown or case_id)
            if is_directed:
                await link_rows.lock_directed_links(work.tx)
            cases = await self._lock_cases(work, (case_id, new.case_id), expected)
            link = _to_stored_link(new, cases[case_id].current, cases[new.case_id].current)
            present = await link_rows.find_by_cases(work.tx, cases)
            if same := next((each for each in present if each.is_same(link)), None):
                return same.seen_from(case_id), False, cases[new.case_id].current
            _check_link_limits(link, present)
            if is_directed and await link_rows.would_close_cycle(work.tx, link):
                raise problem("link_cycle", f"Links lead back to this case: it can't be {link.kind} the other one.")
            if link.kind == DUPLICATE_OF and cases[link.other_case_id].current.status == "closed":
                raise problem(
                    "duplicate_of_closed_case",
                    "The other case is closed. Reopen it first, or name a case that is not closed.",
                )
            await link_rows.add(work.tx, link)
            await self._record_link_change(work, link, cases, "link.added", link.created_at)
            if link.kind == DUPLICATE_OF:
                await cases[case_id].set_status("closed")
        return link.seen_from(case_id), True, cases[new.case_id].current

    async def remove(self, origin: WriteOrigin, case_id: str, link_id: str, expected: ExpectedVersions = None) -> int:
        """Remove a link, and return the new version of the case.

        A duplicate that the link closed gets its former status back, unless it has left `closed` since.

        Raises NotFound and VersionConflict.
        """
        link = await link_rows.find(self._database, link_id)
        ends = (link.case_id, link.other_case_id) if link else ()
        ids = (case_id, *(each for each in ends if each != case_id)) if case_id in ends else (case_id,)
        async with unit_of_work(self._database, origin, *contended_rows_of(*ids)) as work:
            cases = await self._lock_cases(work, ids, expected)
            # What the deletion returns is current: the duplicate may have been opened before it was locked.
            link = await link_rows.remove(work.tx, link_id) if case_id in ends else None
            if link is None:
                raise problem("link_not_found", f"There is no link {link_id[:64]!r} of this case.")
            at = time_after(max(case.current.updated_at for case in cases.values()))
            await self._record_link_change(work, link, cases, "link.removed", at)
            former, duplicate = link.previous_status, cases[link.case_id]
            if former and former != "closed" and duplicate.current.status == "closed":
                status = {"status": former, "snoozed_until": link.previous_snoozed_until}
                await duplicate.change_fields(status, any_status=True)
        return cases[case_id].current.version

    async def _lock_cases(self, work: UnitOfWork, case_ids: Sequence[str], expected: ExpectedVersions) -> LockedCases:
        """Lock cases that the principal must see, the first of them at an expected version; return them in this order.

        Raises NotFound and VersionConflict.
        """
        cases = await link_rows.lock_cases(work.tx, case_ids)
        for case_id in case_ids:
            if case_id not in cases or not work.origin.principal.may_see(cases[case_id]):
                raise case_not_found(case_id)
        check_version(cases[case_ids[0]].version, expected)
        return {case_id: LockedCase(work, self._recorder, cases[case_id]) for case_id in case_ids}

    async def _record_link_change(
        self,
        work: UnitOfWork,
        link: StoredLink,
        cases: LockedCases,
        action: Literal["link.added", "link.removed"],
        at: datetime,
    ) -> None:
        """Give both cases a new version, an event and an audit entry."""
        first, second = cases[link.case_id].current, cases[link.other_case_id].current
        # As the projections show it to customers.
        public = link.kind in PUBLIC_LINK_KINDS and first.customer_id == second.customer_id is not None
        await link_rows.increment_versions(work.tx, cases, at, public=public)
        await self._recorder.record_link_change(work, link, cases, action, at, public=public)
        for case in cases.values():
            case.current = case.current.model_copy(update={"updated_at": at, "version": case.current.version + 1})


def contended_rows_of(*case_ids: str) -> list[ContendedRow]:
    """Return the contended rows of cases in a fixed order, so that transactions do not wait for each other."""
    return [ContendedRow(case_id) for case_id in sorted(filter(is_valid_id, case_ids))]


def _to_stored_link(new: NewLink, case: CaseSummary, other: CaseSummary) -> StoredLink:
    link = StoredLink.new(case.id, new.kind, other.id, time_after(max(case.updated_at, other.updated_at)))
    if new.kind != DUPLICATE_OF:
        return link
    return link._replace(previous_status=case.status, previous_snoozed_until=case.snoozed_until)


async def restore_links(tx: Transaction, imported: Mapping[str, Sequence[StoredLink]]) -> None:
    """Add the links of imported cases, as far as both cases exist, and what was linked since allows it.

    The cases that these are then linked with get their next versions. No audit entry or event tells of it.
    """
    links = [link for each in imported.values() for link in each]
    if not links:
        return
    await link_rows.lock_directed_links(tx)
    cases = await link_rows.lock_cases(tx, {each for link in links for each in (link.case_id, link.other_case_id)})
    for link in links:
        ends = (link.case_id, link.other_case_id)
        if not cases.keys() >= {*ends}:
            continue
        present = await link_rows.find_by_cases(tx, ends)
        if any(each.is_same(link) for each in present) or await link_rows.would_close_cycle(tx, link):
            continue
        with suppress_codes("already_duplicate", "too_many_links"):
            _check_link_limits(link, present)
            await link_rows.add(tx, link)
    await link_rows.increment_versions_of_linked_cases(tx, imported)


def _check_link_limits(link: StoredLink, present: Sequence[StoredLink]) -> None:
    """Raise Conflict if a case would be a duplicate of two cases, or would have too many links."""
    if link.kind == DUPLICATE_OF and any(
        each.kind == DUPLICATE_OF and each.case_id == link.case_id for each in present
    ):
        raise problem("already_duplicate", "The case is a duplicate of another case; remove that link first.")
    check_number_of_links(present, (link.case_id, link.other_case_id))


def check_number_of_links(present: Sequence[StoredLink], case_ids: Sequence[str]) -> None:
    """Raise Conflict if one of the cases may have no further link."""
    numbers = Counter(case_id for each in present for case_id in (each.case_id, each.other_case_id))
    for case_id in case_ids:
        if numbers[case_id] >= MAX_LINKS:
            raise problem("too_many_links", f"The case {case_id!r} has {MAX_LINKS} links; remove one first.")
