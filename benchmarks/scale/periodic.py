"""The time of what replicas read without a request."""

import statistics
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import perf_counter

from benchmarks.scale import calls
from benchmarks.scale.clocks import DUE_FROM, DUE_RANGE
from support_service.cases import gauges
from support_service.cases.clocks.breaches import BATCH_SIZE
from support_service.cases.snoozes import read_first_end
from support_service.cases.sql import clock_rows
from support_service.core.clock import utc_now
from support_service.platform.database import RowReader
from support_service.platform.database.shared import create_database

REPEATS = 40


async def measure_periodic(url: str) -> dict[str, float]:
    """Return the median time in ms of each read of `calls.PERIODIC`."""
    database = create_database(url)
    await database.open()
    try:
        return {call.name: await _median(database, read) for call, read in READS.items()}
    finally:
        await database.close()


async def _median(database: RowReader, read: Callable[[RowReader], Awaitable[object]]) -> float:
    times = []
    for _ in range(REPEATS):
        started = perf_counter()
        await read(database)
        times.append((perf_counter() - started) * 1000)
    return statistics.median(times)


async def _gauges(database: RowReader) -> None:
    await gauges.CASE_COUNTS.read(database)
    await gauges.AGENT_COUNTS.read(database)
    await gauges.read_oldest_waiting_since(database)
    await read_first_end(database)


async def _clock_gauges(database: RowReader) -> None:
    await gauges.CLOCK_COUNTS.read(database)
    await gauges.read_oldest_due_times(database)


async def _due_clocks(database: RowReader, after: timedelta = timedelta(0)) -> None:
    await clock_rows.read_cases_due(database, utc_now() + after, BATCH_SIZE)


async def _many_due_clocks(database: RowReader) -> None:
    await _due_clocks(database, DUE_FROM + DUE_RANGE - utc_now())


READS = {
    calls.GAUGES: _gauges,
    calls.CLOCK_GAUGES: _clock_gauges,
    calls.ENDED_SNOOZES: read_first_end,
    calls.DUE_CLOCKS: _due_clocks,
    calls.MANY_DUE_CLOCKS: _many_due_clocks,
}
