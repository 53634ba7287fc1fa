"""Working time: which parts of the time count for a clock. Pure.

A calendar has spans of local time for each weekday. An instant is working time if the local time at that instant lies
in a span of its weekday and its date is no holiday. When clocks change, this stays so. An hour that is skipped does not
count, and an hour that occurs twice counts twice if it lies in a span.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

DaySpan = tuple[timedelta, timedelta]
"""The begin and the end of a span of a day, as time after midnight; the end does not belong to it."""
Interval = tuple[datetime, datetime]
NO_TIME = timedelta(0)
DAY = timedelta(days=1)
MAX_CACHED_DAYS = 1000  # of each calendar


class WorkingTime(Protocol):
    """What clocks need of a calendar. Instants are in UTC."""

    def add(self, at: datetime, amount: timedelta) -> datetime:
        """Return the first instant at which `amount` of working time has passed since `at`."""

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return the working time from one instant to another; nothing if the end is not later."""


class AllHours:
    """The working time without a calendar: all of the time."""

    def add(self, at: datetime, amount: timedelta) -> datetime:
        """Return the instant that is `amount` later."""
        return at + amount

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return the time from one instant to another; nothing if the end is not later."""
        return max(NO_TIME, end - start)


class Calendar:
    """The working time of a time zone. `spans` has the spans of each weekday (0 is Monday) in order, none overlapping.

    At least one weekday must have a span. Work grows with the days between two instants, not with their length in
    minutes.
    """

    def __init__(
        self, time_zone: ZoneInfo, spans: Mapping[int, Sequence[DaySpan]], holidays: frozenset[date] = frozenset()
    ) -> None:
        self._zone = time_zone
        self._spans = spans
        self._holidays = holidays
        self._cached_intervals_of_utc_day = lru_cache(MAX_CACHED_DAYS)(self._intervals_of_utc_day)

    def add(self, at: datetime, amount: timedelta) -> datetime:
        """Return the first instant at which `amount` of working time has passed since `at`."""
        if amount <= NO_TIME:
            return at
        for begin, end in self._intervals_after(at):
            if end - begin >= amount:
                return begin + amount
            amount -= end - begin
        raise OverflowError("a calendar without working time")  # pragma: no cover - the intervals are endless

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return the working time from one instant to another; nothing if the end is not later."""
        worked = NO_TIME
        for begin, stop in self._intervals_after(start):
            if begin >= end:
                break
            worked += min(stop, end) - begin
        return worked

    def _intervals_after(self, start: datetime) -> Iterator[Interval]:
        """Yield the working time after an instant, in order and without an end."""
        day = start.astimezone(UTC).date()
        while True:
            for begin, end in self._cached_intervals_of_utc_day(day):
                if end > start:
                    yield max(begin, start), end
            day += DAY

    def _intervals_of_utc_day(self, day: date) -> tuple[Interval, ...]:
        """Return the working time of a day of UTC."""
        found = []
        start = datetime.combine(day, time.min, UTC)
        for begin, end in self._split_at_offset_change(start, start + DAY):
            offset = self._utc_offset(begin)
            local_day = (begin + offset).date()
            while (midnight := datetime.combine(local_day, time.min, UTC) - offset) < end:
                for first, last in () if local_day in self._holidays else self._spans.get(local_day.weekday(), ()):
                    opening, closing = max(begin, midnight + first), min(end, midnight + last)
                    if opening < closing:
                        found.append((opening, closing))
                local_day += DAY
        return tuple(found)

    def _split_at_offset_change(self, start: datetime, end: datetime) -> tuple[Interval, ...]:
        """Split a day of UTC where the offset of local time changes; no zone has two such changes within a day."""
        before = self._utc_offset(start)
        if before == self._utc_offset(end):
            return ((start, end),)
        low, high = 0, round((end - start).total_seconds())
        while high - low > 1:
            middle = (low + high) // 2
            if self._utc_offset(start + timedelta(seconds=middle)) == before:
                low = middle
            else:
                high = middle
        change = start + timedelta(seconds=high)
        return ((start, change), (change, end)) if change < end else ((start, end),)

    def _utc_offset(self, at: datetime) -> timedelta:
        return at.astimezone(self._zone).utcoffset() or NO_TIME
