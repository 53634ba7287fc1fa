"""Opens the service levels, the case service, and their jobs."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support_service.cases.case_files import CaseFileLimits, CaseFiles
from support_service.cases.clocks.breaches import BreachDetector, DetectorTimings
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.gauges import CaseGauges, ClockGauges, GaugeTimings
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseLimits, CaseService
from support_service.cases.snoozes import SnoozeWaker, WakerTimings
from support_service.platform.background import Job, run_in_background
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments

log = logging.getLogger(__name__)


POLICY_REFRESH_INTERVAL = 2.0  # seconds until a policy that another replica has changed applies here


@dataclass(frozen=True, slots=True)
class SlaTimings:
    """Intervals and limits of service levels."""

    detector: DetectorTimings = field(default_factory=DetectorTimings)
    gauges: GaugeTimings = field(default_factory=lambda: GaugeTimings(refresh_interval=5.0))


@asynccontextmanager
async def open_clocks(database: Database, instruments: Instruments, timings: SlaTimings) -> AsyncIterator[ClockTracker]:
    """Follow the policies and report breaches during a `with` block, at first at its start."""
    policies = KnownPolicies(database)
    await policies.refresh()
    detector = BreachDetector(database, policies, instruments, timings.detector)
    gauges = ClockGauges(database, instruments, timings.gauges)
    await gauges.refresh()
    try:
        async with run_in_background(
            Job("Reading service level policies", POLICY_REFRESH_INTERVAL, policies.refresh),
            Job("Reporting breaches of service levels", timings.detector.interval, detector.run, first=0),
            Job("Reading the clocks of cases", timings.gauges.refresh_interval, gauges.refresh),
        ):
            yield ClockTracker(policies, instruments)
    finally:
        await _release_lease(detector)


@dataclass(frozen=True, slots=True)
class CaseTimings:
    """Intervals and limits of cases."""

    gauges: GaugeTimings = field(default_factory=GaugeTimings)
    waker: WakerTimings = field(default_factory=WakerTimings)
    limits: CaseLimits = field(default_factory=CaseLimits)
    files: CaseFileLimits = field(default_factory=CaseFileLimits)


@asynccontextmanager
async def open_cases(
    database: Database, instruments: Instruments, recorder: CaseRecorder, files: CaseFiles, timings: CaseTimings
) -> AsyncIterator[CaseService]:
    """Count open cases and end snoozes during a `with` block, and yield the case service."""
    cases = CaseService(database, recorder, timings.limits, files)
    gauges = CaseGauges(database, instruments, timings.gauges)
    await gauges.refresh()
    counting = Job("Counting open cases", timings.gauges.refresh_interval, gauges.refresh)
    waker = SnoozeWaker(database, recorder, instruments, timings.waker)
    waking = Job("Opening snoozed cases", timings.waker.interval, waker.run, first=0)
    try:
        async with run_in_background(counting, waking):
            yield cases
    finally:
        await _release_lease(waker)


async def _release_lease(job: BreachDetector | SnoozeWaker) -> None:
    try:
        await job.close()
    except Exception as error:  # noqa: BLE001 - a shutdown must not fail
        log.warning("The lease of %s was not released: %r", type(job).__name__, error)
