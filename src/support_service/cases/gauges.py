"""Gauges of the cases that are being worked on: their number, and the age of the oldest unanswered message."""

from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from support_service.cases.store import case_counts
from support_service.core.clock import age_in_seconds
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments, Observations
from support_service.platform.telemetry.instruments.cases import TICKET_OLDEST_UNANSWERED, TICKET_OPEN


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
        self._open, stored_rows = await case_counts.read(self._database)
        self._waiting_since = await case_counts.oldest_waiting(self._database)
        self._refreshed_at = monotonic()
        if stored_rows >= self._timings.fold_from:
            await case_counts.fold(self._database)

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
