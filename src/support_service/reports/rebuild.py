"""Counting of what happened before the migration that made reports, from the cases and the audit log.

Cases are read a few hundred at a time, in the order of their opening. Each batch is one transaction, which also notes
how far it came: a rebuild that was interrupted goes on there, and nothing is counted twice. What the triggers count is
left out by the number of its entry in the audit log. Deleted cases are not found. Some changes were removed by an
erasure, or are in detached segments: of their cases the opening and the first answer count.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import pydantic_core
import sqlalchemy as sa

from support_service.cases.sql.projections import IS_SYNTHETIC
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.core.errors import problem
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, Row, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.tables import audit_log, report_state, tickets
from support_service.platform.telemetry.instruments import known_or_other
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
from support_service.reports.counters import add_to_counters
from support_service.reports.measures import Occurrence, counters_of

BATCH_CASES = 500  # in one transaction, which on SQLite blocks all other writers
Changes = Mapping[str, Sequence[Any]]  # of an entry: before and after, by field
ACTIONS = ("case.opened", "case.imported", "case.changed", "case.closed", "case.reopened", "sla.breached")
_T, _L, _S = tickets.c, audit_log.c, report_state.c
READ_STATE = sa.select(report_state)
READ_CASES = (
    sa.select(
        *(_T[name] for name in ("seq", "id", "channel", "status", "team", "assigned_agent_id")),
        *(_T.created_at, _T.answered_at, IS_SYNTHETIC.label("synthetic")),
    )
    .where(_T.seq > sa.bindparam("after"), _T.seq <= sa.bindparam("last"))
    .order_by(_T.seq)
    .limit(sa.bindparam("count"))
)
READ_ENTRIES = (
    sa.select(_L.seq, _L.at, _L.action, _L.case_id, _L.changes)
    .join(tickets, _T.id == _L.case_id)
    .where(
        _T.seq.between(sa.bindparam("first"), sa.bindparam("last")),
        sa.or_(_L.action.in_(ACTIONS), sa.and_(_L.action == "message.added", _L.at == _T.answered_at)),
    )
    .order_by(_L.seq)
)
# Only one of two rebuilds at once goes on: the other finds that the position has changed.
ADVANCE = (
    report_state.update()
    .where(_S.rebuilding_from == sa.bindparam("start", type_=UtcDateTime()), _S.position == sa.bindparam("before"))
    .values(position=sa.bindparam("reached"))
)
BEGIN = (
    report_state.update()
    .where(_S.rebuilding_from.is_(None))
    .values(rebuilding_from=sa.bindparam("start", type_=UtcDateTime()), position=0)
)
END = report_state.update().values(rebuilt_from=_S.rebuilding_from, rebuilding_from=None, position=0)
# Triggers may have made the row already. Then it has the time of the last solution, if the case is solved.
ADD_RESULT = sa.text("""
    INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (:id, :solved_at, :reopened, :breaches)
    ON CONFLICT (case_id) DO UPDATE
    SET reopened = case_results.reopened + excluded.reopened, breaches = case_results.breaches + excluded.breaches
