"""The service levels component: the clocks of cases, and the job that reports breaches."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiohttp import web

from support_service.cases.clocks.breaches import BreachDetector, DetectorTimings
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.gauges import SlaGauges, SlaGaugeTimings
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.telemetry.component import INSTRUMENTS

CLOCK_TRACKER = web.AppKey("clock_tracker", ClockTracker)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlaTimings:
    """Intervals and limits of the service levels component."""

    policy_refresh_interval: float = 2.0  # seconds until a policy that another replica has changed applies here
    detector: DetectorTimings = field(default_factory=DetectorTimings)
    gauges: SlaGaugeTimings = field(default_factory=SlaGaugeTimings)


def setup(app: web.Application, timings: SlaTimings) -> None:
    """Add the clocks of cases; report breaches in the background, at first at the start."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        database, instruments = app[DATABASE], app[INSTRUMENTS]
        policies = KnownPolicies(database)
        await policies.refresh()
        app[CLOCK_TRACKER] = ClockTracker(policies, instruments)
        detector = BreachDetector(database, policies, instruments, timings.detector)
        gauges = SlaGauges(database, instruments, timings.gauges)
        await gauges.refresh()
        jobs = (
            run_every(timings.policy_refresh_interval, policies.refresh, "Reading service level policies"),
            run_every(timings.detector.interval, detector.run, "Reporting breaches of service levels", first=0),
            run_every(timings.gauges.refresh_interval, gauges.refresh, "Reading the clocks of cases"),
        )
        async with AsyncExitStack() as stack:
            for job in jobs:
                await stack.enter_async_context(run_in_background(job))
            yield
        try:
            await detector.close()
        except Exception as error:  # noqa: BLE001 - a shutdown must not fail
            log.warning("The lease of the breach detector was not released: %r", error)

    app.cleanup_ctx.append(run)
