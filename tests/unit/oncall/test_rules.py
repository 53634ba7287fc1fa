"""A replica evaluates the expressions of the alerts as Prometheus does: promtool's tests of the rules hold for it."""

import re

import pytest
from observability.replica_rules import replica_rules
from observability.rules import rule_files, rule_test_files
from observability.signal import duration_seconds

from support_service.oncall.figures import Figures
from support_service.oncall.judge import AlertStates
from support_service.oncall.rules import Rules
from tests.support.each import each_row

RULES = Rules(replica_rules())
JUDGED = {rule.name for rule, _ in RULES.judged}
TESTS = {
    f"{file}: {test['name']}": test
    for file, document in rule_test_files().items()
    for test in document["tests"]
    if "name" in test and (file.startswith("faults") or file == "healthy")
}


def values_of(text):
    """Return the values of promtool's notation, one for each minute; None without a sample."""
    values = []
    for part in text.split():
        if part.startswith("_") or part == "stale":
            values += [None] * int(part.partition("x")[2] or 1)
            continue
        body, _, more = part.partition("x")
        first, step = re.fullmatch(r"(-?[\d.]+(?:e[+-]?\d+)?)([+-].+)?", body).groups()
        values += [float(first) + number * float(step or 0) for number in range(int(more or 0) + 1)]
    return values


def labels_of(series):
    name, _, rest = series.partition("{")
    return name, dict(re.findall(r'(\w+)="([^"]*)"', rest))


def judged(test, at):
    """Yield the alerts of each minute of a test up to `at`, as a replica judges them: the rule and the labels."""
    figures, states = Figures(), AlertStates(RULES)
    series = [(*labels_of(each["series"]), values_of(each["values"])) for each in test["input_series"]]
    for minute in range(at + 1):
        figures.advance(minute * 60.0)
        by_name = {}
        for name, labels, values in series:
            samples = by_name.setdefault(name, [])
            if minute < len(values) and values[minute] is not None:
                samples.append((labels, values[minute]))
        for name, samples in by_name.items():
            figures.add(minute * 60.0, name, samples)
        states.evaluate(figures, minute * 60.0)
        yield [(rule.name, sample.labels) for rule, sample, _, fires in states.active() if fires]


@each_row("name", TESTS)
def test_replica_agrees_with_prometheus(name):
    """In each fault that promtool tests, and after its repair, a replica finds the same alerts."""
    expectations = {duration_seconds(each["eval_time"]) // 60: each for each in TESTS[name]["promql_expr_test"]}
    assert len(expectations) == len(TESTS[name]["promql_expr_test"])
    for minute, found in enumerate(judged(TESTS[name], max(expectations))):
        if minute not in expectations:
            continue
        expectation, expected = expectations[minute], set()
        for sample in expectation["exp_samples"]:
            labels = labels_of(sample["labels"])[1]
            alert = labels.pop("alertname")
            if alert in JUDGED:
                expected.add((alert, frozenset(labels.items())))
        compared = set(re.search(r"sum by \(([^)]*)\)", expectation["expr"])[1].split(", "))
        fired = {
            (alert, frozenset((name, value) for name, value in labels.items() if name in compared))
            for alert, labels in found
        }
        assert fired == expected, expectation["eval_time"]


@pytest.mark.parametrize("alert", ["SupportUploadsRefused", "SupportDownloadsRefused", "SupportS3Failing"])
def test_action_depends_on_what_s3_answered(alert):
    """New credentials do not help against a limit of S3."""
    rule = RULES.alerts[alert]
    for outcome, text in {
        "slow_down": "Lower the load on S3",
        "denied": "Renew the credentials of S3",
        "expired": "Renew the credentials of S3",
        "unreachable": "Ask the operator of S3",
    }.items():
        assert rule.action_for({"outcome": outcome})["en"][0] == text


S3_IS_DOWN = {  # minutes 21 to 50, by what the calls are for; each failed call is repeated twice
    "SupportAttachmentOffloadFailing": {
        'support_attachment_offloaded_total{to="s3",outcome="moved"}': "0+5x20 100+0x29 105+20x30",
        'support_attachment_offloaded_total{to="s3",outcome="failed"}': "0+0x20 2+2x29 60+0x30",
    },
    "SupportUploadsRefused": {
        'support_attachment_transfers_total{transfer="upload",outcome="ok"}': "0+5x20 100+0x29 105+5x30",
        'support_attachment_transfers_total{transfer="upload",outcome="unreachable"}': "0+0x20 2+2x29 60+0x30",
    },
}


@pytest.mark.parametrize("alert", S3_IS_DOWN)
def test_outage_of_s3_is_told_by_what_its_calls_were_for(alert):
    """SupportS3Failing never fires alone: the other alert, which mutes it, comes before it and ends no earlier."""
    series = S3_IS_DOWN[alert] | {
        'support_s3_calls_total{operation="put",outcome="ok"}': "0+15x20 300+0x29 315+15x30",
        'support_s3_calls_total{operation="put",outcome="unreachable"}': "0+0x20 6+6x29 180+0x30",
    }
    minutes = list(judged({"input_series": [{"series": name, "values": text} for name, text in series.items()]}, 79))
    firing = [{name for name, _ in found} for found in minutes]
    assert {alert, "SupportS3Failing"} in firing
    assert [minute for minute, found in enumerate(firing) if found == {"SupportS3Failing"}] == []
    assert "SupportS3Failing" not in firing[min(at for at, found in enumerate(firing) if found)]


def test_alerts_that_only_prometheus_judges():
    """They need other replicas, the probe, or what was usual on other days."""
    every = {rule["alert"] for file in rule_files().values() for rule in file["groups"][0]["rules"] if "alert" in rule}
    assert every - JUDGED == {
        *("SupportApiErrorBudgetBurnSlow", "SupportIngressFailing", "SupportMassChange", "SupportMetricsMissing"),
        *("SupportNoTraffic", "SupportProbeFailing", "SupportProbeFlapping", "SupportProbeMissing"),
        *("SupportReplicaDown", "SupportServiceDown", "SupportTicketTrafficAnomaly", "SupportTimelineCacheMissSurge"),
        *("SupportTimelineErrorBudgetBurnSlow", "SupportTimelineNotFoundSurge", "Watchdog"),
    }
