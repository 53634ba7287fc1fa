"""Prometheus's rules and their tests, from the signals, also as one PrometheusRule, and for metrics that are pushed.

`python -m observability.rules` prints the rules for metrics that replicas push, as one file.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from grafana.rows import BOARD_UID_BY_PANEL

from observability import days, faults
from observability.signal import Alert, Group, Signal, duration_seconds
from observability.signals import ALERTS, FAULTS, SIGNALS
from support_service.api.panel_links import panel_path

PROMETHEUS_FOLDER = Path(__file__).parent / "prometheus"
OPERATOR_FILE = Path(__file__).parent / "kubernetes" / "prometheusrule.yaml"
SIGNALS_BY_GROUP = {group: tuple(signal for signal in SIGNALS if signal.group == group) for group in get_args(Group)}
PANEL_TIMES = "&from=now-3h&to=now"  # long enough to show the beginning, and what was usual before
TEAM, SERVICE = "data-ops", "support-service"
GENERATED_HEADER = "# Written by `make observability` from the tables in observability/: change those.\n"
DURATION_PATTERN = re.compile(r"(?<=[\[:])(?:\d+[smhd])+(?=[\]:])|(?<=offset )(?:\d+[smhd])+")
SCALED_VALUE_PATTERN = re.compile(r"\{([sB]):([\d.e+]+)\}")


def generated_files() -> dict[Path, str]:
    """Return the rule files, their tests, and the PrometheusRule."""
    texts = {
        PROMETHEUS_FOLDER / "rules" / f"{name}.yaml": dump_yaml(document) for name, document in rule_files().items()
    }
    texts[OPERATOR_FILE] = dump_yaml(_prometheus_rule())
    return texts | {
        PROMETHEUS_FOLDER / "tests" / f"{name}.yaml": dump_yaml(test) for name, test in rule_test_files().items()
    }


def pushed_rules() -> str:
    """Return the file of rules for metrics that replicas push."""
    return dump_yaml({"groups": _all_groups(rule_files(pushed=True))}, "# Written by `make pushed-rules`.\n")


def rule_files(*, time: float = 1, size: int = 1, pushed: bool = False) -> dict[str, dict[str, Any]]:
    """Return every rule file by its name. Durations are divided by `time`, and numbers of bytes by `size`.

    The rules are for metrics that Prometheus scrapes, or that replicas push.
    """

    def scaled(expr: str) -> str:
        expr = SCALED_VALUE_PATTERN.sub(
            lambda token: f"{float(token[2]) / (time if token[1] == 's' else size):.12g}", expr
        )
        return DURATION_PATTERN.sub(lambda found: divide_duration(found[0], time), expr)

    def group(name: str, signals: Sequence[Signal]) -> dict[str, Any]:
        records = [
            {"record": record.name, "expr": scaled(record.expr)} for signal in signals for record in signal.records
        ]
        declared = [alert.as_pushed() if pushed else alert for signal in signals for alert in signal.alerts]
        alerts = [_alerting_rule(alert, scaled, time) for alert in declared]
        return {"groups": [{"name": f"support-{name}", "rules": records + alerts}]}

    return {name: group(name, signals) for name, signals in SIGNALS_BY_GROUP.items()}


def rule_test_files() -> dict[str, dict[str, Any]]:
    """Return every file of tests by its name."""
    groups = {name: document["groups"][0]["rules"] for name, document in rule_files().items()}
    expressions = {name: "\n".join(rule["expr"] for rule in group) for name, group in groups.items()}
    days_and_nights = {
        "quiet-night": days.quiet_night_test(FAULTS),
        "noisy-day": days.noisy_day_test(FAULTS),
        "traffic": days.eight_days_test(),
        "slow-days": days.slow_days_test(),
        "budget-days": days.budget_days_test(),
    }
    return faults.test_files_of_faults(FAULTS, expressions, {alert.name: _wait(alert) for alert in ALERTS}) | (
        days_and_nights
    )


def _wait(alert: Alert) -> faults.Wait:
    """Return how long an alert waits, and the longest range that its expression and the records in it look back."""
    records = [record.expr for signal in SIGNALS for record in signal.records if record.name in alert.expr]
    ranges = [duration_seconds(found) for found in re.findall(r"\[(\d+[smhd])", " ".join((alert.expr, *records)))]
    return faults.Wait(duration_seconds(alert.for_) // 60, max(ranges, default=0) // 60)


def divide_duration(duration: str, by: float) -> str:
    """Return a duration divided by a number, in a unit that Prometheus accepts. The number 1 changes nothing."""
    if by == 1:
        return duration
    total = sum(duration_seconds(part) for part in re.findall(r"\d+[smhd]", duration))
    return f"{round(total * 1000 / by)}ms"


def dump_yaml(document: dict[str, Any], header: str = GENERATED_HEADER) -> str:
    """Return a document as YAML for Prometheus, with the header of generated files."""
    text: str = yaml.safe_dump(document, sort_keys=False, width=10_000, allow_unicode=True)
    return header + text


def _prometheus_rule() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "support-service", "labels": {"app": "support-service"}},
        "spec": {"groups": _all_groups(rule_files())},
    }


def _all_groups(files: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [group for document in files.values() for group in document["groups"]]


def _alerting_rule(alert: Alert, scaled: Callable[[str], str], time: float) -> dict[str, Any]:
    panel = panel_path(BOARD_UID_BY_PANEL[alert.panel], alert.panel)
    keep_firing_for = {"keep_firing_for": divide_duration(alert.keep_firing_for, time)} if alert.keep_firing_for else {}
    return {
        "alert": alert.name,
        "expr": scaled(alert.expr),
        "for": divide_duration(alert.for_, time),
        **keep_firing_for,
        "labels": {
            "severity": alert.severity,
            "team": TEAM,
            "service": SERVICE,
            **{name: scaled(value) for name, value in alert.labels.items()},
        },
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            # The external labels of prometheus.yml define the addresses of the runbooks and of Grafana, once.
            "runbook_url": f"{{{{ $externalLabels.runbooks }}}}/{alert.runbook}",
            "dashboard_url": f"{{{{ $externalLabels.grafana }}}}{panel}{PANEL_TIMES}",
            "panel": alert.panel,
        },
    }


if __name__ == "__main__":
    sys.stdout.write(pushed_rules())
