"""Faults in promtool's notation: what their series show, which alerts fire, and the files of tests that hold it.

A fault lasts from BROKEN to REPAIRED. Each alert fires during its fault, alone or with alerts that it implies, and
resolves after the repair.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

NIGHT_MINUTE, BROKEN_MINUTE, REPAIRED_MINUTE = (
    20,
    60,
    100,
)  # minutes after the start: end of the night, start of the fault, repair
EVALUATE_EVERY = "1m"
UP_SERIES, PROBE_SERIES = 'up{job="support-service",instance="a"}', 'support_probe_success{job="support-probe"}'
HEALTHY_SERIES = {UP_SERIES: 1, PROBE_SERIES: 1}


@dataclass(frozen=True, slots=True)
class CounterValues:
    """A counter's growth a minute: usual, during the fault (`broken`), and in the night before if it differs."""

    usual: float = 0
    broken: float = 0
    night: float | None = None

    def values(self) -> str:
        """Return the values in promtool's notation."""
        night = self.usual if self.night is None else self.night
        phases = (
            (night, NIGHT_MINUTE),
            (self.usual, BROKEN_MINUTE - NIGHT_MINUTE),
            (self.broken, REPAIRED_MINUTE - BROKEN_MINUTE),
            (self.usual, 60),
        )
        parts, at = [], 0.0
        for growth, minutes in phases:
            parts.append(_growing_values(at + growth, growth, minutes))
            at += growth * minutes
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class GaugeValues:
    """A gauge's usual value, its value during the fault and its growth a minute then. None stands for no samples."""

    usual: float | None
    broken: float | None
    growth: float = 0

    def values(self) -> str:
        """Return the values in promtool's notation."""
        phases = (
            (self.usual, 0, BROKEN_MINUTE),
            (self.broken, self.growth, REPAIRED_MINUTE - BROKEN_MINUTE),
            (self.usual, 0, 60),
        )
        return " ".join(
            f"_x{minutes}" if value is None else _growing_values(value, growth, minutes)
            for value, growth, minutes in phases
        )


@dataclass(frozen=True, slots=True)
class RestartedValues:
    """A gauge whose process ends before the repair. It has no samples until the repair, and the usual value afterwards.

    If it does not return, another process has replaced it.
    """

    usual: float
    broken: float
    silent: int  # minutes before the repair
    returns: bool = True

    def values(self) -> str:
        """Return the values in promtool's notation."""
        told = _growing_values(self.broken, 0, REPAIRED_MINUTE - BROKEN_MINUTE - self.silent)
        after = _growing_values(self.usual, 0, 60) if self.returns else "_x60"
        return f"{_growing_values(self.usual, 0, BROKEN_MINUTE)} {told} stale _x{self.silent - 1} {after}"


@dataclass(frozen=True, slots=True)
class CrashingValues:
    """An uptime in seconds, whose process starts again every three minutes during the fault."""

    def values(self) -> str:
        """Return the values in promtool's notation."""
        rounds = (REPAIRED_MINUTE - BROKEN_MINUTE) // 3
        return " ".join(
            [
                _growing_values(60, 60, BROKEN_MINUTE),
                *[_growing_values(15, 60, 3)] * rounds,
                _growing_values(15, 60, 60 + 1),
            ]
        )


@dataclass(frozen=True, slots=True)
class FlappingValues:
    """The results of a probe that fails at some runs during the fault: its pattern, again and again."""

    pattern: str = "0 1"

    def values(self) -> str:
        """Return the values in promtool's notation."""
        return " ".join(
            [
                _growing_values(1, 0, BROKEN_MINUTE),
                *islice(cycle(self.pattern.split()), REPAIRED_MINUTE - BROKEN_MINUTE),
                _growing_values(1, 0, 60),
            ]
        )


SeriesValues = CounterValues | GaugeValues | RestartedValues | CrashingValues | FlappingValues
STEADY_COUNTER = CounterValues(60, 60)


