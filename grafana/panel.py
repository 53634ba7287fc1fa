"""Data types of panels, and queries that are correct for one replica and for ten.

A counter or a histogram is summed over replicas. A gauge that every replica reads from the same database or disk is
joined by `max`, and never by `sum`. It is joined by `min` where less is worse. A process's own values are shown by
instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

JOB_SELECTOR = 'job=~"$job",instance=~"$instance"'  # what the variables of the dashboard choose
RATE_INTERVAL = "$__rate_interval"
HOUR_SECONDS = 3600
FIRST_RUNBOOK = "timeline-slow-or-attachment-backlog.md"  # of the first row


RowKey = Literal[
    "first",
    "objectives",
    "api",
    "probe",
    "replicas",
    "dependencies",
    "reads",
    "sources",
    "events",
    "access",
    "cases",
    "service levels",
    "stream",
    "process",
    "stores",
    "attachments",
]
"""The rows of the dashboards, whose titles are in rows.py."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. `right` is the unit of a second axis that shows its result."""

    expr: str
    legend: str
    right: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `limit` is the threshold of its alert: values above it are bad or, with `low`, values below it.

    A dashboard shows the panels of a row by their place, and panels of one place by title.
    """

    title: str
    about: str
    row: RowKey
    place: int
    queries: Sequence[Query]
    unit: str
    limit: float | None = None
    low: bool = False
    alerts: Sequence[str] = ()  # by default the alerts of the panel's signal
    kind: Literal["lines", "stacked", "number", "states"] = "lines"
    width: int = 8  # of 24
    top: float | None = None  # maximum of the axis
    words: dict[str, str] = field(default_factory=dict)  # texts that replace numbers
    runbook: str = ""  # in addition to the alerts' runbooks


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]


def selector(metric: str, where: str = "", job: str = JOB_SELECTOR) -> str:
    """Return a selector of a metric."""
    return f"{metric}{{{','.join(filter(None, (job, where)))}}}"


def rate(metric: str, by: str = "", where: str = "", window: str = RATE_INTERVAL) -> str:
    """Return the rate per second, summed over replicas."""
    return f"sum{_by_clause(by)}(rate({selector(metric, where)}[{window}]))"


def hourly_rate(metric: str, by: str = "", where: str = "") -> str:
    """Return the rate per hour, summed over replicas, which is readable for rare events."""
    return f"{rate(metric, by, where)} * {HOUR_SECONDS}"


def quantile(share: float, histogram: str, by: str = "", where: str = "", window: str = RATE_INTERVAL) -> str:
    """Return a quantile of a histogram over all replicas."""
    labels = ", ".join(filter(None, (by, "le")))
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', labels, where, window)})"


def ratio(part: str, whole: str) -> str:
    """Return a part of a whole: 0 if only the part is missing, no result if the whole is missing or 0."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def highest_over_replicas(gauge: str, by: str = "", where: str = "", job: str = JOB_SELECTOR) -> str:
    """Return the maximum of a gauge that every replica reads from the same place."""
    return f"max{_by_clause(by)}({selector(gauge, where, job)})"


def lowest_over_replicas(gauge: str, by: str = "", where: str = "") -> str:
    """Return the minimum of a gauge that every replica reads from the same place, where less is worse."""
    return f"min{_by_clause(by)}({selector(gauge, where)})"


def total_over_replicas(gauge: str, by: str = "", where: str = "") -> str:
    """Return the sum of a gauge whose value is divided among the replicas."""
    return f"sum{_by_clause(by)}({selector(gauge, where)})"


def query_for_each_replica(expr: str) -> tuple[Query, ...]:
    """Return a query with a line for each replica."""
    return (Query(expr, "{{instance}}"),)


def _by_clause(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
