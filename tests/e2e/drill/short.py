"""The short form of the drill, with real Prometheus and Alertmanager; `make drill` runs all faults.

It depends on seconds of real time, so `make test` runs it after the other tests, and at a slower pace.
"""

import pytest
from observability import rules

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import run_fault
from tests.support.servers import MissingServer, find_binary

FAULTS_BY_NAME = {fault.name: fault for fault in FAULTS}
SHORT_FORM = [FAULTS_BY_NAME[name] for name in ("payment answers 500", "service killed", "invalid event")]


@pytest.fixture(autouse=True)
def _required_programs(processes):
    for program in ("prometheus", "promtool", "prometheus-alertmanager"):
        try:
            find_binary(program)
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)


@pytest.mark.parametrize("fault", SHORT_FORM, ids=lambda fault: fault.name)
async def test_fault_raises_exactly_its_alerts_with_runbooks(fault):
    """The alerts reach #data-ops with their runbooks, and are resolved in time."""
    outcome = await run_fault(fault)
    assert outcome.good, outcome
    runbooks = {alert.name: alert.runbook for alert in rules.ALERTS}
    assert outcome.runbooks == {name: runbooks[name] for name in outcome.alerts}