@dataclass(frozen=True, slots=True)
class Wait:
    """How long the condition of an alert must hold, and how far its expression looks back, in minutes."""

    holds: int
    looks_back: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that lasts from BROKEN to REPAIRED, and the alerts that fire because of it."""

    alerts: tuple[str, ...]  # with their own labels as `Alert{stage="http"}`
    series: dict[str, SeriesValues]
    resolved_after: int = REPAIRED_MINUTE + 6  # minutes after the start: six evaluations after the repair
    still_firing: tuple[str, ...] = ()  # alerts that still fire then, because they look further back
    fires_after: int | None = None  # minutes after BROKEN_MINUTE, if before the longest window has passed


def test_files_of_faults(
    faults: Mapping[str, Fault], expressions: Mapping[str, str], waits: Mapping[str, Wait]
) -> dict[str, dict[str, Any]]:
    """Return the test files by name, given the expressions of each group of rules: one file per set of groups.

    The test of a fault checks that no alert fires before its wait has passed. It checks which alerts fire soon after it
    and just before the repair, and which still fire after the repair. It loads the groups that name one of its series:
    all others have the same values as in the test of a healthy service.
    """
    healthy = _fault_test("nothing is wrong", Fault((), {}), waits)
    tests: dict[frozenset[str], list[dict[str, Any]]] = {frozenset(): [healthy]}
    for name, fault in faults.items():
        metrics = {re.escape(series.partition("{")[0]) for series in fault.series}
        concerned = frozenset(
            group for group, text in expressions.items() if any(re.search(rf"\b{each}\b", text) for each in metrics)
        )
        tests.setdefault(concerned, []).append(_fault_test(name, fault, waits))
    return {
        "-".join(["faults", *sorted(groups)] if groups else ["healthy"]): promtool_test_file(
            found, sorted(groups or expressions)
        )
        for groups, found in tests.items()
    }


def expect_firing(at: str, alerts: tuple[str, ...]) -> dict[str, Any]:
    """Return the expectation that exactly these alerts fire at a time."""
    samples = []
    for alert in alerts:
        name, _, own = alert.partition("{")
        more = f", {own}" if own else "}"
        samples.append({"labels": f'{{alertname="{name}"{more}', "value": 1})
    labels = "alertname, stage, dependency, direction, instance, resource, endpoint, target, http_route"
    query = f'sum by ({labels}) (ALERTS{{alertstate="firing",alertname!="Watchdog"}})'
    return {"expr": query, "eval_time": at, "exp_samples": samples}


def promtool_test_file(
    tests: list[dict[str, Any]], groups: Sequence[str] = ("*",), evaluate_every: str = EVALUATE_EVERY
) -> dict[str, Any]:
    """Return a test file that loads the named groups of rules, by default of all groups."""
    files = [f"../rules/{group}.yaml" for group in groups]
    return {"rule_files": files, "evaluation_interval": evaluate_every, "tests": tests}


def _fault_test(name: str, fault: Fault, waits: Mapping[str, Wait]) -> dict[str, Any]:
    health = {series: f"{value}x200" for series, value in HEALTHY_SERIES.items()}
    series = health | {series: values.values() for series, values in fault.series.items()}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            *_expect_waits(fault, [waits[alert.partition("{")[0]] for alert in fault.alerts]),
            expect_firing(f"{REPAIRED_MINUTE - 1}m", fault.alerts),
            expect_firing(f"{fault.resolved_after}m", fault.still_firing),
        ],
    }


def _expect_waits(fault: Fault, waits: Sequence[Wait]) -> Iterator[dict[str, Any]]:
    """Yield what a fault shows whose whole effect is there at once: nothing at first, and all alerts in time."""
    steady = [
        each
        for each in fault.series.values()
        if isinstance(each, CounterValues)
        or (isinstance(each, GaugeValues) and each.broken is not None and each.growth == 0)
    ]
    if not waits or len(steady) < len(fault.series) or all(each.usual == each.broken for each in steady):
        return
    first = min(wait.holds for wait in waits)
    if first:
        yield expect_firing(f"{BROKEN_MINUTE + first - 1}m", ())
    last = fault.fires_after or max(wait.holds + wait.looks_back for wait in waits) + 1
    if BROKEN_MINUTE + last < REPAIRED_MINUTE - 1:
        yield expect_firing(f"{BROKEN_MINUTE + last}m", fault.alerts)


def _growing_values(first: float, step: float, minutes: int) -> str:
    return f"{first:.12g}{step:+.12g}x{minutes - 1}"
