"""Snoozes: a pending case becomes open at a time that an agent chose, exactly once.

A job looks every second or two whether the first snooze has ended: one entry of an index, whatever the number of cases.
Then it opens the cases that are due, as a change of the status by the system: with its audit entry, event and clocks.
A lease lets one replica do so at a time. The cases are locked and their snoozes are read under the lock. So a case is
opened once even if two replicas believe to hold the lease, and if one is killed at any moment. Snoozes that end while
the service is down end when it starts.

A customer's message ends a snooze too, in its own transaction: see `CaseService.add_message`.
"""

from datetime import datetime

import sqlalchemy as sa

from support_service.cases.model.case import CaseSummary
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql.projections import IS_SNOOZED, LOCKED_CASE_JSON
from support_service.core.clock import utc_now
from support_service.platform.database import Database, RowReader
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.lease_rows import JobLease
from support_service.platform.database.tables import tickets
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work

SNOOZE_WOKEN = InstrumentSpec(
    "support.snooze.woken", "counter", "{ticket}", "Snoozed cases that the service opened when their time had come"
)
_UNTIL = tickets.c.snoozed_until
FIRST_END = sa.select(_UNTIL).where(*IS_SNOOZED).order_by(_UNTIL, tickets.c.seq).limit(sa.literal_column("1"))
# A case that another transaction changes now is left for the next run.
LOCK_DUE = (
    sa.select(LOCKED_CASE_JSON.label("document"))
    .where(*IS_SNOOZED, sa.bindparam("now", type_=UtcDateTime()) >= _UNTIL)
    .order_by(_UNTIL, tickets.c.seq)
    .limit(sa.bindparam("count"))
    .with_for_update(skip_locked=True)
)


async def read_first_end(reader: RowReader) -> datetime | None:
    """Return when the first snooze of all cases ends, or None without one."""
    row = await reader.fetch_now(FIRST_END)
    return row.snoozed_until if row else None


INTERVAL = 1.5  # seconds; a case is opened at most so late, or a lost lease more
LEASE_DURATION = 3.0  # seconds
MAX_CLOCK_SKEW = 60.0  # a lease that ends later than this allows was taken by a replica with a wrong clock
BATCH_SIZE = 50  # cases per transaction


class SnoozeWaker:
    """Opens the cases whose snooze has ended."""

    def __init__(self, database: Database, recorder: CaseRecorder, instruments: Instruments) -> None:
        self._database = database
        self._recorder = recorder
        self._instruments = instruments
        self._lease = JobLease(database, "snoozes", LEASE_DURATION, MAX_CLOCK_SKEW)

    async def run(self) -> None:
        """Open all cases that are due, if this replica gets the lease. Without a due case nothing is written."""
        while (end := await read_first_end(self._database)) and end <= utc_now() and await self._lease.take():
            if not await self._wake_due():
                return

    async def close(self) -> None:
        """Release the lease, so that another replica goes on at once."""
        await self._lease.release()

    async def _wake_due(self) -> int:
        """Open the cases that are due and that no other transaction changes now, a batch at most; return the number."""
        async with unit_of_work(self._database, SYSTEM_ORIGIN) as work:
            rows = await work.tx.fetch_all(LOCK_DUE, {"now": utc_now(), "count": BATCH_SIZE})
            for row in rows:
                case = CaseSummary.model_validate_json(row.document)
                await LockedCase(work, self._recorder, case).set_status("open")
            if rows:
                work.after_commit(lambda: self._instruments.add(SNOOZE_WOKEN, len(rows)))
        return len(rows)
