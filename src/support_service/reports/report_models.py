"""Reports as clients ask for them and get them. No I/O."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import Cursor, RequestModel
from support_service.cases.model.vocabulary import NONE_FILTER, Identifier, Priority
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import Status
from support_service.core.personal import FACT, NOT_PERSONAL, PARTS, Personal
from support_service.reports.measures import (
    DIMENSIONS,
    FIRST_DAY,
    LAST_DAY,
    Counts,
    Dimension,
    day_of,
    durations_in,
    percentile,
)

DEFAULT_DAYS = 30
MAX_NAMES = 2  # that tell rows apart
DEFAULT_ROWS, MAX_ROWS = 500, 1000  # of a page
ReportFormat = Literal["csv", "jsonl"]
ROW_EXAMPLE: dict[str, Any] = {
    "day": "2026-05-12",
    "team": None,
    "agent": "agent-7",
    "channel": None,
    "opened": 12,
    "solved": 9,
    "reopened": 1,
    "firstAnswer": {"count": 11, "median": 612.6, "p90": 3464.6},
    "resolution": {"count": 9, "median": 15_089.8, "p90": 78_311.7},
    "breaches": {"firstResponse": 1, "nextResponse": 0, "resolution": 2},
}
CASE_EXAMPLE: dict[str, Any] = {
    "id": "0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11",
    "channel": "email",
    "team": "deliveries",
    "agent": "agent-7",
    "priority": "high",
    "status": "resolved",
    "openedAt": "2026-05-12T08:30:00.125000Z",
    "firstAnswerSeconds": 612.5,
    "resolutionSeconds": 15_090.25,
    "reopened": 1,
    "messages": 6,
    "breaches": 0,
}


def _split_names(value: object) -> object:
    """Return the names of one text or of several, each of which may have several names."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
        return tuple(name for text in texts for name in text.split(","))
    return value


Names = Annotated[
    tuple[Dimension, ...],
    BeforeValidator(_split_names),
    Field(min_length=1, max_length=MAX_NAMES),
    PlainSerializer(",".join, return_type=str, when_used="json"),
]
Day = Annotated[date, Field(ge=FIRST_DAY, le=LAST_DAY)]


class DaysQuery(RequestModel):
    """The days of a report, in UTC, from 1970 to 2199."""

    start: Day | None = Field(None, alias="from", description="first day, in UTC; by default 30 days with the last")
    end: Day | None = Field(None, alias="to", description="last day, in UTC, which is included; by default today")

    @property
    def days(self) -> tuple[date, date]:
        last = self.end or utc_now().date()
        return self.start or last - timedelta(days=DEFAULT_DAYS - 1), last

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        first, last = self.days
        if first > last:
            raise ValueError("`from` is after `to`")
        return self


class ReportQuery(DaysQuery):
    """What to count, and by what to tell the rows apart."""

    by: Names = Field(
        ("day",),
        description=f"what tells the rows apart: one or two of {', '.join(f'`{name}`' for name in DIMENSIONS)}",
    )
    team: Identifier | None = Field(
        None, description="only what happened while a case was this team's; `none`: no team's"
    )
    agent: Identifier | None = Field(
        None, description="only while a case was assigned to this agent; `none`: cases without an agent"
    )
    channel: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="only cases of this channel; `other`: of channels that are not configured"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_ROWS)] = Field(
        DEFAULT_ROWS, description="maximum number of rows on a page by days; a page has whole days"
    )
    cursor: Cursor | None = Field(None, description="`nextCursor` of the previous page")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if len({*self.by}) < len(self.by):
            raise ValueError("`by` names something twice")
        return self

    @property
    def filters(self) -> dict[str, str]:
        """The filters by what they are about. An empty value is none."""
        given = {name: getattr(self, name) for name in DIMENSIONS[1:]}
        return {
            name: "" if value == NONE_FILTER and name != "channel" else value for name, value in given.items() if value
        }


