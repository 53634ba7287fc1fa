"""What a replica finds wrong by its own figures: the conditions of the alerts, evaluated as Prometheus does.

No table is read, and nothing is asked: the figures are the measurements of this process. So the verdict holds while the
database, Redis, the upstream services and Prometheus are down.
"""

import asyncio
import logging
import os
import platform
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate
from time import monotonic
from typing import Any

from support_service.core.clock import utc_now
from support_service.oncall.expressions import Expression, Sample, Vector
from support_service.oncall.figures import Figures, Labels
from support_service.oncall.rules import AlertRule, Rules, read_rules
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

REPLICA = "replica"  # found by it
SERVICE = "support-service"  # the label `job` of a replica's series, and `service` of its alerts
FINE_SAMPLES = 24  # the last ones are all kept: six minutes
COARSE_STEP = 4  # of older ones, one of this many is kept
FRESH_SHARE = 1 / 15  # of the interval: younger samples are not taken again, however many requests come
log = logging.getLogger(__name__)
# Labels that say whose alert it is, and not what is wrong.
IDENTITY_LABELS = frozenset(
    {"alertname", "severity", "team", "service", "job", "instance", "cluster", "environment", "__name__"}
)
Key = tuple[str, frozenset[tuple[str, str]]]  # of an alert and its own labels


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds. `replicas` are the affected ones; none if the condition is about all of them.

    The last of `found_by` has named the replicas. A replica has host and process id as its name, and for Prometheus the
    address that it scrapes.
    """

    rule: AlertRule
    labels: Labels  # of the alert itself, such as the stage or the route
    since: datetime
    fires: bool  # whether it holds for as long as the alert waits
    value: float | None = None
    limit: float | None = None
    replicas: tuple[str, ...] = ()
    found_by: tuple[str, ...] = ()  # replica, prometheus
    summary: str | None = None  # the alert's own sentence, if Prometheus sent it

    @property
    def key(self) -> Key:
        """The identity of the problem, the same for a replica and Prometheus."""
        return self.rule.name, frozenset(self.labels.items())


@dataclass(frozen=True, slots=True)
class Failure:
    """A part that does not answer now. The alert on it may not have noticed yet."""

    rule: AlertRule
    labels: Labels
    error: str | None = None  # a sentence that says what is wrong


@dataclass(frozen=True, slots=True)
class OncallTimings:
    """Times in seconds. `rules` replaces the rules, so that tests can shorten their durations."""

    sample_interval: float = 15.0  # as Prometheus scrapes
    first_sample: float = 0.0  # after the start
    prometheus_timeout: float = 1.0  # the answer of on-call must not wait for Prometheus
    rules: Mapping[str, Any] | None = None  # by default those of this release


@dataclass(frozen=True, slots=True)
class _Active:
    sample: Sample
    since: float  # of the monotonic clock
    last_held: float
    fires: bool


class AlertStates:
    """Which alerts are pending or fire, as Prometheus keeps them."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._active: dict[tuple[str, frozenset[tuple[str, str]]], _Active] = {}

    def evaluate(self, figures: Figures, at: float) -> None:
        """Evaluate all rules at a time, which is later than all before."""
        for name, expression in self._rules.records:
            samples = _evaluated(name, expression, figures, at) or []
            figures.add(at, name, ((each.labels, each.value) for each in samples))
        for rule, expression in self._rules.judged:
            held = _evaluated(rule.name, expression, figures, at)
            if held is None:
                continue
            found = {frozenset(sample.labels.items()): sample for sample in held}
            for labels, sample in found.items():
                before = self._active.get((rule.name, labels))
                since = before.since if before else at
                fires = (before is not None and before.fires) or at - since >= rule.pending_for
                self._active[rule.name, labels] = _Active(sample, since, at, fires)
            for key, active in [item for item in self._active.items() if item[0][0] == rule.name]:
                ended = key[1] not in found
                if ended and not (active.fires and at - active.last_held < rule.keep_firing_for):
                    del self._active[key]

    def active(self) -> Iterable[tuple[AlertRule, Sample, float, bool]]:
        """Return each active alert with its sample, the time since when its condition holds, and whether it fires."""
        for (name, _), active in tuple(self._active.items()):
            yield self._rules.alerts[name], active.sample, active.since, active.fires


def _evaluated(name: str, expression: Expression, figures: Figures, at: float) -> Vector | None:
    """Return the samples of a rule, or None if they can't be computed: the other rules still are."""
    try:
        return expression(figures, at)
    except Exception:
        log.exception("The expression of %s can't be evaluated", name)
        return None


