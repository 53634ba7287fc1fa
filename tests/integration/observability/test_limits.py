"""Each limit of a rule has a fault near it: if the limit is tripled, a test of the rules notices.

A test whose figures are far above a limit would pass with any limit.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from observability import rules

from tests.support.promql import queried_series, series_family

EVERY = int(os.environ.get("LIMIT_EVERY", "12"))  # of so many limits, one is tripled; all of them with 1
SHORT = "SupportSlaBreaching"  # the alert of the short form, whose tests are the fastest
QUOTED = re.compile(r'"[^"]*"')
LIMIT = re.compile(
    r"(?P<how>>=|<=|>|<|\*) (?:on \([^)]*\) )?(?:group_left \([^)]*\) )?\(?(?P<value>\d[\d.e]*)(?![\w.])"
)
RULES = {group: document["groups"][0]["rules"] for group, document in rules.rule_files().items()}
TESTS = {name: file for name, file in rules.rule_test_files().items() if name not in ("quiet-night", "noisy-day")}


@dataclass(frozen=True)
class Limit:
    """A number in the expression of a rule, by the places of its first digit and of the character after its last."""

    group: str
    rule: dict[str, Any]
    how: str
    first: int
    end: int

    @property
    def expr(self) -> str:
        return str(self.rule["expr"])

    def __str__(self) -> str:
        name = self.rule.get("alert") or self.rule["record"]
        return f"{name}: …{self.expr[max(self.first - 40, 0) : self.end]}"

    def tripled(self) -> dict[str, Any]:
        """Return the group of rules with three times the limit."""
        expr = f"{self.expr[: self.first]}{3 * float(self.expr[self.first : self.end]):g}{self.expr[self.end :]}"
        found = [{**rule, "expr": expr} if rule is self.rule else rule for rule in RULES[self.group]]
        return {"groups": [{"name": self.group, "rules": found}]}

    def concerned(self) -> tuple[set[str], set[str]]:
        """Return the alerts that depend on the limit, and the families of series that they read."""
        records = {rule["record"]: rule for rule in RULES[self.group] if "record" in rule}
        changed = {self.rule["record"]} if "record" in self.rule else set()
        for _ in records:
            changed |= {name for name, rule in records.items() if queried_series(rule["expr"]) & changed}
        alerts = [rule for rule in RULES[self.group] if "alert" in rule]
        alerts = [rule for rule in alerts if rule is self.rule or queried_series(rule["expr"]) & changed]
        names = set().union(*(queried_series(rule["expr"]) for rule in alerts))
        for _ in records:
            names |= set().union(*(queried_series(records[name]["expr"]) for name in names & records.keys()))
        return {rule["alert"] for rule in alerts}, names


def limits() -> Iterator[Limit]:
    for group, found in RULES.items():
        for rule in found:
            hidden = QUOTED.sub(lambda quoted: '"' + "_" * (len(quoted[0]) - 2) + '"', rule["expr"])
            for match in LIMIT.finditer(hidden):
                if float(match["value"]):
                    yield Limit(group, rule, match["how"], *match.span("value"))


LIMITS = [*limits()]
CHOSEN = [
    pytest.param(limit, marks=() if limit.rule.get("alert") == SHORT else pytest.mark.long)
    for number, limit in enumerate(LIMITS)
    if number % EVERY == 0 or limit.rule.get("alert") == SHORT
]


def test_limits_are_found():
    assert len(LIMITS) > 100


def rule_tests(limit: Limit) -> Iterator[dict[str, Any]]:
    """Yield the tests that concern a limit, each with the expectations of its alerts alone."""
    alerts, families = limit.concerned()
    own = re.compile(f'alertname="(?:{"|".join(sorted(alerts))})"')
    for file in TESTS.values():
        for test in file["tests"]:
            if not families & {series_family(each["series"].partition("{")[0]) for each in test["input_series"]}:
                continue
            expected = [
                {
                    **each,
                    "expr": each["expr"].replace('alertname!="Watchdog"', f'alertname=~"{"|".join(sorted(alerts))}"'),
                    "exp_samples": [sample for sample in each["exp_samples"] if own.search(sample["labels"])],
                }
                for each in test["promql_expr_test"]
            ]
            yield {**file, "rule_files": ["rules.yaml"], "tests": [{**test, "promql_expr_test": expected}]}


@pytest.mark.parametrize("limit", CHOSEN, ids=str)
def test_tripled_limit_is_noticed(promtool, tmp_path, limit):
    def run(group: dict[str, Any]) -> bool:
        (tmp_path / "rules.yaml").write_text(rules.dump_yaml(group))
        names = [f"{number}.yaml" for number, _ in enumerate(found)]
        command = [promtool, "test", "rules", *names]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=900).returncode == 0

    found = [*rule_tests(limit)]
    for number, test in enumerate(found):
        Path(tmp_path, f"{number}.yaml").write_text(rules.dump_yaml(test))
    assert found
    assert run({"groups": [{"name": limit.group, "rules": RULES[limit.group]}]})
    assert not run(limit.tripled())
