"""The Prometheus rules match their tables, the instruments and the runbooks, and promtool accepts them."""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from grafana import build
from observability import error_budget, faults, rules, signal
from observability.catalogue import INSTRUMENTS, PROBE_INSTRUMENTS
from observability.signal import duration_seconds
from observability.signals import ALERTS, FAULTS
from observability.signals.api_latency_high import API_LATENCY_P95, API_LATENCY_P95_LARGE, API_LATENCY_P95_TIMELINE
from observability.signals.attachment_integrity import SWEEP_KEPT, SWEEP_UNHEARD
from observability.signals.event_loop_lag import LOOP_LAG_P95
from observability.signals.replica_slow import REPLICA_P95
from observability.signals.timeline_latency_high import LATENCY_P95

from support_service.attachments.maintenance.jobs import FIRST_RECONCILE_DELAY, RECONCILE_INTERVAL
from support_service.platform.settings.resources import TimelineSettings
from tests.support.promql import queried_series, series_family

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "observability" / "prometheus"
TABLE = (*INSTRUMENTS, *PROBE_INSTRUMENTS)
WITHOUT_REASON = ("GIB", "MIB", "SCRAPE_EVERY", "DAY", "BUDGET_PERIOD")  # units and intervals
PROMETHEUS_OWN = {"up", "ALERTS"}


@pytest.fixture(scope="module")
def alerts():
    return [
        rule
        for path in (PROMETHEUS / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]


def run(*command: object, cwd: Path = ROOT) -> str:
    variables = os.environ | {"GOGC": "400"}  # otherwise promtool spends a third of its time on garbage collection
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules(promtool):
    """Windows and waits are counted in evaluations, so the configured intervals must be the thresholds' intervals."""
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]
    intervals = signal.SCRAPE_EVERY, faults.EVALUATE_EVERY
    assert (configured["scrape_interval"], configured["evaluation_interval"]) == intervals
    assert "FAILED" not in run(promtool, "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("file", [path.name for path in sorted((PROMETHEUS / "tests").glob("*.yaml"))])
def test_alerts_fire_on_faults_and_only_then(promtool, file):
    """Each alert fires during its fault, none six evaluations after the repair, and none on a healthy day or night."""
    assert "SUCCESS" in run(promtool, "test", "rules", file, cwd=PROMETHEUS / "tests")


def test_fault_is_tested_with_every_rule_that_its_series_concern():
    """The test of a fault loads the rules that name one of its series; a healthy service is tested with all rules."""
    names = {}
    for group, document in rules.rule_files().items():
        found = document["groups"][0]["rules"]
        recorded = {rule["record"] for rule in found if "record" in rule}
        names[group] = {name for rule in found for name in re.findall(r"[a-z][a-z0-9_:]+", rule["expr"])} - recorded
    tested = {}
    for path in [*(PROMETHEUS / "tests").glob("faults*.yaml"), PROMETHEUS / "tests" / "healthy.yaml"]:
        file = yaml.safe_load(path.read_text())
        tested |= {test["name"]: {Path(name).stem for name in file["rule_files"]} for test in file["tests"]}
    assert tested.keys() == {*FAULTS, "nothing is wrong"}
    assert tested["nothing is wrong"] == names.keys()
    for fault, loaded in tested.items():
        metrics = {series.partition("{")[0] for series in FAULTS[fault].series} if fault in FAULTS else set()
        assert {group for group, named in names.items() if named & metrics} <= loaded, fault
    for group, document in rules.rule_files().items():
        for record in (rule["record"] for rule in document["groups"][0]["rules"] if "record" in rule):
            assert not any(record in named for other, named in names.items() if other != group), record


def test_every_alert_has_a_fault_that_makes_it_fire():
    fired = {alert.partition("{")[0] for fault in FAULTS.values() for alert in fault.alerts}
    traffic = (PROMETHEUS / "tests" / "traffic.yaml").read_text()  # for alerts that need days
    fired |= {name for name in (alert.name for alert in ALERTS) if f'alertname="{name}"' in traffic}
    assert fired | {"Watchdog"} == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("file", ["quiet-night.yaml", "noisy-day.yaml"])
def test_every_metric_of_an_alert_is_in_the_healthy_tests(file):
    """An alert whose series do not exist is silent for no good reason."""
    (test,) = yaml.safe_load((PROMETHEUS / "tests" / file).read_text())["tests"]
    shown = {series_family(each["series"].partition("{")[0]) for each in test["input_series"]}
    queried = {
        name
        for document in rules.rule_files().values()
        for rule in document["groups"][0]["rules"]
        for name in queried_series(rule["expr"])
    } & {row.prometheus_name for row in TABLE}
    assert len(queried) > 30
    assert queried <= shown


def test_every_alert_has_what_on_call_needs(alerts):
    """An alert has routing labels, a summary, a value with its limit, a runbook and its panel."""
    panels = {}
    for path in build.DASHBOARDS_FOLDER.glob("*.json"):
        dashboard = json.loads(path.read_text())
        panels |= {panel["title"]: (dashboard["uid"], panel["id"]) for panel in dashboard["panels"]}
    for alert in alerts:
        assert alert["labels"].keys() - {"explained"} == {"severity", "team", "service"}
        notes = alert["annotations"]
        assert notes["summary"]
        assert "$value" in notes["description"], alert["alert"]
        assert alert["alert"] == "Watchdog" or "limit" in notes["description"], alert["alert"]
        assert re.fullmatch(r"\{\{ \$externalLabels\.runbooks \}\}/[a-z0-9-]+\.md", notes["runbook_url"])
        uid, number = panels[notes["panel"]]
        panel = f"/d/{uid}?viewPanel={number}&from=now-3h&to=now"
        assert notes["dashboard_url"] == f"{{{{ $externalLabels.grafana }}}}{panel}"
    assert len({alert["alert"] for alert in alerts}) == len(alerts)


def test_rules_use_only_existing_metrics(alerts):
    """Each metric in a rule is in the table of instruments, or is one of Prometheus's own."""
    families = {row.prometheus_name for row in TABLE}
    recorded, named = set(), set()
    for document in rules.rule_files().values():
        for rule in document["groups"][0]["rules"]:
            recorded |= {rule["record"]} if "record" in rule else set()
            expr = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|group_left) \([^)]*\)', "", rule["expr"])
            named |= {name for name in re.findall(r"[a-z][a-z0-9_]*(?::[a-z0-9_]+)*(?=\b(?!\())", expr) if "_" in name}
    named = {name for name in named if not re.fullmatch(r"label_replace|avg_over_time|group_left", name)} - recorded
    families_named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named if ":" not in name}
    assert families_named >= {"support_timeline_collect_seconds", "support_attachment_backlog_bytes"}
    assert families_named <= families | PROMETHEUS_OWN


