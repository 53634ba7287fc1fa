"""Faults of monitoring itself: the probe, and the scrapes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.drill import EVALUATION
from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.fault import PROBE, fault
from tests.e2e.drill.faults.events import consumer_may_not_read
from tests.e2e.drill.injection import repeatedly
from tests.e2e.drill.runbook_checks import Cause

UNUSED_ADDRESS = "127.0.0.1:9"  # the port that discards; nothing listens there


@asynccontextmanager
async def probe_stops(deployment: Deployment) -> AsyncIterator[None]:
    deployment.probe.kill()
    yield
    await deployment.probe.start()


@asynccontextmanager
async def scrapes_are_blocked(deployment: Deployment) -> AsyncIterator[None]:
    await deployment.monitoring.scrape("support-service", [UNUSED_ADDRESS])
    yield
    await deployment.monitoring.scrape("support-service", deployment.targets)


@asynccontextmanager
async def probe_fails_at_times(deployment: Deployment) -> AsyncIterator[None]:
    """The consumer may not read for four minutes of six: a run that fails takes longer than the interval of runs."""

    async def refuse_for_a_while() -> None:
        async with consumer_may_not_read(deployment):
            await asyncio.sleep(4 * EVALUATION)

    async with repeatedly(refuse_for_a_while, 2 * EVALUATION):
        yield


FAULTS = (
    fault("scrapes blocked", "SupportMetricsMissing", scrapes_are_blocked, Cause(2, "refused")),
    fault("probe fails", PROBE, consumer_may_not_read, Cause(4, "} [1-9]")),
    fault(
        "probe fails at times",
        "SupportProbeFlapping",
        probe_fails_at_times,
        Cause(1, r'"timeline".*} 0\.'),
    ),
    fault("probe stopped", "SupportProbeMissing", probe_stops, Cause(2, " 0$")),
)
