"""A naive model of calendars and clocks: it walks minute by minute. All times are whole minutes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
ACTIVE = ("open", "pending")


@dataclass(frozen=True)
class NaiveCalendar:
    """Spans of each weekday as minutes of the day."""

    zone: ZoneInfo = ZoneInfo("UTC")  # noqa: RUF009 - immutable
    spans: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    holidays: frozenset[date] = frozenset()

    def counts(self, at: datetime) -> bool:
        """Return whether the minute that begins at an instant is working time."""
        local = at.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        spans = self.spans.get(local.weekday(), ())
        return local.date() not in self.holidays and any(begin <= minute < end for begin, end in spans)

    def between(self, start: datetime, end: datetime) -> int:
        return sum(self.counts(at) for at in walk(start, end))

    def add(self, at: datetime, minutes: int, until: datetime) -> datetime | None:
        """Return the first instant at which the minutes have passed, or None if it is after `until`."""
        for each in walk(at, until):
            if not minutes:
                return each
            minutes -= self.counts(each)
        return until if not minutes else None


def walk(start: datetime, end: datetime) -> Iterator[datetime]:
    at = start.astimezone(UTC)
    while at < end:
        yield at
        at += MINUTE


@dataclass
class NaiveClock:
    allowance: int
    used: int = 0
    running: bool = True
    breached: bool = False
    ended: bool = False
    due: datetime | None = None

    @property
    def state(self) -> str:
        if self.breached:
            return "breached"
        return "met" if self.ended else "running" if self.running else "paused"

    def look(self, at: datetime) -> None:
        """Note that the time is up; after that moment the clock is breached."""
        if self.running and not self.breached:
            if self.used >= self.allowance and self.due is None:
                self.due = at
            self.breached = self.due is not None and at > self.due

    def stop(self) -> None:
        self.running = False
        if not self.breached:
            self.due = None

    def finish(self) -> None:
        """What the clock measures has happened."""
        if not self.ended:
            self.stop()
            self.ended = True


@dataclass
class NaiveCase:
    """The clocks of a case, by the rules of the documentation."""

    calendar: NaiveCalendar
    targets: Mapping[str, int]
    status: str = "open"
    answered: bool = False
    clocks: dict[str, NaiveClock] = field(default_factory=dict)

    def open(self, author: str | None) -> None:
        for target in ("firstResponse", "resolution"):
            self._start(target)
        if author == "agent":
            self.message("agent")

    def look(self, at: datetime) -> None:
        for clock in self.clocks.values():
            clock.look(at)

    def count(self, at: datetime) -> None:
        """Count the minute that begins at an instant."""
        if self.calendar.counts(at):
            for clock in self.clocks.values():
                clock.used += clock.running

    def message(self, author: str) -> None:
        if author == "agent":
            self.answered = True
            for target in {"firstResponse", "nextResponse"} & self.clocks.keys():
                self.clocks[target].finish()
        elif self.answered:
            clock = self.clocks.get("nextResponse")
            if clock is None or clock.ended or (clock.breached and not clock.running):
                self._start("nextResponse")

    def change_status(self, status: str) -> None:
        before, self.status = self.status, status
        for target, clock in self.clocks.items():
            if status not in ACTIVE and before in ACTIVE:
                clock.finish() if target == "resolution" else clock.stop()
            elif status in ACTIVE:
                if target == "resolution" and before not in ACTIVE:
                    clock.ended = False
                if target == "resolution" and status == "pending":
                    clock.stop()
                elif not clock.ended:
                    clock.running = True

    def _start(self, target: str) -> None:
        if target in self.targets:
            self.clocks[target] = NaiveClock(self.targets[target])