class Judge:
    """Samples the metrics of this process, and judges them by the conditions of the alerts."""

    def __init__(self, instruments: Instruments, timings: OncallTimings = OncallTimings()) -> None:
        self.rules = read_rules() if timings.rules is None else Rules(timings.rules)
        self.replica = f"{platform.node()}-{os.getpid()}"
        self.clock = monotonic
        interval = timings.sample_interval
        self._instruments = instruments
        self._failing_since: dict[Key, datetime] = {}
        self._interval = interval
        self._lock = threading.Lock()
        longest = self.rules.longest_range + 2 * COARSE_STEP * interval
        self._figures = Figures(longest, fine=FINE_SAMPLES * interval, step=COARSE_STEP * interval)
        self._states = AlertStates(self.rules)
        self._sampled_at = -interval

    async def refresh(self) -> None:
        """Take the samples of now and judge them, in a thread, unless the last ones are fresh."""
        await asyncio.to_thread(self._refresh)

    def _refresh(self) -> None:
        with self._lock:
            at = self.clock()
            if at - self._sampled_at < self._interval * FRESH_SHARE:
                return
            self._sampled_at = at
            self._figures.advance(at)
            own = {"job": SERVICE, "instance": self.replica}
            for name, samples, from_zero in _samples(self._instruments, self.rules.metrics, own):
                self._figures.add(at, name, samples, from_zero=from_zero)
            self._states.evaluate(self._figures, at)

    def failing_parts(self, failures: Iterable[Failure]) -> list[Finding]:
        """Return the failures of now as findings, with the time when each was first noted."""
        now = utc_now()
        found = [
            Finding(
                each.rule,
                each.labels,
                now,
                fires=False,
                replicas=(self.replica,),
                found_by=(REPLICA,),
                summary=each.error,
            )
            for each in failures
        ]
        self._failing_since = {each.key: self._failing_since.get(each.key, now) for each in found}
        return [replace(each, since=self._failing_since[each.key]) for each in found]

    def findings(self) -> list[Finding]:
        now, at = utc_now(), self.clock()
        return [
            Finding(
                rule,
                own_labels(sample.labels),
                now - timedelta(seconds=at - since),
                fires,
                sample.value,
                sample.limit,
                (self.replica,),
                (REPLICA,),
            )
            for rule, sample, since, fires in self._states.active()
        ]


def own_labels(labels: Labels) -> dict[str, str]:
    """Return the labels that say what is wrong."""
    return {name: value for name, value in labels.items() if name not in IDENTITY_LABELS and value}


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return each finding once. What Prometheus says comes last, and wins: it knows all replicas."""
    merged: dict[Key, Finding] = {}
    for each in findings:
        other = merged.get(each.key)
        if other is None:
            merged[each.key] = each
            continue
        are_named_alike = each.found_by[-1] == other.found_by[-1]
        merged[each.key] = replace(
            each,
            since=min(each.since, other.since),
            fires=each.fires or other.fires,
            limit=each.limit if each.limit is not None else other.limit,
            replicas=_union(other.replicas, each.replicas) if are_named_alike else each.replicas,
            found_by=_union(other.found_by, each.found_by),
            summary=each.summary or other.summary,
        )
    return list(merged.values())


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _samples(
    instruments: Instruments, wanted: Collection[str], own: dict[str, str]
) -> Iterable[tuple[str, list[tuple[Labels, float]], bool]]:
    """Return the present samples of metrics, under the names that Prometheus gives them, and whether they count."""
    for row, series in instruments.totals(lambda row: any(name in wanted for name in _metric_names(row))):
        by_labels: dict[frozenset[tuple[str, str]], tuple[Labels, Sequence[float]]] = {}
        for labels, values in series:
            named = {name.replace(".", "_"): str(value) for name, value in labels.items()} | own
            key = frozenset(named.items())
            known = by_labels.get(key)  # the same labels in another order are another series of the instrument
            added = values if known is None else [sum(pair) for pair in zip(values, known[1], strict=True)]
            by_labels[key] = named, added
        if row.kind != "histogram":
            samples = [(labels, values[0]) for labels, values in by_labels.values()]
            yield row.prometheus_name, samples, row.kind == "counter"
            continue
        count, bucket = _metric_names(row)
        yield count, [(labels, sum(values)) for labels, values in by_labels.values()], True
        if bucket in wanted:
            bounds = [*(str(float(bound)) for bound in row.buckets), "+Inf"]
            samples = [
                ({**labels, "le": bound}, total)
                for labels, values in by_labels.values()
                for bound, total in zip(bounds, accumulate(values), strict=True)
            ]
            yield bucket, samples, True


def _metric_names(row: InstrumentSpec) -> tuple[str, ...]:
    name = row.prometheus_name
    return (f"{name}_count", f"{name}_bucket") if row.kind == "histogram" else (name,)
