"""Breaches: each is reported once, in the transaction that sets the state of the clock.

A report is an entry in the audit log and an event. An answer that comes too late reports the breach of its clock. A job
finds all other breaches with one indexed query every few seconds, on one replica. A lease elects the replica. The
states of clocks change under the locks of their cases. So a breach is reported once even if two replicas believe to
hold the lease. Breaches that happen while the service is down are reported when it starts, with the time at which they
were due.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.model.published import CASE_SLA_BREACHED
from support_service.cases.sql import case_events, clock_rows
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS, ClockTarget
from support_service.platform.audit import log as audit
from support_service.platform.database import Database
from support_service.platform.database.lease_rows import JobLease
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, UnitOfWork, unit_of_work

LEASE_NAME = "sla"

SLA_BREACHED = InstrumentSpec(
    "support.sla.breached",
    "counter",
    "{clock}",
    "Breaches of service levels that were reported, by target",
    {"target": CLOCK_TARGETS},
)


class Breach(NamedTuple):
    """A clock that was due before what it measures had happened, and the time of the report.

    `public` if customers see the clock.
    """

    case_id: str
    target: ClockTarget
    due_at: datetime
    at: datetime
    public: bool


async def record_breaches(work: UnitOfWork, instruments: Instruments, breaches: Sequence[Breach]) -> None:
    """Store the entries and the events of breaches; they are counted after the commit.

    The breaches of a case are reported in the order of their due times. The database returns clocks in no order.
    """
    if not breaches:
        return
    breaches = sorted(breaches, key=lambda each: (each.case_id, each.due_at, CLOCK_TARGETS.index(each.target)))
    # The actor is the system, also if an agent's late answer shows the breach.
    system = UnitOfWork(work.tx, SYSTEM_ORIGIN)
    entries = [
        (each.case_id, each.at, {"target": (None, each.target), "dueAt": (None, each.due_at)}) for each in breaches
    ]
    await audit.record_all(system, "sla.breached", entries)
    events = [(each.case_id, each.at, _breach_event_data(each)) for each in breaches]
    await case_events.append_all(work.tx, CASE_SLA_BREACHED, events)
    numbers = Counter(each.target for each in breaches)
    work.after_commit(partial(_count_breaches, instruments, numbers))


def _breach_event_data(breach: Breach) -> dict[str, Any]:
    visibility = "public" if breach.public else "internal"
    return {"target": breach.target, "dueAt": breach.due_at, "visibility": visibility}


def _count_breaches(instruments: Instruments, numbers: Counter[ClockTarget]) -> None:
    for target, number in numbers.items():
        instruments.add(SLA_BREACHED, number, {"target": target})


INTERVAL = 1.5  # seconds; a breach waits at most so long, or for a lost lease
LEASE_DURATION = 3.0  # seconds
MAX_CLOCK_SKEW = 60.0  # a lease that ends later than this allows was taken by a replica with a wrong clock
BATCH_SIZE = 200  # clocks per transaction


class BreachDetector:
    """Reports the clocks whose time is up."""

    def __init__(self, database: Database, policies: KnownPolicies, instruments: Instruments) -> None:
        self._database = database
        self._policies = policies
        self._instruments = instruments
        self._lease = JobLease(database, LEASE_NAME, LEASE_DURATION, MAX_CLOCK_SKEW)

    async def run(self) -> None:
        """Report all clocks that are due, if this replica holds the lease. Without any policy nothing is read."""
        if not self._policies.is_used or not await self._lease.take():
            return
        while due := await clock_rows.read_cases_due(self._database, utc_now(), BATCH_SIZE):
            reported = await self._report_due_clocks_of(list(dict.fromkeys(due)))
            if not reported or len(due) < BATCH_SIZE:
                return

    async def close(self) -> None:
        """Release the lease, so that another replica goes on at once."""
        await self._lease.release()

    async def _report_due_clocks_of(self, case_ids: Sequence[str]) -> int:
        """Report the due clocks of cases that no other transaction changes now; return their number."""
        async with unit_of_work(self._database, SYSTEM_ORIGIN) as work:
            locked = {row.id: time_after(row.latest) for row in await clock_rows.lock_cases(work.tx, case_ids)}
            if not locked:
                return 0
            rows = sorted(
                await clock_rows.set_due_breached(work.tx, list(locked), utc_now()), key=lambda row: row.case_id
            )
            for is_public in (True, False):
                changed = [key for key, _ in groupby(row.case_id for row in rows if row.public == is_public)]
                await clock_rows.increment_versions(
                    work.tx, [(each, locked[each]) for each in changed], public=is_public
                )
            found = [Breach(row.case_id, row.target, row.due_at, locked[row.case_id], row.public) for row in rows]
            await record_breaches(work, self._instruments, found)
        return len(found)