""").bindparams(sa.bindparam("solved_at", type_=UtcDateTime()))


@dataclass(slots=True)
class RebuildTotals:
    """How many cases were read, and how many occurrences counted."""

    cases: int = 0
    occurrences: int = 0


class ReportRebuild:
    """Counts what happened from a time on until the triggers, or until what an earlier rebuild has counted."""

    def __init__(self, database: Database, channels: Collection[str]) -> None:
        self._database = database
        self._channels = channels
        self.totals = RebuildTotals()

    async def begin(self, start: datetime) -> int:
        """Begin, or continue, and return the number of the cases that remain: 0 if all is counted.

        Raises Conflict if a rebuild from another time was interrupted.
        """
        state = await self._read_state()
        if state.rebuilding_from not in (None, start):
            raise problem(
                "report_rebuild_unfinished",
                f"A rebuild from {state.rebuilding_from:%Y-%m-%d} was interrupted: end it with the same --from first",
            )
        if state.since is None or (state.rebuilt_from is not None and state.rebuilt_from <= start):
            return 0
        if state.rebuilding_from is None:
            await self._database.execute(BEGIN, {"start": start})
        return int(state.last_case - state.position)

    async def run(self, origin: WriteOrigin, advance: Callable[[int], None] = lambda _: None) -> None:
        """Count, after `begin`. `advance` is called with the number of cases of each batch. Raises Conflict."""
        state = await self._read_state()
        while await self._count_batch(state, advance):
            state = await self._read_state()
        async with unit_of_work(self._database, origin) as work:
            await self._advance(work.tx, state, state.position)
            await work.tx.execute(END)
            changes = {
                "from": (None, state.rebuilding_from),
                "until": (None, state.rebuilt_from or state.since),
                "cases": (None, self.totals.cases),
            }
            await audit.record(work, None, "reports.rebuilt", utc_now(), changes)

    async def _read_state(self) -> Row:
        (state,) = await self._database.fetch_all(READ_STATE)
        return state

    async def _count_batch(self, state: Row, advance: Callable[[int], None]) -> bool:
        """Count one batch of cases; return False if there is none."""
        limits = {"after": state.position, "last": state.last_case, "count": BATCH_CASES}
        cases = await self._database.fetch_all(READ_CASES, limits)
        if not cases:
            return False
        entries = defaultdict(list)
        for entry in await self._database.fetch_all(READ_ENTRIES, {"first": cases[0].seq, "last": cases[-1].seq}):
            entries[entry.case_id].append(entry)
        told = {
            case.id: _CaseHistory(case, known_or_other(case.channel, self._channels)).tell(entries[case.id], state)
            for case in cases
            if not case.synthetic
        }
        found = [
            each
            for history in told.values()
            for each in history.occurrences
            if state.rebuilding_from <= each.at and (state.rebuilt_from is None or each.at < state.rebuilt_from)
        ]
        async with self._database.transaction() as tx:
            await self._advance(tx, state, cases[-1].seq)
            await add_to_counters(tx, counters_of(found))
            if state.rebuilt_from is None:  # else an earlier rebuild has added them
                await _add_results(tx, told)
        self.totals.cases += len(cases)
        self.totals.occurrences += len(found)
        advance(cases[-1].seq - state.position)
        return True

    @staticmethod
    async def _advance(tx: Transaction, state: Row, reached: int) -> None:
        position = {"start": state.rebuilding_from, "before": state.position, "reached": reached}
        if not await tx.execute(ADVANCE, position):
            raise problem("report_rebuild_unfinished", "Another rebuild runs: wait for its end")


class _CaseHistory:
    """What happened to a case, told from its newest entry back to its opening."""

    def __init__(self, case: Row, channel: str) -> None:
        self._case = case
        self._channel = channel
        self._owner = {"team": case.team, "assignedAgentId": case.assigned_agent_id}  # after the entry that is told
        self.occurrences: list[Occurrence] = []
        self.solved_at: datetime | None = None
        self.reopened = self.breaches = 0

    def tell(self, entries: Sequence[Row], state: Row) -> Self:
        """Tell the entries, oldest first, and return the history."""
        imported_at = next((entry.at for entry in entries if entry.action == "case.imported"), None)
        answered_at = _answered_before_triggers(self._case, entries, state, imported_at)
        for entry in reversed(entries):
            if answered_at is not None and answered_at >= entry.at:
                self._occur("answered", answered_at)
                answered_at = None
            changes = pydantic_core.from_json(entry.changes) if entry.changes else {}
            self._tell_entry(entry, changes, is_counted=entry.seq <= state.last_entry)
            if entry.action not in ("case.opened", "case.imported"):
                self._owner |= {name: changes[name][0] for name in self._owner if name in changes}
        if answered_at is not None:
            self._occur("answered", answered_at)
        if imported_at is None:
            self._occur("opened", self._case.created_at)
        return self

    def _tell_entry(self, entry: Row, changes: Changes, *, is_counted: bool) -> None:
        measure = _status_measure(changes)
        if measure == "solved" and self.solved_at is None and self._case.status not in ACTIVE_STATUSES:
            self.solved_at = entry.at
        if is_counted and measure is not None:
            self._occur(measure, entry.at)
            self.reopened += measure == "reopened"
        if is_counted and entry.action == "sla.breached":
            self.breaches += 1
            if changes:
                due_at = datetime.fromisoformat(changes["dueAt"][1])
                self._occur(changes["target"][1], due_at, due_at)

    def _occur(self, measure: str, at: datetime, since: datetime | None = None) -> None:
        team, agent = (value or "" for value in self._owner.values())
        self.occurrences.append(Occurrence(measure, at, since or self._case.created_at, team, agent, self._channel))


async def _add_results(tx: Transaction, told: Mapping[str, _CaseHistory]) -> None:
    rows = [
        {"id": case_id, "solved_at": history.solved_at, "reopened": history.reopened, "breaches": history.breaches}
        for case_id, history in told.items()
        if history.solved_at or history.reopened or history.breaches
    ]
    if rows:
        await tx.execute(ADD_RESULT, rows)


def _answered_before_triggers(
    case: Row, entries: Sequence[Row], state: Row, imported_at: datetime | None
) -> datetime | None:
    """Return the time of the first answer, or None if there is none that a rebuild counts."""
    at = case.answered_at
    if at is None or at <= case.created_at or (imported_at is not None and at < imported_at):
        return None
    found = next((entry.seq for entry in entries if entry.action == "message.added"), None)
    is_before = at < state.since if found is None else found <= state.last_entry
    return at if is_before else None


def _status_measure(changes: Changes) -> str | None:
    """Return what a change of the status counts as, or None."""
    before, after = changes.get("status", (None, None))
    if before is None or (before in ACTIVE_STATUSES) == (after in ACTIVE_STATUSES):
        return None
    return "reopened" if after in ACTIVE_STATUSES else "solved"
