"""The short form of the drill, with real Prometheus and Alertmanager; `make drill` runs all faults.

It depends on seconds of real time. So `make test-all` runs it in a process of its own, at a higher priority than the
other tests and at a slower pace than `make drill`.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import pytest
from observability.drill import DrillFault

from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import run_faults
from tests.e2e.drill.runbook_checks import page_of
from tests.support.servers import MissingServer, find_binary

# A dependency that all replicas lack, whose symptoms are inhibited; a state; and a metric that ends.
TOGETHER = ("PostgreSQL down", "Redis may evict", "probe stopped")


def together(*faults: DrillFault) -> DrillFault:
    """Return faults of one scenario, which raise alerts and have causes of their own, as one fault."""

    @asynccontextmanager
    async def inject(deployment: Deployment) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for fault in faults:
                await stack.enter_async_context(fault.inject(deployment))
            yield

    return DrillFault(
        ", ".join(fault.name for fault in faults),
        tuple(alert for fault in faults for alert in fault.alerts),
        inject,
        tuple(replace(cause, page=page_of(cause, fault)) for fault in faults for cause in fault.causes),
        actions=tuple(replace(action, page=page_of(action, fault)) for fault in faults for action in fault.actions),
        resolved_within=max(fault.resolved_within for fault in faults) + len(faults),  # they are repaired in turn
    )


@pytest.fixture(autouse=True)
def _required_programs(processes):
    for program in ("haproxy", "prometheus", "promtool", "prometheus-alertmanager"):
        try:
            find_binary(program)
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)


async def test_faults_raise_exactly_their_alerts_with_runbooks():
    """The alerts reach #data-ops, a check of each runbook tells the cause, and they are resolved in time."""
    async with aclosing(run_faults([together(*(fault for fault in FAULTS if fault.name in TOGETHER))])) as outcomes:
        async for outcome in outcomes:
            assert outcome.good, outcome
            assert outcome.actions == [action.name for action in outcome.fault.actions]
