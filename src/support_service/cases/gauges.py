"""Gauges of cases and of their clocks: the numbers that triggers keep, and the oldest ones, which indexes find first.

Every replica reads them, so that they tell if the job that reports breaches stands still.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.snoozes import read_first_end
from support_service.cases.sql.projections import IS_ACTIVE, IS_SYNTHETIC
from support_service.core.clock import age_in_seconds
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, CLOCK_TARGETS, PRIORITIES, ClockTarget
from support_service.platform.database import Database, RowReader
from support_service.platform.database.dialect import text_literal
from support_service.platform.database.tables import agent_counts, case_clocks, case_counts, clock_counts, tickets
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, LastReading

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
SNOOZE_OVERDUE_AGE = InstrumentSpec(
    "support.snooze.overdue_age",
    "gauge",
    "s",
    "Time since the end of the first snooze of a case that is still pending; 0 if there is none",
)
SLA_RUNNING = InstrumentSpec(
    "support.sla.running",
    "gauge",
    "{clock}",
    "Running clocks of cases in the database, without breached ones",
    {"target": CLOCK_TARGETS},
)
SLA_OLDEST_OVERDUE = InstrumentSpec(
    "support.sla.oldest_overdue",
    "gauge",
    "s",
    "Time since the due time of the longest overdue clock that runs on; 0 if there is none",
    {"target": CLOCK_TARGETS},
)
SLA_UNREPORTED_AGE = InstrumentSpec(
    "support.sla.unreported_age",
    "gauge",
    "s",
    "Time since the first due time of a clock whose breach is not reported yet; 0 if there is none",
)


class StoredCounts(NamedTuple):
    """Numbers by their key, and the number of the rows that say so."""

    numbers: Mapping[tuple[str, ...], int]
    stored_rows: int


class CountTable:
    """A table of numbers that triggers keep.

    On PostgreSQL each change adds a row, and `merge_rows` replaces rows by sums.
    """

    def __init__(self, table: sa.Table) -> None:
        key = [column for column in table.c if column.name != "number"]
        self._key = [column.name for column in key]
        self.select = sa.select(
            *key,
            sa.cast(sa.func.sum(table.c.number), sa.BigInteger).label("number"),
            sa.func.count().label("stored_rows"),
        ).group_by(*key)
        names = ", ".join(self._key)
        # Another replica folds the locked rows now. Nothing updates a row, so its ctid stays.
        self._merge_rows = sa.text(f"""
            WITH taken AS (
                DELETE FROM {table.name}
                WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table.name} LIMIT 50000 FOR UPDATE SKIP LOCKED))
                RETURNING {names}, number
            )
            INSERT INTO {table.name} ({names}, number)
            SELECT {names}, sum(number) FROM taken GROUP BY {names} HAVING sum(number) <> 0
        """)  # noqa: S608 - names of this code

    async def read(self, reader: RowReader) -> StoredCounts:
        """Return the numbers."""
        rows = await reader.fetch_all(self.select)
        numbers = {tuple(getattr(row, name) for name in self._key): row.number for row in rows}
        return StoredCounts(numbers, sum(row.stored_rows for row in rows))

    async def read_and_merge(self, database: Database, from_rows: int) -> StoredCounts:
        """Return the numbers. Merge the rows if there are `from_rows` more of them than numbers."""
        counts = await self.read(database)
        if counts.stored_rows - len(counts.numbers) >= from_rows:
            await self.merge_rows(database)
        return counts

    async def merge_rows(self, database: Database) -> None:
        """Replace rows of the same key by their sum. Any number of replicas may do so at once."""
        async with database.transaction() as tx:
            await tx.execute(self._merge_rows)


CASE_COUNTS = CountTable(case_counts)  # by status and priority, of cases that are not synthetic
AGENT_COUNTS = CountTable(agent_counts)  # of open and pending cases, by agent and status
CLOCK_COUNTS = CountTable(clock_counts)  # of running clocks, by target
# The first entry of the index of waiting customers, which has the cases of both active statuses.
OLDEST_WAITING = (
    sa.select(tickets.c.waiting_since)
    .where(tickets.c.waiting_since.is_not(None), IS_ACTIVE, sa.not_(IS_SYNTHETIC))
    .order_by(tickets.c.waiting_since, tickets.c.seq)
    .limit(sa.literal_column("1"))
)
_C = case_clocks.c


def _oldest_due_at(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    return sa.select(_C.due_at).where(*conditions).order_by(_C.due_at).limit(1).scalar_subquery()


OLDEST_CLOCKS = sa.select(
    *(
        _oldest_due_at(
            _C.target == text_literal(target), _C.state == text_literal("breached"), _C.running_since.is_not(None)
        ).label(target)
        for target in CLOCK_TARGETS
    ),
    _oldest_due_at(_C.state == text_literal("running")).label("first_due"),
)


async def read_oldest_waiting_since(reader: RowReader) -> datetime | None:
    """Return since when the longest waiting customer of an unsettled case waits, or None if no customer waits."""
    row = await reader.fetch_now(OLDEST_WAITING)
    return row.waiting_since if row else None


async def read_oldest_due_times(reader: RowReader) -> Mapping[ClockTarget | str, datetime | None]:
    """Return the due time of the longest overdue clock of each target, and `first_due`, the first one that runs."""
    row = await reader.fetch_now(OLDEST_CLOCKS)
    return row._asdict() if row else {}


CASE_REFRESH_INTERVAL, CLOCK_REFRESH_INTERVAL = 15.0, 5.0  # seconds
MAX_AGE = 60.0  # values are published for so long while they can't be refreshed
MERGE_FROM_ROWS = 1000  # rows of counts beyond one for each number; SQLite never has more


class CaseGauges:
    """Reads the number of unsettled cases, and the oldest ones, and publishes what it read, unless it is too old."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._counts = LastReading[StoredCounts](MAX_AGE)
        self._waiting_since = LastReading[tuple[datetime | None]](MAX_AGE)
        self._snooze_end = LastReading[tuple[datetime | None]](MAX_AGE)
        instruments.observe(
            TICKET_OPEN,
            self._counts.observations(
                lambda counts: [
                    (counts.numbers.get((series["status"], series["priority"]), 0), series)
                    for series in TICKET_OPEN.label_combinations()
                ]
            ),
        )
        instruments.observe(
            TICKET_OLDEST_UNANSWERED, self._waiting_since.observations(lambda since: [(age_in_seconds(*since), {})])
        )
        instruments.observe(SNOOZE_OVERDUE_AGE, self._snooze_end.observations(lambda end: [(age_in_seconds(*end), {})]))

    async def refresh(self) -> None:
        """Read the counters. Sum their rows into one for each key if there are many."""
        counts = await CASE_COUNTS.read_and_merge(self._database, MERGE_FROM_ROWS)
        self._waiting_since.store((await read_oldest_waiting_since(self._database),))
        self._snooze_end.store((await read_first_end(self._database),))
        self._counts.store(counts)
        await AGENT_COUNTS.read_and_merge(self._database, MERGE_FROM_ROWS)


class ClockGauges:
    """Reads the clocks and publishes what it read, unless it is too old."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._counts = LastReading[StoredCounts](MAX_AGE)
        self._oldest = LastReading[Mapping[ClockTarget | str, datetime | None]](MAX_AGE)
        instruments.observe(
            SLA_RUNNING,
            self._counts.observations(
                lambda counts: [(counts.numbers.get((target,), 0), {"target": target}) for target in CLOCK_TARGETS]
            ),
        )
        instruments.observe(
            SLA_OLDEST_OVERDUE,
            self._oldest.observations(
                lambda due: [(age_in_seconds(due.get(each)), {"target": each}) for each in CLOCK_TARGETS]
            ),
        )
        instruments.observe(
            SLA_UNREPORTED_AGE, self._oldest.observations(lambda due: [(age_in_seconds(due.get("first_due")), {})])
        )

    async def refresh(self) -> None:
        """Read the counters and the oldest clocks. Sum the rows of the counters if there are many."""
        counts = await CLOCK_COUNTS.read_and_merge(self._database, MERGE_FROM_ROWS)
        self._oldest.store(await read_oldest_due_times(self._database))
        self._counts.store(counts)
