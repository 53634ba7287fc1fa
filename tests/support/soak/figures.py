"""What a soak measures, and by how much each figure may grow: slopes by least squares after a warm-up."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import NamedTuple

WARM_UP = 0.25  # share of the time that is left out: caches, pools and the log fill
FEWEST_SAMPLES = 3  # after the warm-up, for a slope
HOUR = 3600.0  # seconds


class Sample(NamedTuple):
    """A value at a time, in seconds from the start."""

    at: float
    value: float


@dataclass(frozen=True)
class Figure:
    """A figure of a deployment. `may_vary` is what it may grow within a run of any length, `may_grow` in an hour.

    What fills for some seconds may vary by less in a longer run, in proportion.
    """

    name: str
    unit: str
    may_vary: float
    may_grow: float
    fills_for: float = math.inf

    def judge(self, samples: Sequence[Sample]) -> "Verdict":
        """Return by how much the figure grows, beside what it may grow. Raises ValueError for too few samples."""
        steady = without_warm_up(samples)
        if len(steady) < FEWEST_SAMPLES:
            raise ValueError(f"{len(steady)} of {len(samples)} samples are after the warm-up, not {FEWEST_SAMPLES}")
        seconds = steady[-1].at - steady[0].at
        hours = seconds / HOUR
        slope = linear_regression([each.at / HOUR for each in steady], [each.value for each in steady]).slope
        allowed = self.may_vary * min(1.0, self.fills_for / seconds) + self.may_grow * hours
        return Verdict(self, slope, slope * hours, allowed)


@dataclass(frozen=True)
class Verdict:
    """The growth of a figure after the warm-up: in an hour, in all, and how much is allowed."""

    figure: Figure
    slope: float
    growth: float
    allowed: float

    @property
    def is_steady(self) -> bool:
        return self.growth <= self.allowed

    def __str__(self) -> str:
        unit = f" {self.figure.unit}" if self.figure.unit else ""
        return f"{self.figure.name}: {self.growth:+.1f}{unit}, at most +{self.allowed:.1f} ({self.slope:+.1f} an hour)"


def without_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    begin = samples[0].at + WARM_UP * (samples[-1].at - samples[0].at)
    return [each for each in samples if each.at >= begin]


# Sums over the processes of the service. Rows and keys may vary by what a run of seconds adds before its steady state.
FIGURES = (
    Figure("Open descriptors", "", may_vary=40, may_grow=4),
    Figure("Resident memory", "MiB", may_vary=40, may_grow=6, fills_for=600.0),
    Figure("asyncio tasks", "", may_vary=40, may_grow=4),
    Figure("Write-ahead log", "MiB", may_vary=64, may_grow=0),
    Figure("Rows of tables", "", may_vary=4000, may_grow=0),
    Figure("Keys of Redis", "", may_vary=400, may_grow=0),
    Figure("Memory of Redis", "MiB", may_vary=4, may_grow=0),
)


def unsteady(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the lines of the figures that grow by more than they may."""
    return [str(each) for each in verdicts if not each.is_steady]
