"""The job that finds breaches: one indexed query for a few rows every few seconds, on one replica.

A lease elects the replica. The states of clocks are changed under the locks of their cases, so a breach is reported
once even if two replicas believe to hold the lease. Breaches that happen while the service is down are reported when
it starts, with the time at which they were due.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from support_service.cases.clocks import breaches
from support_service.cases.clocks.breaches import Breach
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.sql import clock_rows
from support_service.core.clock import time_after, utc_now
from support_service.core.ids import new_id
from support_service.platform.database import Database, lease_rows
from support_service.platform.idempotency.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.platform.telemetry.instruments import Instruments

LEASE = "sla"


@dataclass(frozen=True, slots=True)
class DetectorTimings:
    """Intervals in seconds, and the size of batches. A breach waits at most for an interval, or for a lost lease."""

    interval: float = 1.5
    lease_duration: float = 3.0
    max_clock_skew: float = 60.0  # a lease that ends later than this allows was taken by a replica with a wrong clock
    batch_size: int = 200  # clocks per transaction


class BreachDetector:
    """Reports the clocks whose time is up."""

    def __init__(
        self,
        database: Database,
        policies: KnownPolicies,
        instruments: Instruments,
        timings: DetectorTimings = DetectorTimings(),
    ) -> None:
        self._database = database
        self._policies = policies
        self._instruments = instruments
        self._timings = timings
        self._holder = new_id()

    async def run(self) -> None:
        """Report all clocks that are due, if this replica holds the lease. Without any policy nothing is read."""
        if not self._policies.is_used or not await self._hold_lease():
            return
        size = self._timings.batch_size
        while due := await clock_rows.cases_due(self._database, utc_now(), size):
            reported = await self._report(list(dict.fromkeys(due)))
            if not reported or len(due) < size:
                return

    async def close(self) -> None:
        """Release the lease, so that another replica goes on at once."""
        if self._policies.is_used:
            async with self._database.transaction() as tx:
                await lease_rows.release_lease(tx, LEASE, self._holder)

    async def _hold_lease(self) -> bool:
        async with self._database.transaction() as tx:
            fence = await lease_rows.take_lease(
                tx,
                LEASE,
                self._holder,
                now=time.time(),
                duration=self._timings.lease_duration,
                max_clock_skew=self._timings.max_clock_skew,
            )
        return fence is not None

    async def _report(self, case_ids: Sequence[str]) -> int:
        """Report the due clocks of cases that no other transaction changes now; return their number."""
        async with unit_of_work(self._database, SYSTEM_ORIGIN) as work:
            locked = {row.id: time_after(row.latest) for row in await clock_rows.lock_cases(work.tx, case_ids)}
            if not locked:
                return 0
            rows = sorted(await clock_rows.breach(work.tx, list(locked), utc_now()), key=lambda row: row.case_id)
            for is_public in (True, False):
                changed = [key for key, _ in groupby(row.case_id for row in rows if row.public == is_public)]
                await clock_rows.change_cases(work.tx, [(each, locked[each]) for each in changed], public=is_public)
            found = [Breach(row.case_id, row.target, row.due_at, locked[row.case_id], row.public) for row in rows]
            await breaches.report(work, self._instruments, found)
        return len(found)
