"""The model of service level policies: which cases one is for, its targets, its calendar. No I/O."""

import itertools
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Annotated, Any, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from support_service.cases.clocks.calendar import NO_TIME, AllHours, Calendar, DaySpan
from support_service.cases.clocks.case_clocks import PolicyTerms
from support_service.cases.model.case import CaseSummary
from support_service.cases.model.vocabulary import TargetDuration
from support_service.core.domain.case_vocabulary import CLOCK_TARGETS, Priority

MAX_MATCHED_VALUES = 100  # of a match list
# Within which the spans of a calendar must have the time of each target: clocks are computed day by day.
MAX_WEEKS = 104
MAX_SPANS_PER_DAY = 12  # of a weekday
MAX_HOLIDAYS = 400
TIME_PATTERN = "^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

POLICY_CONTENT_EXAMPLE: dict[str, Any] = {
    "match": {"priority": ["high", "urgent"], "channel": ["email"]},
    "targets": {"firstResponse": "PT1H", "nextResponse": "PT4H", "resolution": "PT16H"},
    "calendar": {
        "timeZone": "Asia/Ho_Chi_Minh",
        "spans": {day: [["08:00", "12:00"], ["13:00", "17:30"]] for day in WEEKDAYS[:5]},
        "holidays": ["2026-09-02"],
    },
    "public": False,
}


def _is_none(value: object) -> bool:
    return value is None


def _check_time_zone_is_known(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # unknown, not a name of a zone, the name of a folder
        raise ValueError("is no time zone of the IANA database, such as Europe/Berlin") from None
    return value


def _minutes_of_day(value: str) -> int:
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)


def _check_spans_are_in_order(spans: list[tuple[str, str]]) -> list[tuple[str, str]]:
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
_Spans = Annotated[list[_Span], Field(max_length=MAX_SPANS_PER_DAY), AfterValidator(_check_spans_are_in_order)]


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

    def by_weekday(self) -> dict[int, list[DaySpan]]:
        """Return the spans by the number of the weekday, 0 for Monday."""
        return {
            number: [
                (timedelta(minutes=_minutes_of_day(begin)), timedelta(minutes=_minutes_of_day(end)))
                for begin, end in spans
            ]
            for number, day in enumerate(WEEKDAYS)
            if (spans := getattr(self, day))
        }


class PolicyCalendar(PolicyModel):
    """The working time: spans in local time, and dates without any."""

    time_zone: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_time_zone_is_known)] = Field(
        description="name of a time zone of the IANA database, such as `Europe/Berlin`"
    )
    spans: WeekSpans
    holidays: Annotated[list[date], Field(max_length=MAX_HOLIDAYS)] = Field(default=[])

    def least_working_time(self, weeks: int) -> timedelta:
        """Return the working time that so many weeks have at least, whenever they begin."""
        worked = {
            day: sum((end - begin for begin, end in spans), NO_TIME) for day, spans in self.spans.by_weekday().items()
        }
        holidays = sorted(set(self.holidays))
        lost = most_lost = NO_TIME
        first = 0
        for last in holidays:
            lost += worked.get(last.weekday(), NO_TIME)
            while last - holidays[first] >= timedelta(weeks=weeks):
                lost -= worked.get(holidays[first].weekday(), NO_TIME)
                first += 1
            most_lost = max(most_lost, lost)
        return weeks * sum(worked.values(), NO_TIME) - most_lost

    def to_calendar(self) -> Calendar:
        """Return the calendar that computes with it."""
        return Calendar(ZoneInfo(self.time_zone), self.spans.by_weekday(), frozenset(self.holidays))


_VALUES_FIELD = Field(min_length=1, max_length=MAX_MATCHED_VALUES)
_MatchedTexts = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], _VALUES_FIELD]


class PolicyMatch(PolicyModel):
    """Which cases a policy is for: every list that is given must have the value of the case, or one of its tags."""

    priority: Annotated[list[Priority], _VALUES_FIELD] | None = Field(default=None, exclude_if=_is_none)
    channel: _MatchedTexts | None = Field(default=None, exclude_if=_is_none)
    team: _MatchedTexts | None = Field(default=None, exclude_if=_is_none)
    tag: _MatchedTexts | None = Field(default=None, exclude_if=_is_none)

    def matches(self, case: CaseSummary) -> bool:
        """Return whether a case is one of them."""
        return (
            (self.priority is None or case.priority in self.priority)
            and (self.channel is None or case.channel in self.channel)
            and (self.team is None or case.team in self.team)
            and (self.tag is None or not set(self.tag).isdisjoint(case.tags))
        )


class PolicyTargets(PolicyModel):
    """The working time until something must have happened; at least one. A day is 24 hours of it."""

    first_response: TargetDuration | None = Field(
        default=None, exclude_if=_is_none, description="from opening to the first message of an agent"
    )
    next_response: TargetDuration | None = Field(
        default=None,
        exclude_if=_is_none,
        description="from a customer's message after the first answer to the next message of an agent",
    )
    resolution: TargetDuration | None = Field(
        default=None,
        exclude_if=_is_none,
        description="from opening until the case is resolved or closed, without the time in which it is pending",
    )

    @model_validator(mode="after")
    def _check_has_target(self) -> Self:
        if not any(self.durations()):
            raise ValueError(f"one of {', '.join(CLOCK_TARGETS)} is needed")
        return self

    def durations(self) -> list[timedelta]:
        """Return the durations that are given."""
        return [each for each in (self.first_response, self.next_response, self.resolution) if each is not None]


class PolicyContent(PolicyModel):
    """What supervisors set of a policy, besides its name."""

    match: PolicyMatch = Field(default_factory=PolicyMatch)
    targets: PolicyTargets
    calendar: PolicyCalendar | None = Field(default=None, description="without it, all of the time counts")
    public: bool = Field(default=False, description="whether customers see `sla` of their cases")

    @model_validator(mode="after")
    def _check_calendar_has_time_for_targets(self) -> Self:
        if self.calendar and max(self.targets.durations()) > self.calendar.least_working_time(MAX_WEEKS):
            raise ValueError(
                f"the spans of the calendar, without its holidays, must have the time of each target within any "
                f"{MAX_WEEKS} weeks"
            )
        return self

    def to_terms(self) -> PolicyTerms:
        """Return what the policy demands of a case."""
        durations = (self.targets.first_response, self.targets.next_response, self.targets.resolution)
        given = {target: each for target, each in zip(CLOCK_TARGETS, durations, strict=True) if each is not None}
        return PolicyTerms(given, self.calendar.to_calendar() if self.calendar else AllHours())

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is stored: members with the value None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(PolicyContent.model_fields))


class PolicyVersion(NamedTuple):
    """One version of a policy, by which the cases that were opened under it are measured."""

    id: int
    name: str
    content: PolicyContent
    terms: PolicyTerms


def first_matching_policy(policies: Iterable[PolicyVersion], case: CaseSummary) -> PolicyVersion | None:
    """Return the first policy, in the given order, that a case matches."""
    return next((policy for policy in policies if policy.content.match.matches(case)), None)
