"""Data types of alerts and recording rules."""

import re
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "none"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule: critical pages a person, warning is read in working hours, none is for machines.

    In `expr` and `held`, seconds that are compared with an age are written as `{s:120}`, and bytes as `{B:1024}`. The
    drill divides them and every duration.
    """

    name: str
    short: tuple[str, str]  # what has happened, in English and Vietnamese, for lists of alerts
    expr: str
    held: str  # how long the condition must hold
    severity: Severity
    summary: str
    description: str  # with values and units
    panel: str  # title of a panel of a dashboard
    kept: str = ""  # how long it fires after its condition ended, so that inhibited alerts resolve first

    @property
    def runbook(self) -> str:
        """Return the runbook's file name."""
        return runbook_of(self.name)


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    name: str
    expr: str


def runbook_of(alert: str) -> str:
    """Return the file name of an alert's runbook, which is the alert's name in kebab case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", alert).lower() + ".md"


def of(duration: str) -> int:
    """Return the seconds of a duration in Prometheus's syntax: 5m is 300."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]


def seconds(value: float) -> str:
    """Return seconds as they are written in an expression."""
    return f"{{s:{value:g}}}"


def size(value: int) -> str:
    """Return bytes as they are written in an expression."""
    return f"{{B:{value}}}"
