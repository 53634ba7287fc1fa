"""Gauges of clocks: how many run, how long the oldest is overdue, and how long a breach waits for its report.

Every replica reads them, so that they tell if the job that reports breaches stands still.
"""

from dataclasses import dataclass
from time import monotonic

from support_service.cases.clocks import clock_counts
from support_service.cases.clocks.clock_counts import ClockCounts, OldestClocks
from support_service.core.clock import age_in_seconds
from support_service.core.domain.case_vocabulary import TARGETS
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations

SLA_RUNNING = InstrumentSpec(
    "support.sla.running",
    "gauge",
    "{clock}",
    "Running clocks of cases in the database, without breached ones",
    {"target": TARGETS},
)
SLA_OLDEST_OVERDUE = InstrumentSpec(
    "support.sla.oldest_overdue",
    "gauge",
    "s",
    "Time since the due time of the longest overdue clock that runs on; 0 if there is none",
    {"target": TARGETS},
)
SLA_UNREPORTED_AGE = InstrumentSpec(
    "support.sla.unreported_age",
    "gauge",
    "s",
    "Time since the first due time of a clock whose breach is not reported yet; 0 if there is none",
)


@dataclass(frozen=True, slots=True)
class SlaGaugeTimings:
    """Times of the gauges in seconds."""

    refresh_interval: float = 5.0
    max_age: float = 60.0  # values are published for so long while they can't be refreshed
    fold_from: int = 1000  # rows of counts; SQLite never has so many


class SlaGauges:
    """Reads the clocks and publishes what it read, unless it is too old."""

    def __init__(
        self, database: Database, instruments: Instruments, timings: SlaGaugeTimings = SlaGaugeTimings()
    ) -> None:
        self._database = database
        self._timings = timings
        self._refreshed_at: float | None = None
        self._counts = ClockCounts({}, 0)
        self._oldest = OldestClocks({}, None)
        instruments.observe(SLA_RUNNING, self._running)
        instruments.observe(SLA_OLDEST_OVERDUE, self._overdue)
        instruments.observe(SLA_UNREPORTED_AGE, self._unreported)

    async def refresh(self) -> None:
        """Read the number of running clocks and the oldest ones, and fold the rows of the number if they are many."""
        self._counts = await clock_counts.read(self._database)
        self._oldest = await clock_counts.oldest(self._database)
        self._refreshed_at = monotonic()
        if self._counts.stored_rows >= self._timings.fold_from:
            await clock_counts.fold(self._database)

    def _is_recent(self) -> bool:
        return self._refreshed_at is not None and monotonic() - self._refreshed_at < self._timings.max_age

    def _running(self) -> Observations:
        if not self._is_recent():
            return []
        return [(self._counts.running.get(target, 0), {"target": target}) for target in TARGETS]

    def _overdue(self) -> Observations:
        if not self._is_recent():
            return []
        return [(age_in_seconds(self._oldest.overdue.get(target)), {"target": target}) for target in TARGETS]

    def _unreported(self) -> Observations:
        return [(age_in_seconds(self._oldest.first_due), {})] if self._is_recent() else []