class Durations(ApiModel):
    """Durations in seconds."""

    count: Annotated[int, NOT_PERSONAL]
    median: Annotated[float | None, NOT_PERSONAL] = Field(description="within 4.4 %; null without any")
    p90: Annotated[float | None, NOT_PERSONAL] = Field(description="nine of ten are not longer; within 4.4 %")

    @classmethod
    def of(cls, counts: Counts, measure: str) -> Self:
        found = durations_in(counts, measure)
        return cls(count=sum(found.values()), median=percentile(found, 0.5), p90=percentile(found, 0.9))


class Breaches(ApiModel):
    """Breaches of service levels, by target."""

    first_response: Annotated[int, NOT_PERSONAL]
    next_response: Annotated[int, NOT_PERSONAL]
    resolution: Annotated[int, NOT_PERSONAL]


class ReportRow(ApiModel):
    """What happened to cases. Dimensions that are not in `by` are null, as are a missing team and agent."""

    model_config = example_config(ROW_EXAMPLE)

    day: Annotated[date | None, NOT_PERSONAL] = None
    team: Annotated[str | None, FACT] = None
    agent: Annotated[str | None, FACT] = None
    channel: Annotated[str | None, NOT_PERSONAL] = None
    opened: Annotated[int, NOT_PERSONAL]
    solved: Annotated[int, NOT_PERSONAL] = Field(description="how often cases were resolved, or closed without that")
    reopened: Annotated[int, NOT_PERSONAL]
    first_answer: Annotated[Durations, PARTS] = Field(description="from the opening to the first message of an agent")
    resolution: Annotated[Durations, PARTS] = Field(description="from the opening until the case was solved")
    breaches: Annotated[Breaches, PARTS]

    @classmethod
    def of(cls, values: dict[str, str | int], counts: Counts) -> Self:
        solved = Durations.of(counts, "solved")
        return cls(
            **{name: day_of(value) if isinstance(value, int) else value or None for name, value in values.items()},
            opened=counts["opened"],
            solved=solved.count,
            reopened=counts["reopened"],
            firstAnswer=Durations.of(counts, "answered"),
            resolution=solved,
            breaches=Breaches(
                firstResponse=counts["firstResponse"],
                nextResponse=counts["nextResponse"],
                resolution=counts["resolution"],
            ),
        )


class ReportPage(ApiModel):
    """Rows in the order of what tells them apart. Days without any change have none.

    `nextCursor` requests the next page, and is null on the last one.
    """

    model_config = example_config({"items": [ROW_EXAMPLE], "nextCursor": None, "completeSince": None})

    items: Annotated[list[ReportRow], PARTS]
    next_cursor: Annotated[str | None, NOT_PERSONAL]
    complete_since: Annotated[datetime | None, NOT_PERSONAL] = Field(
        description="what happened before is not counted; null if all is"
    )


class ReportedCasesQuery(DaysQuery):
    """The days in which the cases were opened, and the format."""

    format: ReportFormat = Field("jsonl", description="`csv` with a heading, or JSON Lines")


class ReportedCase(ApiModel):
    """A case in a report."""

    model_config = example_config(CASE_EXAMPLE)

    id: Annotated[str, FACT]
    channel: Annotated[str, Personal("known", "replaced if unknown")]
    team: Annotated[str | None, FACT]
    agent: Annotated[str | None, FACT]
    priority: Annotated[Priority, FACT]
    status: Annotated[Status, FACT]
    opened_at: Annotated[datetime, FACT]
    first_answer_seconds: Annotated[float | None, FACT] = Field(description="null if no agent has answered")
    resolution_seconds: Annotated[float | None, FACT] = Field(
        description="until it was last solved; null while it is not"
    )
    reopened: Annotated[int, FACT]
    messages: Annotated[int, FACT] = Field(description="with internal notes")
    breaches: Annotated[int, FACT]
