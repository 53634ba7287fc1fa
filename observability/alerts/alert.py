"""What an alert is made of."""

import re
from dataclasses import dataclass
from typing import Literal

OVERVIEW = "support-overview"  # the dashboard's uid

Severity = Literal["critical", "warning", "none"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule: critical calls a person, warning is read in working hours, none is for machines.

    In `expr` and `held`, seconds that are compared with an age stand as `{s:120}` and bytes as `{B:1024}`: the drill
    divides them, together with every duration.
    """

    name: str
    expr: str
    held: str  # how long the condition must hold
    severity: Severity
    summary: str
    description: str  # with values and units
    panel: str  # of the dashboard, by its title
    kept: str = (
        ""  # how long it goes on firing once the condition holds no more, so that what it silences is over first
    )

    @property
    def runbook(self) -> str:
        """The runbook's file name: the alert's in kebab case."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.name).lower() + ".md"


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    name: str
    expr: str


def of(duration: str) -> int:
    """The seconds of a duration in Prometheus's way: 5m is 300."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[duration[-1]]


def seconds(value: float) -> str:
    """Seconds in an expression."""
    return f"{{s:{value:g}}}"


def size(value: int) -> str:
    """Bytes in an expression."""
    return f"{{B:{value}}}"
