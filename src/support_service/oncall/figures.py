"""The figures of this process over time: the samples of its series, as a Prometheus that scrapes it keeps them."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

Labels = Mapping[str, str]
Point = tuple[float, float]  # time and value
NO_VALUE = -math.inf  # equal to itself, unlike NaN


def _numbers() -> "array[float]":
    """Return a list of numbers that takes 8 bytes each, where objects take 32."""
    return array("d")


@dataclass(slots=True)
class Series:
    """The values of a series: each change with its time. NO_VALUE: it had none from then on."""

    labels: Labels
    changed_at: "array[float]" = field(default_factory=_numbers)
    values: "array[float]" = field(default_factory=_numbers)

    def value_at(self, at: float) -> float | None:
        place = bisect_right(self.changed_at, at)
        return _known(self.values[place - 1]) if place else None

    def set(self, at: float, value: float) -> None:
        """Note the value at a time, which is later than all others."""
        if not self.values or self.values[-1] != value:
            self.changed_at.append(at)
            self.values.append(value)

    def postpone(self, at: float, until: float) -> None:
        """Move a change to the next time that is kept, unless that time has a change of its own."""
        place = bisect_left(self.changed_at, at)
        if place == len(self.changed_at) or self.changed_at[place] != at:
            return
        if place + 1 < len(self.changed_at) and self.changed_at[place + 1] == until:
            del self.changed_at[place], self.values[place]
        else:
            self.changed_at[place] = until

    def forget(self, before: float) -> None:
        """Forget what is older, except the value at that time."""
        outdated = bisect_right(self.changed_at, before) - 1
        if outdated > 0:
            del self.changed_at[:outdated], self.values[:outdated]


class Figures:
    """Samples of all series at the same times: all of the last `fine` seconds, older ones once for each `step`."""

    def __init__(self, keep: float = math.inf, *, fine: float = math.inf, step: float = 60.0) -> None:
        self._keep, self._fine, self._step = keep, fine, step
        self.times: list[float] = []
        self._series: dict[str, dict[frozenset[tuple[str, str]], Series]] = {}

    def add(self, at: float, name: str, samples: Iterable[tuple[Labels, float]], *, from_zero: bool = False) -> None:
        """Add the values of a metric at a time that `advance` has begun. Other series of it have none from then on.

        With `from_zero`, a new series was 0 before: so the first failure of a kind counts, which a scraper would miss.
        """
        known = self._series.setdefault(name, {})
        found = {}
        for labels, value in samples:
            key = frozenset(labels.items())
            found[key] = value
            if key not in known:
                known[key] = Series(labels)
                if from_zero and len(self.times) > 1:
                    known[key].set(self.times[-2], 0.0)
        for key, series in known.items():
            series.set(at, found.get(key, NO_VALUE))

    def advance(self, at: float) -> None:
        """Begin the samples of a time, and forget what no expression looks at."""
        self.times.append(at)
        coarse = bisect_left(self.times, at - self._fine)
        kept = [time for time in self.times[:coarse] if time >= at - self._keep]
        steps = {int(time // self._step): time for time in reversed(kept)}  # the first time of each step
        remaining = {*steps.values()}
        followed = pairwise([*kept, self.times[coarse]])
        left_out = [(time, following) for time, following in followed if time not in remaining]
        self.times[:coarse] = reversed(steps.values())
        for series in self._all() if left_out or len(kept) < coarse else ():
            series.forget(self.times[0])
            for time, following in left_out:
                series.postpone(time, following)

    def _all(self) -> Iterable[Series]:
        return (series for known in self._series.values() for series in known.values())

    def select(self, name: str) -> Collection[Series]:
        return self._series.get(name, {}).values()

    def span(self, first: float, last: float) -> tuple[int, int]:
        """Return the places of the times from `first` to `last`."""
        return bisect_left(self.times, first), bisect_right(self.times, last)

    def points(self, series: Series, first: float, last: float) -> list[Point]:
        """Return the samples of a series from `first` to `last`."""
        begin, end = self.span(first, last)
        found = []
        place = bisect_right(series.changed_at, self.times[begin]) if begin < end else 0
        for time in self.times[begin:end]:
            while place < len(series.changed_at) and series.changed_at[place] <= time:
                place += 1
            value = _known(series.values[place - 1]) if place else None
            if value is not None:
                found.append((time, value))
        return found


def _known(value: float) -> float | None:
    return None if value == NO_VALUE else value
