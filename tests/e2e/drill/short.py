"""The short form of the drill, with real Prometheus and Alertmanager; `make drill` runs all faults.

It depends on seconds of real time, so `make test` runs it in a process of its own, at a higher priority than the other
tests and at a slower pace than `make drill`.
"""

from contextlib import aclosing

import pytest
from observability.signals import ALERTS

from tests.e2e.drill.fault import together
from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import run_faults
from tests.support.servers import MissingServer, find_binary

# A dependency that all replicas lack, whose symptoms are inhibited; a state; and a metric that ends.
TOGETHER = ("PostgreSQL down", "Redis may evict", "probe stopped")
SHORT_FORM = together(*(fault for fault in FAULTS if fault.name in TOGETHER))


@pytest.fixture(autouse=True)
def _required_programs(processes):
    for program in ("haproxy", "prometheus", "promtool", "prometheus-alertmanager"):
        try:
            find_binary(program)
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)


async def test_faults_raise_exactly_their_alerts_with_runbooks():
    """The alerts reach #data-ops, a check of each runbook tells the cause, and they are resolved in time."""
    runbooks = {alert.name: alert.runbook for alert in ALERTS}
    async with aclosing(run_faults([SHORT_FORM])) as outcomes:
        async for outcome in outcomes:
            assert outcome.good, (outcome.missing, outcome.unexpected, outcome.errors, outcome.resolved_after)
            assert outcome.unknown_causes == []
            assert outcome.runbooks == {name: runbooks[name] for name in outcome.alerts}
