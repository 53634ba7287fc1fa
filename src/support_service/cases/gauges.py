"""Gauges of the cases that are being worked on: their number, and the age of the oldest unanswered message."""

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import NamedTuple

import sqlalchemy as sa

from support_service.cases.sql.conditions import IS_ACTIVE, IS_SYNTHETIC
from support_service.core.clock import age_in_seconds
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, PRIORITIES
from support_service.platform.database import Database, Reader
from support_service.platform.database.tables import case_counts, tickets
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations

_KEY = (case_counts.c.status, case_counts.c.priority)
COUNTS = sa.select(
    *_KEY,
    sa.cast(sa.func.sum(case_counts.c.number), sa.BigInteger).label("number"),
    sa.func.count().label("stored_rows"),
).group_by(*_KEY)
# For PostgreSQL only. Locked rows are those that another replica folds now. Nothing updates a row, so its ctid stays.
FOLD = sa.text("""
    WITH taken AS (
        DELETE FROM case_counts
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM case_counts LIMIT 50000 FOR UPDATE SKIP LOCKED))
        RETURNING status, priority, number
    )
    INSERT INTO case_counts (status, priority, number)
    SELECT status, priority, sum(number) FROM taken GROUP BY status, priority HAVING sum(number) <> 0
""")


# The first entry of the index of waiting customers, which has the cases of both active statuses.
OLDEST_WAITING = (
    sa.select(tickets.c.waiting_since)
    .where(tickets.c.waiting_since.is_not(None), IS_ACTIVE, sa.not_(IS_SYNTHETIC))
    .order_by(tickets.c.waiting_since, tickets.c.seq)
    .limit(sa.literal_column("1"))
)

TICKET_OPEN = InstrumentSpec(
    "support.ticket.open",
    "gauge",
    "{ticket}",
    "Open and pending cases in the database",
    {"status": ACTIVE_STATUSES, "priority": PRIORITIES},
)
TICKET_OLDEST_UNANSWERED = InstrumentSpec(
    "support.ticket.oldest_unanswered",
    "gauge",
    "s",
    "Age of the oldest customer message without an agent's answer, in open and pending cases; 0 if there is none",
)


class CaseCounts(NamedTuple):
    """The number of cases by (status, priority), and of the rows that say so."""

    cases: dict[tuple[str, str], int]
    stored_rows: int


async def read_counts(reader: Reader) -> CaseCounts:
    """Return the number of cases that are not synthetic."""
    rows = await reader.fetch_all(COUNTS)
    return CaseCounts({(row.status, row.priority): row.number for row in rows}, sum(row.stored_rows for row in rows))


async def fold_counts(database: Database) -> None:
    """Replace rows of the same status and priority by their sum. Any number of replicas may do so at once."""
    async with database.transaction() as tx:
        await tx.execute(FOLD)


async def oldest_waiting(reader: Reader) -> datetime | None:
    """Return since when the longest waiting customer of an unsettled case waits, or None if no customer waits."""
    row = await reader.fetch_one(OLDEST_WAITING)
    return row.waiting_since if row else None


@dataclass(frozen=True, slots=True)
class GaugeTimings:
    """Times of the gauges in seconds."""

    refresh_interval: float = 15.0
    max_age: float = 60.0  # a count is published for so long while it can't be refreshed
    fold_from: int = 1000  # rows of counts; SQLite never has so many


class CaseGauges:
    """Reads the number of unsettled cases from the database and publishes it, unless it is too old."""

    def __init__(self, database: Database, instruments: Instruments, timings: GaugeTimings = GaugeTimings()) -> None:
        self._database = database
        self._timings = timings
        self._refreshed_at: float | None = None
        self._open: dict[tuple[str, str], int] = {}
        self._waiting_since: datetime | None = None
        instruments.observe(TICKET_OPEN, self._open_cases)
        instruments.observe(TICKET_OLDEST_UNANSWERED, self._oldest_unanswered)

    async def refresh(self) -> None:
        """Read the number of cases, and fold the rows that say so if they are many."""
        self._open, stored_rows = await read_counts(self._database)
        self._waiting_since = await oldest_waiting(self._database)
        self._refreshed_at = monotonic()
        if stored_rows >= self._timings.fold_from:
            await fold_counts(self._database)

    def _is_recent(self) -> bool:
        """Return whether the last count is recent enough to publish; it is not during a database outage."""
        return self._refreshed_at is not None and monotonic() - self._refreshed_at < self._timings.max_age

    def _open_cases(self) -> Observations:
        if not self._is_recent():
            return []
        return [(self._open.get((series["status"], series["priority"]), 0), series) for series in TICKET_OPEN.series()]

    def _oldest_unanswered(self) -> Observations:
        if not self._is_recent():
            return []
        return [(age_in_seconds(self._waiting_since), {})]
