"""The drill in its short form, with real Prometheus and Alertmanager; `make drill` has all of it.

It holds seconds against rules whose waits are divided, so `make test` runs it once the other tests are done,
and not so fast.
"""

import pytest
from observability import rules

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.play import play
from tests.support.servers import MissingServer, find_binary

NAMED = {fault.name: fault for fault in FAULTS}
SHORT = [NAMED[name] for name in ("payment answers 500", "service killed", "poison event")]


@pytest.fixture(autouse=True)
def _programs(processes):
    for program in ("prometheus", "promtool", "prometheus-alertmanager"):
        try:
            find_binary(program)
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
async def test_on_call_is_told_exactly_what_is_broken(fault):
    """A fault brings its alerts and no others to #data-ops, with their runbooks, and all are over in time."""
    outcome = await play(fault)
    assert outcome.good, outcome
    runbooks = {alert.name: alert.runbook for alert in rules.ALERTS}
    assert outcome.runbooks == {name: runbooks[name] for name in outcome.told}
