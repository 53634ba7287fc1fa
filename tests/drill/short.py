"""The drill in its short form, with real Prometheus and Alertmanager; `make drill` has all of it.

It holds seconds against rules whose waits are divided, so `make test` runs it once the other tests are done,
and not so fast.
"""

import asyncio

import pytest
from observability import rules

from tests.drill.faults import FAULTS
from tests.drill.play import play
from tests.servers import MissingServer, find_binary

SHORT = {"payment answers 500", "service killed", "poison event"}


@pytest.fixture(autouse=True)
def _programs():
    for program in ("prometheus", "promtool", "prometheus-alertmanager"):
        try:
            find_binary(program)
        except MissingServer as missing:
            pytest.exit(str(missing), returncode=1)


async def test_on_call_is_told_exactly_what_is_broken():
    """Each fault brings its alerts and no others to #data-ops, with their runbooks, and all are over in time."""
    outcomes = await asyncio.gather(*(play(fault) for fault in FAULTS if fault.name in SHORT))
    assert len(outcomes) == len(SHORT)
    for outcome in outcomes:
        assert outcome.good, outcome
        runbooks = {alert.name: alert.runbook for alert in rules.ALERTS}
        assert outcome.runbooks == {name: runbooks[name] for name in outcome.told}
