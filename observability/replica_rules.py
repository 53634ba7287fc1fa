"""The rules as a replica evaluates them for the verdict of `GET /support/oncall`: a file of the package.

A replica knows its own series of the last two hours. Some alerts look further back, compare with other days, or use
series of Prometheus or of the probe. They are listed without an expression, because only Prometheus can judge them.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from grafana.rows import BOARD_UID_BY_PANEL
from pydantic.alias_generators import to_camel

from observability.catalogue import INSTRUMENTS
from observability.rules import divide_duration, rule_files
from observability.signal import Alert, Signal, runbook_of
from observability.signals import ALERTS, SIGNALS
from support_service.api.panel_links import LINKS_BY_CARD
from support_service.oncall.expressions import Expression

ROOT = Path(__file__).parent.parent
RULES_FILE = ROOT / "src" / "support_service" / "oncall" / "rules.json"
ALERTMANAGER_FILE = Path(__file__).parent / "alertmanager" / "alertmanager.yml"
LONGEST_RANGE = 2 * 3600  # s; what a replica keeps
RUNBOOKS = ROOT / "runbooks"
# The sign, the text of the action, and its target, of a row of the table of a runbook.
ROW_PATTERN = re.compile(r"^\| (.+?) \| .*\| \[([^\]]+)\]\(([^)]+)\) \|$", re.MULTILINE)
CODE_PATTERN = re.compile(r"`([^`]+)`")
BY_PATTERN = re.compile(r"\bby \(([^)]*)\)")
MATCHER_PATTERN = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')
# What `$value` is in the summary or the description of an alert.
UNITS = {"humanizePercentage": "share", "humanizeDuration": "seconds", "humanize1024": "bytes", "humanize": "number"}
VALUE_PATTERN = re.compile(r"\$value \| (\w+)")

# The part of the service that an alert is about: the one whose card links its runbook, or that of its group.
PART_BY_RUNBOOK = {link.runbook: to_camel(card) for card, link in LINKS_BY_CARD.items()}
PART_BY_GROUP = {
    "timeline": "sources",
    "attachments": "storage",
    "events": "stream",
    "service-levels": "serviceLevels",
    "service": "service",
    "replicas": "replica",
    "dependencies": "dependencies",
    "access": "access",
    "traffic": "requests",
    "objectives": "requests",
}
PART_BY_ALERT = {
    "SupportTimelineCacheMissSurge": "cache",
    "SupportTimelineErrorBudgetBurnFast": "sources",
    "SupportTimelineErrorBudgetBurnSlow": "sources",
    "SupportAttachmentGrowthRapid": "backlog",
    "SupportAttachmentDiskFull": "backlog",
    "SupportAttachmentOffloadFailing": "backlog",
    "SupportProbeFlapping": "probe",
    "SupportProbeMissing": "probe",
    "SupportIngressFailing": "probe",
    "SupportStreamLagHigh": "liveUpdates",
    "SupportClientErrorsHigh": "requests",
    "SupportRequestsTurnedAway": "requests",
    "SupportWebhooksSlow": "webhooks",
    "SupportAuditChainBroken": "auditSealer",
}


def generated_files() -> dict[Path, str]:
    """Return the file of the package."""
    return {RULES_FILE: json.dumps(replica_rules(), indent=1, ensure_ascii=False) + "\n"}


def replica_rules(*, time: float = 1, size: int = 1) -> dict[str, Any]:
    """Return what a replica evaluates. Durations are divided by `time`, and numbers of bytes by `size`."""
    real = _rules_by_name(rule_files())
    scaled = _rules_by_name(rule_files(time=time, size=size))
    records = {name: Expression(rule["expr"]) for name, rule in real.items() if "record" in rule and _parses(rule)}
    judged = {
        alert.name
        for signal in SIGNALS
        for alert in signal.alerts
        if alert.severity != "none" and _parses(real[alert.name]) and _is_known(real[alert.name], records)
    }
    used = _records_of((real[name] for name in judged), records)
    return {
        "records": [{"record": name, "expr": scaled[name]["expr"]} for name in real if name in used],
        "alerts": [
            {
                "alert": alert.name,
                "part": _part(signal, alert),
                "severity": alert.severity,
                "title": alert.short,
                "unit": _unit(alert),
                "for": divide_duration(alert.for_, time),
                "keep_firing_for": divide_duration(alert.keep_firing_for or "0m", time),
                "expr": scaled[alert.name]["expr"] if alert.name in judged else None,
                "runbook": alert.runbook,
                "dashboard": BOARD_UID_BY_PANEL[alert.panel],
                "panel": alert.panel,
                "action": _first_action(alert),
                **({"actions": by_value} if (by_value := _actions_by_value(alert)) else {}),
            }
            for signal in SIGNALS
            for alert in signal.alerts
            if alert.severity != "none"
        ],
        "inhibitions": [
            {
                "source": [_matcher(text) for text in each["source_matchers"]],
                "target": [_matcher(text) for text in each["target_matchers"]],
                "equal": each["equal"],
            }
            for each in yaml.safe_load(ALERTMANAGER_FILE.read_text())["inhibit_rules"]
        ],
    }


def _rules_by_name(files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    rules = [rule for document in files.values() for rule in document["groups"][0]["rules"]]
    alone = {alert.name: {"expr": alert.alone_expr} for alert in ALERTS if alert.alone_expr}
    return {name: rule | alone.get(name, {}) for rule in rules for name in (rule.get("alert") or rule["record"],)}


def _parses(rule: dict[str, Any]) -> bool:
    try:
        Expression(rule["expr"])
    except ValueError:
        return False
    return True


def _is_known(rule: dict[str, Any], records: dict[str, Expression]) -> bool:
    """Return whether a replica has everything that a rule uses."""
    own = {
        name
        for row in INSTRUMENTS
        for name in (
            (f"{row.prometheus_name}_count", f"{row.prometheus_name}_bucket")
            if row.kind == "histogram"
            else (row.prometheus_name,)
        )
    }
    used = _records_of((rule,), records)
    selectors = [each for expression in (Expression(rule["expr"]), *used.values()) for each in expression.selectors]
    return all(each.name in own | records.keys() and each.reach <= LONGEST_RANGE for each in selectors)


def _records_of(rules: Iterable[dict[str, Any]], records: dict[str, Expression]) -> dict[str, Expression]:
    """Return the recording rules that rules use, also through other ones."""
    found: dict[str, Expression] = {}
    waiting = [Expression(rule["expr"]) for rule in rules]
    while waiting:
        for selector in waiting.pop().selectors:
            if selector.name in records and selector.name not in found:
                found[selector.name] = records[selector.name]
                waiting.append(records[selector.name])
    return found


def _part(signal: Signal, alert: Alert) -> str:
    by_runbook = PART_BY_RUNBOOK.get(runbook_of(alert.name))
    return PART_BY_ALERT.get(alert.name) or by_runbook or PART_BY_GROUP[signal.group]


def _unit(alert: Alert) -> str | None:
    found = VALUE_PATTERN.search(f"{alert.summary} {alert.description}")
    return UNITS.get(found[1]) if found else None


Row = tuple[frozenset[str], tuple[str, str]]  # the values in the sign, and the text and the address of the action


def _first_action(alert: Alert) -> dict[str, tuple[str, str]] | None:
    """Return the first action of a runbook itself, by language: its text and its address."""
    rows = _rows(alert)
    found = {
        language: next((action for _, action in rows[language] if action[1].startswith(f"{alert.runbook}#")), None)
        for language in rows
    }
    actions = {language: action for language, action in found.items() if action is not None}
    return actions if len(actions) == len(rows) > 0 else None


def _actions_by_value(alert: Alert) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the actions of the rows whose signs name values of a label of the alert, by value and language.

    A first row that names none is the most likely one for each value.
    """
    labels = {name.strip() for names in BY_PATTERN.findall(alert.expr) for name in names.split(",")}
    values = {
        value for row in INSTRUMENTS for label, known in row.labels.items() if label in labels for value in known or ()
    }
    rows = _rows(alert)
    if not rows or not rows["en"] or not rows["en"][0][0] & values:
        return {}
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for language, table in rows.items():
        for named, action in table:
            for value in sorted(named & values):
                found.setdefault(value, {}).setdefault(language, action)
    return found


def _rows(alert: Alert) -> dict[str, list[Row]]:
    """Return the rows of the table of a runbook by language. The result is empty if it lacks a language."""
    pages = {"en": RUNBOOKS / alert.runbook, "vi": RUNBOOKS / "vi" / alert.runbook}
    if not all(page.exists() for page in pages.values()):
        return {}
    return {
        language: [
            (
                frozenset(CODE_PATTERN.findall(sign)),
                (text, f"{alert.runbook}{target}" if target.startswith("#") else target),
            )
            for sign, text, target in ROW_PATTERN.findall(page.read_text())
        ]
        for language, page in pages.items()
    }


def _matcher(text: str) -> tuple[str, str, str]:
    found = MATCHER_PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(f"alertmanager.yml has a matcher of another form: {text!r}")
    label, operator, value = found.groups()
    return label, operator, value
