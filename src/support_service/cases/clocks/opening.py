"""Opens the service levels: the clocks of cases, and the job that reports breaches."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from support_service.cases.clocks.breaches import BreachDetector, DetectorTimings
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.gauges import ClockGauges, GaugeTimings
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlaTimings:
    """Intervals and limits of service levels."""

    policy_refresh_interval: float = 2.0  # seconds until a policy that another replica has changed applies here
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
            run_every(timings.policy_refresh_interval, policies.refresh, "Reading service level policies"),
            run_every(timings.detector.interval, detector.run, "Reporting breaches of service levels", first=0),
            run_every(timings.gauges.refresh_interval, gauges.refresh, "Reading the clocks of cases"),
        ):
            yield ClockTracker(policies, instruments)
    finally:
        try:
            await detector.close()
        except Exception as error:  # noqa: BLE001 - a shutdown must not fail
            log.warning("The lease of the breach detector was not released: %r", error)
