"""A signal: its alerts, their panels, the faults that make them fire and are drilled, and what their runbooks state.

Each file of `signals/` declares one. Its thresholds are constants with their unit and their reason. Durations use
Prometheus's syntax (`3m`). A value that is compared with a number is a number. The drill divides times and bytes by
constants of its own, and changes nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from grafana.panel import Panel

from observability.drill import DrillFault, Exercise
from observability.faults import Fault

# faults.py has the interval of evaluations, a minute. Ranges of cause alerts are 3 evaluations long, so that an alert
# resolves within six evaluations of the repair. SupportUploadsRefused, which is kept for longer, takes eight, and
# SupportAttachmentOffloadFailing eleven.
SCRAPE_EVERY = "15s"
WINDOW = "3m"  # range of the rates in alerts: 12 scrapes; a few may be lost
SYMPTOM_WINDOW = "2m"  # range of symptoms, so that a symptom resolves before its cause

# How long a condition must hold before its alert fires. Causes fire first, so that they can inhibit their symptoms.
AT_ONCE = "0m"  # for conditions that never occur by chance
CAUSE_FOR = "2m"  # longer than a restart, and than a deployment's last replica takes
CAUSE_KEPT = "3m"  # a cause keeps firing this long after it ended: longer than the window of any symptom that it mutes
SYMPTOM_FOR = "5m"  # by then the alert on a cause, if there is one, has fired
SLOW_FOR = "10m"  # for latency, as in the objective, the backlog, which grows slowly, and failures that repeats hide
PROBE_RECENT = "5m"  # for this long after its last bad run, the probe counts as flapping
EVENTS_FOR = "2m"  # as for a cause: agents notice it only by missing information

GIB = 1024**3
SERVICE_JOB = 'job="support-service"'
PUSH_WINDOW = "1m"  # a replica that pushes every SCRAPE_EVERY and has not for this long does not run: four are missing
PUSHING = f"last_over_time(support_replica_ready{{{SERVICE_JOB}}}[{PUSH_WINDOW}])"  # of each replica that pushes

LABELS_PATTERN = re.compile(r'"[^"]*"')
LIMIT_PATTERN = re.compile(r"[<>]=? (?:bool )?(?:\{[sB]:)?(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")  # of a comparison

Severity = Literal["critical", "warning", "none"]
Group = Literal[
    "timeline",
    "attachments",
    "events",
    "service-levels",
    "service",
    "replicas",
    "dependencies",
    "access",
    "traffic",
    "objectives",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule: critical pages a person, warning is read in working hours, none is for machines.

    In `expr`, seconds that are compared with an age are written as `{s:120}`, and bytes as `{B:1024}`. The drill
    divides them and every duration.
    """

    name: str
    short: tuple[str, str]  # what has happened, in English and Vietnamese, for lists of alerts
    expr: str
    for_: str  # how long the condition must hold
    severity: Severity
    summary: str
    description: str  # with values and units
    panel: str = ""  # title of a panel of a dashboard; by default the first one of the signal
    alone_expr: str = ""  # what a replica judges by itself, without the days before or durations; by default the same
    pushed_expr: str = ""  # where replicas push their metrics and `up` does not exist; by default the same
    pushed_description: str = ""
    keep_firing_for: str = ""  # after the condition ended, so that inhibited alerts resolve first
    labels: Mapping[str, str] = field(default_factory=dict)  # more labels, as templates; an empty one does not exist
    stated: Sequence[str] = ()  # what the page of the runbook says about the threshold; only Watchdog has none

    def as_pushed(self) -> "Alert":
        """Return the alert for metrics that replicas push."""
        return replace(
            self, expr=self.pushed_expr or self.expr, description=self.pushed_description or self.description
        )

    @property
    def limits(self) -> frozenset[float]:
        """Return the numbers that its expression compares with, without 0 and 1, which stand for no and yes."""
        return frozenset(map(float, LIMIT_PATTERN.findall(LABELS_PATTERN.sub("", self.expr)))) - {0, 1}

    @property
    def runbook(self) -> str:
        """Return the runbook's file name."""
        return runbook_of(self.name)


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    name: str
    expr: str


@dataclass(slots=True, kw_only=True)
class Signal:
    """What is watched. An alert leads to the first panel, and panels to all alerts, unless they name others."""

    group: Group
    alerts: Sequence[Alert]
    records: Sequence[Record] = ()
    panels: Sequence[Panel] = ()
    faults: Mapping[str, Fault] = field(default_factory=dict)
    drills: Sequence[DrillFault] = ()
    exercises: Sequence[Exercise] = ()

    def __post_init__(self) -> None:
        """Complete alerts and panels. Raises ValueError for a panel without alert, and an alert without panel or page.

        The faults of alerts that need days are in `days.py`.
        """
        if not self.alerts:
            raise ValueError(f"no alert watches the panels {[panel.title for panel in self.panels]}")
        first = self.panels[0].title if self.panels else ""
        self.alerts = [replace(alert, panel=alert.panel or first) for alert in self.alerts]
        for alert in self.alerts:
            if not alert.panel:
                raise ValueError(f"{alert.name} has no panel: give its signal one, or name a panel of another one")
            if not alert.stated and alert.severity != "none":
                raise ValueError(f"{alert.name} does not say what its runbook states about the threshold")
        names = tuple(alert.name for alert in self.alerts)
        self.exercises = [replace(each, alert=each.alert or names[0]) for each in self.exercises]
        self.panels = [replace(panel, alerts=panel.alerts or names) for panel in self.panels]


def runbook_of(alert: str) -> str:
    """Return the file name of an alert's runbook, which is the alert's name in kebab case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", alert).lower() + ".md"


def duration_seconds(duration: str) -> int:
    """Return the seconds of a duration in Prometheus's syntax: 5m is 300."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]


def scaled_seconds(value: float) -> str:
    """Return seconds as they are written in an expression."""
    return f"{{s:{value:g}}}"


def scaled_bytes(value: int) -> str:
    """Return bytes as they are written in an expression."""
    return f"{{B:{value}}}"


# Text of a template: the share of all requests that the replica of the alert gets.
REQUESTS_OF_REPLICAS = f"http_server_request_duration_seconds_count{{{SERVICE_JOB}%s}}[{SYMPTOM_FOR}]"
SHARE_OF_REQUESTS = (
    f"{{{{ range query (printf `sum(rate({REQUESTS_OF_REPLICAS % ',instance=%q'}))"
    f" / on () sum(rate({REQUESTS_OF_REPLICAS % ''}))` $labels.instance) }}}}"
    "{{ .Value | humanizePercentage }}{{ end }}"
)


def value_template(expr: str, form: str = "humanize", otherwise: str = "") -> str:
    """Return text of a template with the value of a query in a form, which is a template function, or another text."""
    return f"{{{{ with query `{expr}` }}}}{{{{ . | first | value | {form} }}}}{{{{ else }}}}{otherwise}{{{{ end }}}}"


def highest_label_template(label: str, expr: str) -> str:
    """Return text of a template that names the value of `label` with the highest result of a query."""
    return f"{{{{ range query `topk(1, {expr})` }}}}{{{{ .Labels.{label} }}}}{{{{ end }}}}"
