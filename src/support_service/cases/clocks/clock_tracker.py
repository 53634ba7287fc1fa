"""Keeps the clocks of cases in step with their changes, in the transaction of each change."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from support_service.cases.clocks import breaches, case_clocks
from support_service.cases.clocks.breaches import Breach
from support_service.cases.clocks.case_clocks import Clocks, MeasuredClocks, PolicyTerms
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import PolicyVersion
from support_service.cases.model.case import CaseSummary
from support_service.cases.sql import clock_rows
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS, AuthorType
from support_service.platform.database import Transaction
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.platform.unit_of_work import UnitOfWork

SLA_USED_SHARE = InstrumentSpec(
    "support.sla.used_share",
    "histogram",
    "1",
    "Working time until the target was reached, as a share of the allowed time; above 1 it was late",
    {"target": CLOCK_TARGETS},
    (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 5.0),
)


class StartedClocks:
    """The clocks of a case that is being opened."""

    def __init__(self, policy: PolicyVersion, clocks: Clocks) -> None:
        self.policy = policy
        self.clocks = clocks
        self.first_due = clock_rows.first_due(clocks)

    @property
    def measured(self) -> MeasuredClocks:
        """The clocks, as they are shown."""
        return MeasuredClocks(self.clocks, self.policy.terms.calendar)

    async def insert(self, tx: Transaction, case_id: str) -> None:
        """Insert the clocks, after the row of their case."""
        await clock_rows.add(tx, case_id, self.policy, list(self.clocks.values()))


class ClockTracker:
    """Starts, stops and ends the clocks of cases. For a case without a policy no statement is sent."""

    def __init__(self, policies: KnownPolicies, instruments: Instruments) -> None:
        self.policies = policies
        self._instruments = instruments

    def start_clocks(self, case: CaseSummary, at: datetime, first_author: AuthorType | None) -> StartedClocks | None:
        """Return the clocks of a new case, or None if no policy matches it.

        `first_author` wrote its first message, if that is public.
        """
        policy = self.policies.policy_for_new_case(case)
        return policy and StartedClocks(policy, case_clocks.clocks_of_new_case(policy.terms, at, first_author))

    async def note_message(
        self, work: UnitOfWork, case_id: str, policy: int, author: AuthorType, at: datetime, *, is_answered: bool
    ) -> None:
        """Note a public message in a case that has clocks; `is_answered` if an agent has written one before."""
        if author == "agent":
            await self._change_clocks(work, case_id, policy, at, partial(case_clocks.clocks_after_agent_message, at=at))
        elif author == "customer":
            wrote = partial(case_clocks.clocks_after_customer_message, at=at, is_answered=is_answered)
            await self._change_clocks(work, case_id, policy, at, wrote)

    async def note_no_question(self, work: UnitOfWork, case_id: str, policy: int, at: datetime) -> None:
        """Note that no message of the customer waits any more, because a split has moved it: the next response ends."""
        await self._change_clocks(work, case_id, policy, at, partial(case_clocks.clocks_without_question, at=at))

    async def note_status_change(self, work: UnitOfWork, before: CaseSummary, after: CaseSummary) -> None:
        """Note a change of the status of a case, if it has clocks."""
        if after.sla_policy is not None and before.status != after.status:
            at = after.updated_at
            change = partial(case_clocks.clocks_after_status_change, at=at, before=before.status, after=after.status)
            await self._change_clocks(work, after.id, after.sla_policy, at, change)

    async def _change_clocks(
        self,
        work: UnitOfWork,
        case_id: str,
        policy_id: int,
        at: datetime,
        change: Callable[[PolicyTerms, Clocks], Clocks],
    ) -> None:
        policy = await self.policies.read_version(work.tx, policy_id)
        before = await clock_rows.read(work.tx, case_id)
        after = change(policy.terms, before)
        await clock_rows.update_changed(work.tx, case_id, policy, before, after)
        breached = [
            Breach(case_id, target, clock.due_at, at, policy.content.public)
            for target, clock in after.items()
            if clock.state == "breached" and before[target].state != "breached" and clock.due_at
        ]
        await breaches.record_breaches(work, self._instruments, breached)
        for target, clock in after.items():
            if clock.ended_at is not None and before[target].ended_at is None:
                labels = {"target": target}
                work.after_commit(partial(self._instruments.record, SLA_USED_SHARE, clock.used_share, labels))