def test_thresholds_are_constants_with_their_reason():
    """Alerts take numbers and durations from the constants at the top of their signal, or from signal.py."""
    modules = [ROOT / "observability" / name for name in ("signal.py", "error_budget.py")]
    modules += (ROOT / "observability" / "signals").glob("*.py")
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"[<>]=? [1-9]|\[[0-9]+[smhd]\]", node.value), f"{path.name}: {node.value}"
        for line in path.read_text().splitlines():
            if re.match(r"""[A-Z_0-9]+ = [("]*\d""", line) and not line.startswith(WITHOUT_REASON):
                assert "  # " in line or line.endswith(('m")', 'h")')), f"no reason: {line}"


def test_strategy_states_the_burn_rates_of_the_alerts():
    """Also the requests of the short window, without which no alert fires."""
    for page in ("strategy.md", "vi/strategy.md"):
        text = " ".join((ROOT / "observability" / page).read_text().split())
        for rate in (error_budget.BURN_FAST, error_budget.BURN_MEDIUM, error_budget.BURN_SLOW):
            assert re.search(rf"(?<![\d.]){rate:g} \(", text), rate
        assert re.search(rf"\b{error_budget.BURN_REQUESTS} request", text)


def test_latency_thresholds_are_bucket_boundaries():
    """At a timeout below a threshold each slow call is cut off instead, and the alert on latency never fires."""
    edges, timeline = {row.name: row.buckets for row in TABLE if row.buckets}, TimelineSettings()
    for name in ("support.timeline.collect", "support.timeline.read"):
        assert LATENCY_P95 in edges[name]
    assert LOOP_LAG_P95 in edges["support.event_loop.lag"]
    bounds = {API_LATENCY_P95, API_LATENCY_P95_TIMELINE, API_LATENCY_P95_LARGE, REPLICA_P95}
    assert bounds <= {*edges["http.server.request.duration"]}
    assert LATENCY_P95 < timeline.source_timeout < timeline.deadline < API_LATENCY_P95_TIMELINE


def test_lost_files_alert_covers_the_interval_between_reconciles():
    """The alert looks back beyond the first reconcile, and beyond another one if that fails."""
    first, interval = FIRST_RECONCILE_DELAY[1], RECONCILE_INTERVAL
    assert duration_seconds(SWEEP_KEPT) >= 2 * first
    assert duration_seconds(SWEEP_UNHEARD) >= first + interval + duration_seconds(SWEEP_KEPT)


def test_drill_rules_differ_only_in_times_and_sizes():
    """A drill uses the same rules, with each duration, age and size divided."""
    real, fast = (rules.rule_files(**scale) for scale in ({}, {"time": 60, "size": 1024}))
    for name, document in real.items():
        for rule, quick in zip(document["groups"][0]["rules"], fast[name]["groups"][0]["rules"], strict=True):
            assert not re.search(r"[{]s:|[{]B:", rule["expr"] + quick["expr"])
            assert not re.search(r"\[\d+[mhd]\]", quick["expr"])
            assert rules.divide_duration(rule.get("for", "1m"), 60) == quick.get("for", "1000ms")
            assert re.sub(r"\d\S*", "", rule["expr"]) == re.sub(r"\d\S*", "", quick["expr"])
    assert "16106127360" in str(real["attachments"])
    assert "15728640" in str(fast["attachments"])
