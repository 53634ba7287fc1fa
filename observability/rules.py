"""Prometheus's rules and their tests, from the tables of alerts."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from grafana.generate import PLACES

from observability.alerts import (
    access,
    attachments,
    dependencies,
    events,
    objectives,
    replicas,
    service,
    service_levels,
    timeline,
    traffic,
)
from observability.alerts.alert import Alert, of
from observability.rule_tests import days, faults
from support_service.api.panel_links import panel_path

HERE = Path(__file__).parent / "prometheus"
GROUPS: dict[str, ModuleType] = {
    "timeline": timeline,
    "attachments": attachments,
    "events": events,
    "service-levels": service_levels,
    "service": service,
    "replicas": replicas,
    "dependencies": dependencies,
    "access": access,
    "traffic": traffic,
    "objectives": objectives,
}
ALERTS: tuple[Alert, ...] = tuple(alert for module in GROUPS.values() for alert in module.ALERTS)
TIMES = "&from=now-3h&to=now"  # long enough to show the beginning, and what was usual before
TEAM, SERVICE = "data-ops", "support-service"
HEAD = "# Written by `make observability` from the tables in observability/: change those.\n"
DURATION = re.compile(r"(?<=\[)(?:\d+[smhd])+(?=\])|(?<=offset )(?:\d+[smhd])+")
TOKEN = re.compile(r"\{([sB]):([\d.e+]+)\}")


def files() -> dict[Path, str]:
    """Return the rule files and their tests."""
    texts = {HERE / "rules" / f"{name}.yaml": dump(document) for name, document in documents().items()}
    return texts | {HERE / "tests" / f"{name}.yaml": dump(test) for name, test in tests().items()}


def documents(*, time: float = 1, size: int = 1) -> dict[str, dict[str, Any]]:
    """Return every rule file by its name. Durations are divided by `time`, and numbers of bytes by `size`."""

    def scaled(expr: str) -> str:
        expr = TOKEN.sub(lambda token: f"{float(token[2]) / (time if token[1] == 's' else size):.12g}", expr)
        return DURATION.sub(lambda found: divided(found[0], time), expr)

    def group(name: str, module: ModuleType) -> dict[str, Any]:
        records = [{"record": record.name, "expr": scaled(record.expr)} for record in getattr(module, "RECORDS", ())]
        alerts = [_rule(alert, scaled(alert.expr), time) for alert in module.ALERTS]
        return {"groups": [{"name": f"support-{name}", "rules": records + alerts}]}

    return {name: group(name, module) for name, module in GROUPS.items()}


def tests() -> dict[str, dict[str, Any]]:
    """Return every file of tests by its name."""
    groups = {name: document["groups"][0]["rules"] for name, document in documents().items()}
    expressions = {name: "\n".join(rule["expr"] for rule in group) for name, group in groups.items()}
    days_and_nights = {"quiet-night": days.quiet(), "noisy-day": days.noisy(), "traffic": days.traffic()}
    return faults.files(expressions) | days_and_nights


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


def _rule(alert: Alert, expr: str, time: float) -> dict[str, Any]:
    kept = {"keep_firing_for": divided(alert.kept, time)} if alert.kept else {}
    return {
        "alert": alert.name,
        "expr": expr,
        "for": divided(alert.held, time),
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
