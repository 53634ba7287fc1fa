"""The verdict: each problem once, with what follows from it, from what this replica and Prometheus found."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from support_service.oncall.judge import Finding
from support_service.oncall.rules import Inhibition, Rules, Unit

MINUTE, HOUR = 60, 3600  # s
SHARED_PARTS = frozenset({"outbox", "stream", "deadLetters", "auditSealer", "serviceLevels"})
"""Parts whose figures every replica reads from the same database or Redis: one replica speaks for all."""


@dataclass(slots=True)
class Problem:
    """A problem, and the findings that follow from it."""

    finding: Finding
    symptoms: list[Finding] = field(default_factory=list)

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas that it concerns; none if it concerns all."""
        return () if self.finding.rule.part in SHARED_PARTS else self.finding.replicas


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, worst first, and what follows from sources that are switched off on purpose."""

    level: Literal["good", "degraded", "bad"]
    problems: Sequence[Problem]
    deliberate: Mapping[str, Sequence[Finding]]  # by the name of the override


def reach_verdict(findings: Sequence[Finding], rules: Rules, overrides: Collection[str]) -> Verdict:
    """Return the verdict. `overrides` are the names of the overrides in effect.

    It is bad if an alert fires. It is degraded if a condition holds for less than its alert waits, or if an override is
    in effect.
    """
    problems = fold_symptoms(sorted(findings, key=_urgency), rules.inhibitions)
    deliberate: dict[str, list[Finding]] = {name: [] for name in overrides}
    for problem in tuple(problems):
        source = problem.finding.labels.get("dependency", "")
        if source in deliberate:
            deliberate[source] += [problem.finding, *problem.symptoms]
            problems.remove(problem)
    problems.sort(key=lambda each: _urgency(each.finding))
    fires = any(each.finding.fires for each in problems)
    return Verdict("bad" if fires else "degraded" if problems or deliberate else "good", problems, deliberate)


def fold_symptoms(findings: Sequence[Finding], inhibitions: Iterable[Inhibition]) -> list[Problem]:
    """Return the findings that no other one explains, each with the findings that it explains and would mute."""
    inhibitions = list(inhibitions)
    causes: dict[int, int] = {}
    for place, target in enumerate(findings):
        muted: dict[int, set[str]] = {}  # the replicas of the target, by what explains it there
        for cause, source in enumerate(findings):
            for each in inhibitions:
                if cause != place and (replicas := _muted_replicas(each, source, target)) is not None:
                    muted.setdefault(cause, set()).update(replicas)
        if muted and set().union(*muted.values()) == set(target.replicas):
            causes[place] = max(muted, key=lambda cause: len(muted[cause]))
    problems = {place: Problem(finding) for place, finding in enumerate(findings) if place not in causes}
    for place in causes:
        root = _root(causes, place)
        problems.setdefault(root, Problem(findings[root])).symptoms.append(findings[place])
    return list(problems.values())


def _root(causes: Mapping[int, int], place: int) -> int:
    seen = {place}
    while (cause := causes.get(place, place)) not in seen:
        seen.add(cause)
        place = cause
    return place


def _urgency(finding: Finding) -> tuple[bool, bool, datetime]:
    return not finding.fires, finding.rule.severity != "critical", finding.since


def _muted_replicas(inhibition: Inhibition, source: Finding, target: Finding) -> set[str] | None:
    """Return the replicas of the target for which the source explains it, None if it does not."""
    if target.fires and not source.fires:
        return None
    for matchers, finding in ((inhibition.source, source), (inhibition.target, target)):
        labels = _labels(finding)
        if not all(matches(labels) for matches in matchers):
            return None
    if "dependency" in inhibition.equal and source.labels.get("dependency") != target.labels.get("dependency"):
        return None
    names_agree = source.found_by[-1] == target.found_by[-1]  # Prometheus names a replica by its address
    if "instance" in inhibition.equal and names_agree:
        return set(target.replicas) & set(source.replicas) or None
    return set(target.replicas)


def _labels(finding: Finding) -> dict[str, str]:
    return {"alertname": finding.rule.name, "severity": finding.rule.severity, **finding.labels}


def describe(finding: Finding) -> str:
    """Return what is wrong in English, with the figure and its limit."""
    if finding.summary:
        return finding.summary
    labels = ", ".join(finding.labels.values())
    figure = describe_figure(finding.value, finding.rule.unit)
    limit = describe_figure(finding.limit, finding.rule.unit)
    text = finding.rule.title[0] + (f" ({labels})" if labels else "")
    return text + (f": {figure}" + (f" (limit {limit})" if limit else "") if figure else "")


def describe_figure(value: float | None, unit: Unit | None) -> str:
    """Return a value with its unit; empty if it says nothing to people."""
    if value is None or unit is None:
        return ""
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    if unit == "seconds" and abs(value) >= MINUTE:
        return f"{value / MINUTE:.3g} min" if abs(value) < HOUR else f"{value / HOUR:.3g} h"
    return f"{value:.3g}" + (" s" if unit == "seconds" else "")
