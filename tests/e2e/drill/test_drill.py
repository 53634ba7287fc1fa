"""The faults of the drill cover the table of alerts; short.py and `make drill` run them."""

from observability.signals import ALERTS

from tests.e2e.drill.__main__ import in_deployments, table_row
from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import Outcome
from tests.e2e.drill.runbook_checks import page_of


def test_drill_covers_every_alert():
    """The slow budget alerts take hours; promtool tests them instead."""
    drilled = {name.partition("[")[0] for fault in FAULTS for name in fault.alerts}
    tested_by_promtool = {alert.name for alert in ALERTS if alert.name.endswith("BurnSlow")} | {"Watchdog"}
    assert drilled | tested_by_promtool == {alert.name for alert in ALERTS}


def test_every_fault_has_a_check_that_tells_its_cause():
    """The check is on a page of an alert that the fault raises."""
    pages = {alert.name: alert.runbook for alert in ALERTS}
    for fault in FAULTS:
        raised = {pages[name.partition("[")[0]] for name in fault.alerts}
        assert bool(fault.causes) == bool(fault.alerts), fault.name
        assert {page_of(cause, fault) for cause in fault.causes} <= raised, fault.name


def test_a_deployment_has_faults_of_one_scenario():
    """No fault is left out, and none runs twice."""
    groups = in_deployments(list(FAULTS))
    assert sorted(fault.name for group in groups for fault in group) == sorted(fault.name for fault in FAULTS)
    assert all(fault.scenario == group[0].scenario for group in groups for fault in group)


def test_table_shows_every_kind_of_result():
    """`make drill` prints a row for expected, unexpected and no alerts."""
    fault = next(each for each in FAULTS if len(each.alerts) == 1)
    alert = fault.alerts[0].partition("[")[0]
    runbooks = {each.name: each.runbook for each in ALERTS}
    expected = Outcome(fault, alerts={alert: 3.0}, resolved_after=1, runbooks={alert: runbooks[alert]})
    assert table_row(expected).endswith("| 1 evaluation | good |")
    unexpected = Outcome(fault, alerts={alert: 3.0, "Watchdog": 4.0}, unexpected={"Watchdog"})
    assert "Watchdog (!)" in table_row(unexpected)
    assert table_row(unexpected).endswith("| never | WRONG |")
    healthy = next(each for each in FAULTS if not each.alerts)
    assert table_row(Outcome(healthy)).endswith("| nothing |  | 0 |  |  | good |")
