"""What reports count, and the counters in which they find it. Pure.

An occurrence is a change that reports count. A trigger stores it in the transaction of the change (`report_changes`),
so it is counted once, whichever release writes. A job adds occurrences to counters (`report_counts`), hundreds at a
time. A report reads the counters, and the occurrences that are not added yet.

A counter belongs to a block of days and to a grain: which of team, agent and channel it tells apart. Each occurrence is
in one counter of each grain and span. So a report reads only the grain with what it names, and a few blocks instead of
each day. The counters are no `CountTable` of cases/gauges.py: reports need durations, and years of days.

Durations are counted in buckets, each 2^(1/8) times as long as the one before. So a duration in a report is
within 4.4 % of the truth.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Literal, NamedTuple, get_args

Dimension = Literal["day", "team", "agent", "channel"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
# Agents have a grain of their own, because there are many of them. A pair with agents is rare, and reads the last one.
GRAINS = ((), ("team",), ("agent",), ("channel",), ("team", "channel"), ("team", "agent", "channel"))
SPANS = (64, 8, 1)  # days of a block, which begins at a multiple
BUCKETS_PER_DOUBLING = 8
GROWTH = 2 ** (1 / BUCKETS_PER_DOUBLING)
RELATIVE_ERROR = (GROWTH - 1) / (GROWTH + 1)
DURATIONS = {"answered": "a", "solved": "s"}  # prefix of the buckets of each measure that has a duration
MEASURES_BY_PREFIX = {prefix: measure for measure, prefix in DURATIONS.items()}
EPOCH_DAY = date(1970, 1, 1).toordinal()
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2199, 12, 31)  # of a report: so it reads at most some 1,400 blocks

# Of each grain its name, and whether it tells team, agent and channel apart.
_TOLD_BY_GRAIN = [("+".join(grain), tuple(name in grain for name in DIMENSIONS[1:])) for grain in GRAINS]

Counts = Counter[str]
"""Numbers by measure: `opened`, `reopened`, the target of a clock that has breached, or a bucket, such as `a93`."""


class Occurrence(NamedTuple):
    """Something that happened to a case, and its team, agent and channel then. A text is empty if the case had none."""

    measure: str
    at: datetime
    since: datetime
    team: str
    agent: str
    channel: str

    @property
    def count_name(self) -> str:
        """What it counts as, in `Counts`."""
        prefix = DURATIONS.get(self.measure)
        return self.measure if prefix is None else f"{prefix}{bucket_of((self.at - self.since).total_seconds())}"


class CounterKey(NamedTuple):
    """The key of a counter. What its grain does not tell apart is empty."""

    grain: str
    span: int
    day: int  # the first of its block, since 1970-01-01
    team: str
    agent: str
    channel: str


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration: 0 up to a second."""
    return 0 if seconds <= 1 else math.ceil(math.log2(seconds) * BUCKETS_PER_DOUBLING - 1e-9)


def seconds_of(bucket: int) -> float:
    """Return the duration that reports show for a bucket, in seconds."""
    return round(2 * GROWTH**bucket / (GROWTH + 1), 1) if bucket else 1.0


def durations_in(counts: Mapping[str, int], measure: str) -> dict[int, int]:
    """Return the number of durations of a measure by their bucket, in ascending order."""
    found = [(place[1], number) for name, number in counts.items() if (place := _place_of(name))[0] == measure]
    return dict(sorted(found))


@cache
def _place_of(count_name: str) -> tuple[str, int]:
    """Return the measure and the bucket of a name in `Counts`; no measure if it counts no durations."""
    measure = MEASURES_BY_PREFIX.get(count_name[0])
    return (measure, int(count_name[1:])) if measure and count_name[1:].isdigit() else ("", 0)


def percentile(durations: Mapping[int, int], share: float) -> float | None:
    """Return the duration that a share of all does not exceed (nearest rank), or None without any."""
    rank = math.ceil(share * sum(durations.values()))
    for bucket, number in durations.items():
        rank -= number
        if rank <= 0:
            return seconds_of(bucket)
    return None


def day_number(day: date) -> int:
    """Return a day as a number: days since 1970-01-01."""
    return day.toordinal() - EPOCH_DAY


def day_of(number: int) -> date:
    return date.fromordinal(number + EPOCH_DAY)


def start_of(day: date) -> datetime:
    """Return the beginning of a day. Days are in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    return start_of(day) + timedelta(days=1)


def blocks_of(first: int, last: int) -> dict[int, list[int]]:
    """Return the blocks that make up the days from `first` to `last`, the largest possible, by their span."""
    blocks: dict[int, list[int]] = {span: [] for span in SPANS}
    while first <= last:
        span = next(each for each in SPANS if first % each == 0 and first + each - 1 <= last)
        blocks[span].append(first)
        first += span
    return blocks


def grain_name(dimensions: Iterable[str]) -> str:
    """Return the name of the smallest grain that tells the dimensions apart."""
    wanted = set(dimensions)
    return "+".join(next(grain for grain in GRAINS if wanted <= {*grain}))


def counters_of(occurrences: Iterable[Occurrence]) -> dict[CounterKey, Counts]:
    """Return what occurrences add to counters. It counts by day and all dimensions first, and adds up these counts."""
    by_day: defaultdict[tuple[int, str, str, str], Counts] = defaultdict(Counter)
    for each in occurrences:
        day = day_number(each.at.astimezone(UTC).date())
        by_day[day, each.team, each.agent, each.channel][each.count_name] += 1
    found: defaultdict[CounterKey, Counts] = defaultdict(Counter)
    for (day, *values), counts in by_day.items():
        for grain, is_told in _TOLD_BY_GRAIN:
            told = [value if shown else "" for value, shown in zip(values, is_told, strict=True)]
            for span in SPANS:
                found[CounterKey(grain, span, day - day % span, *told)].update(counts)
    return found
