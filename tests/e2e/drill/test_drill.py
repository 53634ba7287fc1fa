"""The faults of the drill cover the table of alerts; short.py and `make drill` run them."""

from observability import rules

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import ROOT


def test_drill_covers_every_alert():
    """The slow budget alerts take hours; promtool tests them instead."""
    drilled = {name.partition("[")[0] for fault in FAULTS for name in fault.alerts}
    tested_by_promtool = {alert.name for alert in rules.ALERTS if alert.name.endswith("BurnSlow")} | {"Watchdog"}
    assert drilled | tested_by_promtool == {alert.name for alert in rules.ALERTS}


def test_every_alert_has_a_runbook_file():
    """Slack links to files of this repository."""
    assert all((ROOT / "runbooks" / alert.runbook).is_file() for alert in rules.ALERTS)
