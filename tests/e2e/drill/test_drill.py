"""What the drill breaks, held against the table of alerts; short.py and `make drill` break it."""

from observability import rules

from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.play import ROOT


def test_every_alert_is_in_the_drill():
    """No alert is proven on paper only; the slow budget alerts take hours, which promtool tells in their stead."""
    drilled = {name.partition("[")[0] for fault in FAULTS for name in fault.alerts}
    on_paper = {alert.name for alert in rules.ALERTS if alert.name.endswith("BurnSlow")} | {"Watchdog"}
    assert drilled | on_paper == {alert.name for alert in rules.ALERTS}


def test_every_alert_leads_to_a_runbook_that_exists():
    """What Slack links is a file of this repository."""
    assert all((ROOT / "runbooks" / alert.runbook).is_file() for alert in rules.ALERTS)
