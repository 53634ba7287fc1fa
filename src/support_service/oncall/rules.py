"""The alerts as a replica knows them. `make observability` writes them from the signals, so that they are said once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Literal

from support_service.oncall.expressions import Expression, Matcher, Selector, matcher, range_seconds

Severity = Literal["critical", "warning"]
Unit = Literal["share", "seconds", "bytes", "number"]
Action = Mapping[str, tuple[str, str]]  # by language: its text, and its address in the folder of the runbooks


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alert. `expression` is None if a replica can't judge it: it needs other replicas, the probe, or days."""

    name: str
    part: str
    severity: Severity
    title: tuple[str, str]  # in English and Vietnamese
    unit: Unit | None
    pending_for: float  # seconds
    keep_firing_for: float  # seconds
    expression: Expression | None
    runbook: str
    dashboard: str
    panel: str
    action: Action | None  # what its runbook names first
    actions: Mapping[str, Action]  # what it names for the values of a label, where that depends on them

    def action_for(self, labels: Mapping[str, str]) -> Action | None:
        return next((self.actions[value] for value in labels.values() if value in self.actions), self.action)


@dataclass(frozen=True, slots=True)
class Inhibition:
    """Alerts that match `target` follow from one that matches `source`, if the labels `equal` are equal.

    Of these labels only `instance` and `dependency` can differ in the alerts of one service.
    """

    source: Sequence[Matcher]
    target: Sequence[Matcher]
    equal: Sequence[str]


class Rules:
    """All alerts, the rules that record what they use, and which alerts follow from others."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.records = [(each["record"], Expression(each["expr"])) for each in document["records"]]
        self.alerts = {each["alert"]: _alert_rule(each) for each in document["alerts"]}
        self.inhibitions = [
            Inhibition(_matchers(each["source"]), _matchers(each["target"]), each["equal"])
            for each in document["inhibitions"]
        ]

    @cached_property
    def judged(self) -> list[tuple[AlertRule, Expression]]:
        return [(rule, rule.expression) for rule in self.alerts.values() if rule.expression is not None]

    @cached_property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics that expressions use."""
        return frozenset(selector.name for selector in self._selectors)

    @cached_property
    def longest_range(self) -> float:
        """How far back expressions look, in seconds."""
        return max(selector.reach for selector in self._selectors)

    @property
    def _selectors(self) -> list[Selector]:
        expressions = [expression for _, expression in (*self.records, *self.judged)]
        return [selector for expression in expressions for selector in expression.selectors]


@cache
def read_rules() -> Rules:
    return Rules(json.loads((files("support_service.oncall") / "rules.json").read_text()))


def _matchers(found: Sequence[Sequence[str]]) -> list[Matcher]:
    return [matcher(*parts) for parts in found]


def _alert_rule(each: Mapping[str, Any]) -> AlertRule:
    return AlertRule(
        name=each["alert"],
        part=each["part"],
        severity=each["severity"],
        title=(each["title"][0], each["title"][1]),
        unit=each["unit"],
        pending_for=range_seconds(each["for"]),
        keep_firing_for=range_seconds(each["keep_firing_for"]),
        expression=each["expr"] and Expression(each["expr"]),
        runbook=each["runbook"],
        dashboard=each["dashboard"],
        panel=each["panel"],
        action=each["action"],
        actions=each.get("actions", {}),
    )
