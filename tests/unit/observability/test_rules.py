"""The rules: as the tables say, as promtool takes them, and in step with instruments and runbooks."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from observability import rules, thresholds
from observability.alerts.alert import of
from observability.rule_tests.faults import FAULTS

from support_service.attachments.maintenance.jobs import MaintenanceTimings
from support_service.telemetry import instruments

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "observability" / "prometheus"
RUNBOOKS = ROOT / "runbooks"
NOT_OF_ALERTS = {"README", "errors", "drill", "timeline-slow-or-attachment-backlog"}
TABLE = (*instruments.INSTRUMENTS, *instruments.PROBE_INSTRUMENTS)
PROMETHEUS_OWN = {"up", "ALERTS"}


@pytest.fixture(scope="module")
def alerts():
    """Every alert as Prometheus loads it."""
    return [
        rule
        for path in (PROMETHEUS / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]


def run(*command: object, cwd: Path = ROOT) -> str:
    """What a command prints; fails where the command does."""
    variables = os.environ | {"GOGC": "400"}  # promtool spends a third of its time on collecting garbage otherwise
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("processes")
def test_the_files_are_written_from_the_tables():
    """`make lint` would say so too: what Prometheus loads is what the tables say."""
    run(sys.executable, "-m", "observability.rules", "--check")


def test_promtool_takes_configuration_and_rules(promtool):
    """`promtool check` finds nothing to complain of, in the rules and in what loads them."""
    assert "FAILED" not in run(promtool, "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("file", [path.name for path in sorted((PROMETHEUS / "tests").glob("*.yaml"))])
def test_rules_fire_and_stay_silent(promtool, file):
    """Each alert fires before a fault is repaired; none does five evaluations later, nor on a healthy day or night."""
    assert "SUCCESS" in run(promtool, "test", "rules", file, cwd=PROMETHEUS / "tests")


def test_every_alert_has_a_test_that_it_fires():
    """No alert is without a fault that makes it fire."""
    fired = {alert.partition("{")[0] for fault in FAULTS.values() for alert in fault.alerts}
    fired.add("SupportTicketTrafficAnomaly")  # in tests/traffic.yaml, since it takes days
    assert fired | {"Watchdog"} == {alert.name for alert in rules.ALERTS}


def test_every_alert_says_what_on_call_needs(alerts):
    """Labels to route by, a summary, a value with its limit, a runbook and a dashboard."""
    for alert in alerts:
        assert alert["labels"].keys() == {"severity", "team", "service"}
        notes = alert["annotations"]
        assert notes["summary"]
        assert "$value" in notes["description"], alert["alert"]
        assert alert["alert"] == "Watchdog" or "limit" in notes["description"], alert["alert"]
        assert re.fullmatch(r"\{\{ \$externalLabels\.runbooks \}\}/[a-z-]+\.md", notes["runbook_url"])
        assert notes["dashboard_url"] == "{{ $externalLabels.grafana }}/d/support-overview"
    assert len({alert["alert"] for alert in alerts}) == len(alerts)


@pytest.mark.parametrize("language", [".", "vi"])
def test_every_alert_has_one_runbook_in_each_language(language):
    """One file for each alert, and no file for an alert that is none."""
    written = {path.name for path in (RUNBOOKS / language).glob("*.md")} - {f"{name}.md" for name in NOT_OF_ALERTS}
    assert written == {alert.runbook for alert in rules.ALERTS}


def test_rules_name_only_metrics_that_are_recorded(alerts):
    """Every metric in a rule is in the table of instruments, or Prometheus's own."""
    families = {row.prometheus for row in TABLE}
    recorded = {
        rule["record"]
        for document in rules.documents().values()
        for rule in document["groups"][0]["rules"]
        if "record" in rule
    }
    named = set()
    for document in rules.documents().values():
        for rule in document["groups"][0]["rules"]:
            expr = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|group_left) \([^)]*\)', "", rule["expr"])
            named |= {name for name in re.findall(r"[a-z_]+(?::[a-z0-9_]+)*(?=\b(?!\())", expr) if "_" in name}
    named = {name for name in named if not re.fullmatch(r"label_replace|avg_over_time|group_left", name)} - recorded
    families_named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named if ":" not in name}
    assert families_named >= {"support_timeline_collect_seconds", "support_attachment_backlog_bytes"}
    assert families_named <= families | PROMETHEUS_OWN


def test_thresholds_stand_in_one_place():
    """No alert spells a number or a duration of its own: they come from thresholds.py, each with its reason."""
    for path in (ROOT / "observability" / "alerts").glob("*.py"):
        if path.name in ("alert.py", "__init__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"[<>]=? [1-9]|\[[0-9]+[smhd]\]", node.value), f"{path.name}: {node.value}"
    for line in (ROOT / "observability" / "thresholds.py").read_text().splitlines():
        if re.match(r"[A-Z_0-9]+ = ", line) and not line.startswith(("GIB", "SCRAPE", "EVALUATE")):
            assert "  # " in line or line.endswith(('m")', 'h")')), f"no reason: {line}"


def test_prometheus_looks_as_often_as_the_thresholds_say():
    """Windows and waits are reckoned in evaluations: the configuration must evaluate so often."""
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]
    assert configured["scrape_interval"] == thresholds.SCRAPE_EVERY
    assert configured["evaluation_interval"] == thresholds.EVALUATE_EVERY


def test_the_limit_of_the_timeline_is_an_edge():
    """The seconds that alerts ask for are an edge of the buckets of what they look at."""
    edges = {row.name: row.buckets for row in TABLE if row.buckets}
    for name in ("support.timeline.collect", "support.timeline.read"):
        assert thresholds.LATENCY_P95 in edges[name]
    assert thresholds.LOOP_LAG_P95 in edges["support.event_loop.lag"]


def test_the_last_word_on_lost_files_stands_until_the_next():
    """The alert on them looks back beyond a first sweep and what it takes, and beyond one more where that fails."""
    usual = MaintenanceTimings()
    first, again = usual.first_reconcile_delay[1], usual.reconcile_interval
    assert of(thresholds.SWEEP_KEPT) >= 2 * first
    assert of(thresholds.SWEEP_UNHEARD) >= first + again + of(thresholds.SWEEP_KEPT)


def test_times_and_bytes_of_a_drill_are_divided():
    """Divided rules are the same rules, with every duration, age and size divided and nothing else."""
    real, fast = (rules.documents(**scale) for scale in ({}, {"time": 60, "size": 1024}))
    for room, document in real.items():
        for rule, quick in zip(document["groups"][0]["rules"], fast[room]["groups"][0]["rules"], strict=True):
            assert not re.search(r"[{]s:|[{]B:", rule["expr"] + quick["expr"])
            assert not re.search(r"\[\d+[mhd]\]", quick["expr"])
            assert rules.divided(rule.get("for", "1m"), 60) == quick.get("for", "1000ms")
            assert re.sub(r"\d\S*", "", rule["expr"]) == re.sub(r"\d\S*", "", quick["expr"])
    assert "16106127360" in str(real["attachments"])
    assert "15728640" in str(fast["attachments"])
