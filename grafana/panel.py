"""What a panel is made of, and the queries that are right for one replica and for ten.

A counter or a histogram is summed over replicas. A gauge that every replica reads from the same database or disk is
joined by `max` (by `min` where less is worse), and never by `sum`; what a process has of its own is shown by instance.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

JOB = 'job=~"$job"'
WINDOW = "$__rate_interval"
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel; `right` puts what it gives on an axis of its own, in a unit of its own."""

    expr: str
    legend: str
    right: str = ""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `limit` is the threshold of its alert: what is over it is bad, or, with `low`, what is under it."""

    title: str
    about: str
    queries: Sequence[Query]
    unit: str
    limit: float | None = None
    low: bool = False
    alerts: Sequence[str] = ()
    kind: Literal["lines", "stacked", "number", "states"] = "lines"
    width: int = 8  # of 24
    top: float | None = None  # of the axis
    words: dict[str, str] = field(default_factory=dict)  # what a number is shown as
    runbook: str = ""  # besides those of the alerts

    @property
    def runbooks(self) -> list[tuple[str, str]]:
        """(title, file) of each runbook that the panel leads to."""
        named = [(alert, runbook_of(alert)) for alert in self.alerts]
        return named + ([("Timeline slow or backlog growing", self.runbook)] if self.runbook else [])


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels."""

    title: str
    panels: Sequence[Panel]


def runbook_of(alert: str) -> str:
    """The file of an alert's runbook: its name in kebab case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert).lower() + ".md"


def series(metric: str, where: str = "", job: str = JOB) -> str:
    """A selector."""
    return f"{metric}{{{','.join(filter(None, (job, where)))}}}"


def rate(metric: str, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """How often a second, over all replicas."""
    return f"sum{_by(by)}(rate({series(metric, where)}[{window}]))"


def hourly(metric: str, by: str = "", where: str = "") -> str:
    """How often an hour, over all replicas: what is rare in a second can be read so."""
    return f"{rate(metric, by, where)} * {HOUR}"


def quantile(share: float, histogram: str, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """A quantile of a histogram, over all replicas."""
    labels = ", ".join(filter(None, (by, "le")))
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', labels, where, window)})"


def share(part: str, whole: str) -> str:
    """A part of a whole, 0 where there is a whole and no part, nothing where there is no whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def highest(gauge: str, by: str = "", where: str = "", job: str = JOB) -> str:
    """A gauge that every replica reads from the same place."""
    return f"max{_by(by)}({series(gauge, where, job)})"


def lowest(gauge: str, by: str = "", where: str = "") -> str:
    """The same, where less is worse."""
    return f"min{_by(by)}({series(gauge, where)})"


def total(gauge: str, by: str = "", where: str = "") -> str:
    """What each replica has a part of."""
    return f"sum{_by(by)}({series(gauge, where)})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
