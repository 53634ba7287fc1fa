"""The faults of the drill cover the table of alerts; short.py and `make drill` run them."""

from observability import rules

from tests.e2e.drill.__main__ import table_row
from tests.e2e.drill.faults import FAULTS
from tests.e2e.drill.run import ROOT, Outcome

# What one process on SQLite with open access cannot show: tokens, keys, https, limits of its resources, an ingress, a
# replica that is not ready beside others, a clock apart from the database's, an eviction policy within seconds, and a
# process that starts three times within the divided quarter of an hour.
NEEDS_A_DEPLOYMENT = {
    "SupportAccessKeysStale",
    "SupportAccessRefused",
    "SupportCertificateExpiring",
    "SupportClockOffset",
    "SupportIngressFailing",
    "SupportRedisEvicting",
    "SupportReplicaNotReady",
    "SupportReplicaSaturated",
    "SupportRestartLoop",
}


def test_drill_covers_every_alert():
    """The slow budget alerts take hours, and some faults need a whole deployment; promtool tests them instead."""
    drilled = {name.partition("[")[0] for fault in FAULTS for name in fault.alerts}
    tested_by_promtool = {alert.name for alert in rules.ALERTS if alert.name.endswith("BurnSlow")} | {"Watchdog"}
    assert not drilled & NEEDS_A_DEPLOYMENT
    assert drilled | tested_by_promtool | NEEDS_A_DEPLOYMENT == {alert.name for alert in rules.ALERTS}


def test_every_alert_has_a_runbook_file():
    """Slack links to files of this repository."""
    assert all((ROOT / "runbooks" / alert.runbook).is_file() for alert in rules.ALERTS)


def test_table_shows_every_kind_of_result():
    """`make drill` prints a row for expected, unexpected and no alerts."""
    fault = next(each for each in FAULTS if len(each.alerts) == 1)
    alert = next(iter(fault.alerts)).partition("[")[0]
    runbooks = {each.name: each.runbook for each in rules.ALERTS}
    expected = Outcome(fault, alerts={alert: 3.0}, resolved_after=1, runbooks={alert: runbooks[alert]})
    assert table_row(expected).endswith("| 1 evaluation | good |")
    unexpected = Outcome(fault, alerts={alert: 3.0, "Watchdog": 4.0}, unexpected={"Watchdog"})
    assert "Watchdog (!)" in table_row(unexpected)
    assert table_row(unexpected).endswith("| never | WRONG |")
    healthy = next(each for each in FAULTS if not each.alerts)
    assert table_row(Outcome(healthy)).endswith("| nothing |  |  |  |  | good |")
