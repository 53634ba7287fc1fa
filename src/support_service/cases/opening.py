"""Opens the case service and its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support_service.cases.case_files import CaseFileLimits, CaseFiles
from support_service.cases.gauges import CaseGauges, GaugeTimings
from support_service.cases.recorder import CaseRecorder
from support_service.cases.search_repair import SearchRepair, SearchRepairTimings
from support_service.cases.service import CaseLimits, CaseService
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments


@dataclass(frozen=True, slots=True)
class CaseTimings:
    """Intervals and limits of cases."""

    gauges: GaugeTimings = field(default_factory=GaugeTimings)
    search_repair: SearchRepairTimings = field(default_factory=SearchRepairTimings)
    limits: CaseLimits = field(default_factory=CaseLimits)
    files: CaseFileLimits = field(default_factory=CaseFileLimits)


@asynccontextmanager
async def open_cases(
    database: Database,
    instruments: Instruments,
    recorder: CaseRecorder,
    files: CaseFiles,
    timings: CaseTimings,
) -> AsyncIterator[CaseService]:
    """Count open cases and repair the search during a `with` block, and yield the case service."""
    cases = CaseService(database, recorder, timings.limits, files)
    gauges = CaseGauges(database, instruments, timings.gauges)
    await gauges.refresh()
    repair = SearchRepair(database, timings.search_repair)
    counting = run_every(timings.gauges.refresh_interval, gauges.refresh, "Counting open cases")
    repairing = run_every(timings.search_repair.interval, repair.run, "Making missing search documents")
    async with run_in_background(counting, repairing):
        yield cases
