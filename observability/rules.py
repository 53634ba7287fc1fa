"""Prometheus's rules and their tests, from the signals; also as one PrometheusRule for the Prometheus operator."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from grafana.rows import PLACES

from observability import days, faults
from observability.signal import Alert, Group, Signal, of
from observability.signals import FAULTS, SIGNALS
from support_service.api.panel_links import panel_path

HERE = Path(__file__).parent / "prometheus"
OPERATOR = Path(__file__).parent / "kubernetes" / "prometheusrule.yaml"
GROUPS = {group: tuple(signal for signal in SIGNALS if signal.group == group) for group in get_args(Group)}
TIMES = "&from=now-3h&to=now"  # long enough to show the beginning, and what was usual before
TEAM, SERVICE = "data-ops", "support-service"
HEAD = "# Written by `make observability` from the tables in observability/: change those.\n"
DURATION = re.compile(r"(?<=\[)(?:\d+[smhd])+(?=\])|(?<=offset )(?:\d+[smhd])+")
TOKEN = re.compile(r"\{([sB]):([\d.e+]+)\}")


def files() -> dict[Path, str]:
    """Return the rule files, their tests, and the PrometheusRule."""
    texts = {HERE / "rules" / f"{name}.yaml": dump(document) for name, document in documents().items()}
    texts[OPERATOR] = dump(_prometheus_rule())
    return texts | {HERE / "tests" / f"{name}.yaml": dump(test) for name, test in tests().items()}


def documents(*, time: float = 1, size: int = 1) -> dict[str, dict[str, Any]]:
    """Return every rule file by its name. Durations are divided by `time`, and numbers of bytes by `size`."""

    def scaled(expr: str) -> str:
        expr = TOKEN.sub(lambda token: f"{float(token[2]) / (time if token[1] == 's' else size):.12g}", expr)
        return DURATION.sub(lambda found: divided(found[0], time), expr)

    def group(name: str, signals: Sequence[Signal]) -> dict[str, Any]:
        records = [
            {"record": record.name, "expr": scaled(record.expr)} for signal in signals for record in signal.records
        ]
        alerts = [_rule(alert, scaled(alert.expr), time) for signal in signals for alert in signal.alerts]
        return {"groups": [{"name": f"support-{name}", "rules": records + alerts}]}

    return {name: group(name, signals) for name, signals in GROUPS.items()}


def tests() -> dict[str, dict[str, Any]]:
    """Return every file of tests by its name."""
    groups = {name: document["groups"][0]["rules"] for name, document in documents().items()}
    expressions = {name: "\n".join(rule["expr"] for rule in group) for name, group in groups.items()}
    days_and_nights = {"quiet-night": days.quiet(), "noisy-day": days.noisy(), "traffic": days.traffic()}
    return faults.tests_of(FAULTS, expressions) | days_and_nights


def divided(duration: str, by: float) -> str:
    """Return a duration divided by a number, in a unit that Prometheus accepts; the same text if the number is 1."""
    if by == 1:
        return duration
    total = sum(of(part) for part in re.findall(r"\d+[smhd]", duration))
    return f"{round(total * 1000 / by)}ms"


def dump(document: dict[str, Any]) -> str:
    """Return a document as YAML for Prometheus, with the header of generated files."""
    text: str = yaml.safe_dump(document, sort_keys=False, width=10_000, allow_unicode=True)
    return HEAD + text


def _prometheus_rule() -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "support-service", "labels": {"app": "support-service"}},
        "spec": {"groups": [group for document in documents().values() for group in document["groups"]]},
    }


def _rule(alert: Alert, expr: str, time: float) -> dict[str, Any]:
    kept = {"keep_firing_for": divided(alert.keep_firing_for, time)} if alert.keep_firing_for else {}
    return {
        "alert": alert.name,
        "expr": expr,
        "for": divided(alert.for_, time),
        **kept,
        "labels": {"severity": alert.severity, "team": TEAM, "service": SERVICE},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            # The external labels of prometheus.yml define the addresses of the runbooks and of Grafana, once.
            "runbook_url": f"{{{{ $externalLabels.runbooks }}}}/{alert.runbook}",
            "dashboard_url": f"{{{{ $externalLabels.grafana }}}}{panel_path(PLACES[alert.panel], alert.panel)}{TIMES}",
            "panel": alert.panel,
        },
    }
