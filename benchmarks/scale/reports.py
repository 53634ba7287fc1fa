"""Counters of reports for loaded cases, as if each case had been opened, answered and solved by requests."""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from benchmarks.scale import rows
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import report_counts
from support_service.reports.counters import add_to_counters
from support_service.reports.measures import Occurrence, counters_of, day_number

NEWEST = sa.select(sa.func.max(report_counts.c.day).label("day")).where(
    report_counts.c.grain == "", report_counts.c.span == 1
)
BATCH = 20_000  # cases in one transaction: each counter of a day is changed about twice


async def fill_reports(url: str, count: int, progress: Callable[[str, int, int], None]) -> None:
    """Add the occurrences of `count` cases to the counters, unless these have the last case: again from the start."""
    database = create_database(url)
    await database.open()
    try:
        (row,) = await database.fetch_all(NEWEST)
        if (row.day or 0) >= day_number(rows.case(count, count)["created_at"].date()):
            return
        await database.execute(report_counts.delete())
        for start in range(1, count + 1, BATCH):
            batch = range(start, min(start + BATCH, count + 1))
            found = counters_of(each for seq in batch for each in _occurrences(rows.case(seq, count)))
            async with database.transaction() as tx:
                await add_to_counters(tx, found)
            progress("counters of reports", batch.stop - 1, count)
    finally:
        await database.close()


def _occurrences(case: dict[str, Any]) -> Iterator[Occurrence]:
    owner = (case["team"] or "", case["assigned_agent_id"] or "", case["channel"])
    opened = case["created_at"]
    yield Occurrence("opened", opened, opened, *owner)
    # Not all after the same time, as in the rows of the cases.
    yield Occurrence("answered", opened + (case["updated_at"] - opened) / 7, opened, *owner)
    if case["status"] not in ACTIVE_STATUSES:
        yield Occurrence("solved", case["updated_at"], opened, *owner)
