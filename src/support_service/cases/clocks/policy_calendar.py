"""The model of a policy's calendar. No I/O."""

import itertools
from datetime import date, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from support_service.cases.clocks.calendar import NOTHING, Calendar, Span

MAX_SPANS = 12  # of a weekday
MAX_HOLIDAYS = 400
TIME_PATTERN = "^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _expect_known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # unknown, not a name of a zone, the name of a folder
        raise ValueError("is no time zone of the IANA database, such as Europe/Berlin") from None
    return value


def _minutes(value: str) -> int:
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)


def _expect_ordered(spans: list[tuple[str, str]]) -> list[tuple[str, str]]:
    ordered = sorted(spans)
    if any(begin >= end for begin, end in ordered):
        raise ValueError("a span must end after its begin; one over midnight is two spans")
    if any(earlier[1] > later[0] for earlier, later in itertools.pairwise(ordered)):
        raise ValueError("spans of a day must not overlap")
    return ordered


_Time = Annotated[str, Field(pattern=TIME_PATTERN)]
# Without `prefixItems`, which generators of code do not read.
_Span = Annotated[
    tuple[_Time, _Time],
    WithJsonSchema(
        {"type": "array", "items": {"type": "string", "pattern": TIME_PATTERN}, "minItems": 2, "maxItems": 2}
    ),
]
_Spans = Annotated[list[_Span], Field(max_length=MAX_SPANS), AfterValidator(_expect_ordered)]


class PolicyModel(BaseModel):
    """JSON in camelCase. Unknown members are refused: a condition that is ignored would match other cases."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", validate_by_name=True, validate_by_alias=True)


class WeekSpans(PolicyModel):
    """Spans of local time, `[begin, end]`, of each weekday; none on a day that is left out."""

    mon: _Spans = Field(default=[])
    tue: _Spans = Field(default=[])
    wed: _Spans = Field(default=[])
    thu: _Spans = Field(default=[])
    fri: _Spans = Field(default=[])
    sat: _Spans = Field(default=[])
    sun: _Spans = Field(default=[])

    def by_weekday(self) -> dict[int, list[Span]]:
        """Return the spans by the number of the weekday, 0 for Monday."""
        return {
            number: [(timedelta(minutes=_minutes(begin)), timedelta(minutes=_minutes(end))) for begin, end in spans]
            for number, day in enumerate(WEEKDAYS)
            if (spans := getattr(self, day))
        }


class PolicyCalendar(PolicyModel):
    """The working time: spans in local time, and dates without any."""

    time_zone: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_expect_known_zone)] = Field(
        description="name of a time zone of the IANA database, such as `Europe/Berlin`"
    )
    spans: WeekSpans
    holidays: Annotated[list[date], Field(max_length=MAX_HOLIDAYS)] = Field(default=[])

    def least(self, weeks: int) -> timedelta:
        """Return the working time that so many weeks have at least, whenever they begin."""
        worked = {
            day: sum((end - begin for begin, end in spans), NOTHING) for day, spans in self.spans.by_weekday().items()
        }
        holidays = sorted(set(self.holidays))
        lost = most_lost = NOTHING
        first = 0
        for last in holidays:
            lost += worked.get(last.weekday(), NOTHING)
            while last - holidays[first] >= timedelta(weeks=weeks):
                lost -= worked.get(holidays[first].weekday(), NOTHING)
                first += 1
            most_lost = max(most_lost, lost)
        return weeks * sum(worked.values(), NOTHING) - most_lost

    def to_calendar(self) -> Calendar:
        """Return the calendar that computes with it."""
        return Calendar(ZoneInfo(self.time_zone), self.spans.by_weekday(), frozenset(self.holidays))
