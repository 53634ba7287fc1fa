"""The model of service level policies: which cases one is for, its targets, its calendar. No I/O."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated, Any, NamedTuple, Protocol, Self

from pydantic import Field, model_validator

from support_service.cases.clocks.calendar import AllHours
from support_service.cases.clocks.case_clocks import Terms
from support_service.cases.clocks.durations import Duration
from support_service.cases.clocks.policy_calendar import WEEKDAYS, PolicyCalendar, PolicyModel
from support_service.core.domain.case_vocabulary import Priority
from support_service.core.domain.service_levels import TARGETS

MAX_VALUES = 100  # of a match list
# Within which the spans of a calendar must have the time of each target: clocks are computed day by day.
MAX_WEEKS = 104

EXAMPLE_FIELDS: dict[str, Any] = {
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


_Values = Field(min_length=1, max_length=MAX_VALUES)
_Texts = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], _Values]


class MatchedCase(Protocol):
    """What a policy may ask of a case."""

    @property
    def priority(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def team(self) -> str | None: ...
    @property
    def tags(self) -> Sequence[str]: ...


class PolicyMatch(PolicyModel):
    """Which cases a policy is for: every list that is given must have the value of the case, or one of its tags."""

    priority: Annotated[list[Priority], _Values] | None = Field(default=None, exclude_if=_is_none)
    channel: _Texts | None = Field(default=None, exclude_if=_is_none)
    team: _Texts | None = Field(default=None, exclude_if=_is_none)
    tag: _Texts | None = Field(default=None, exclude_if=_is_none)

    def matches(self, case: MatchedCase) -> bool:
        """Return whether a case is one of them."""
        return (
            (self.priority is None or case.priority in self.priority)
            and (self.channel is None or case.channel in self.channel)
            and (self.team is None or case.team in self.team)
            and (self.tag is None or not set(self.tag).isdisjoint(case.tags))
        )


class PolicyTargets(PolicyModel):
    """The working time until something must have happened; at least one. A day is 24 hours of it."""

    first_response: Duration | None = Field(
        default=None, exclude_if=_is_none, description="from opening to the first message of an agent"
    )
    next_response: Duration | None = Field(
        default=None,
        exclude_if=_is_none,
        description="from a customer's message after the first answer to the next message of an agent",
    )
    resolution: Duration | None = Field(
        default=None,
        exclude_if=_is_none,
        description="from opening until the case is resolved or closed, without the time in which it is pending",
    )

    @model_validator(mode="after")
    def _expect_one(self) -> Self:
        if not any(self.given()):
            raise ValueError(f"one of {', '.join(TARGETS)} is needed")
        return self

    def given(self) -> list[timedelta]:
        """Return the durations that are given."""
        return [each for each in (self.first_response, self.next_response, self.resolution) if each is not None]


class PolicyContent(PolicyModel):
    """What supervisors set of a policy, besides its name."""

    match: PolicyMatch = Field(default_factory=PolicyMatch)
    targets: PolicyTargets
    calendar: PolicyCalendar | None = Field(default=None, description="without it, all of the time counts")
    public: bool = Field(default=False, description="whether customers see `sla` of their cases")

    @model_validator(mode="after")
    def _expect_time_enough(self) -> Self:
        if self.calendar and max(self.targets.given()) > self.calendar.least(MAX_WEEKS):
            raise ValueError(
                f"the spans of the calendar, without its holidays, must have the time of each target within any "
                f"{MAX_WEEKS} weeks"
            )
        return self

    def to_terms(self) -> Terms:
        """Return what the policy demands of a case."""
        durations = (self.targets.first_response, self.targets.next_response, self.targets.resolution)
        given = {target: each for target, each in zip(TARGETS, durations, strict=True) if each is not None}
        return Terms(given, self.calendar.to_calendar() if self.calendar else AllHours())

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is stored: members with the value None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(PolicyContent.model_fields))


class PolicyVersion(NamedTuple):
    """One version of a policy, by which the cases that were opened under it are measured."""

    id: int
    name: str
    content: PolicyContent
    terms: Terms


def first_match(policies: Iterable[PolicyVersion], case: MatchedCase) -> PolicyVersion | None:
    """Return the first policy, in the given order, that a case matches."""
    return next((policy for policy in policies if policy.content.match.matches(case)), None)
