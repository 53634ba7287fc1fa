"""The directory of the people who work on cases, as clients send and get it. No I/O."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor, SentChanges
from support_service.cases.model.vocabulary import NONE_FILTER, PRINTABLE, Assignee

MAX_ID_LENGTH = 128  # characters of the subject, or of the name, of a principal
AGENT_ID_RULE = f"must have 1 to {MAX_ID_LENGTH} printable characters, and not be `{NONE_FILTER}` or blank"
MAX_NAME_LENGTH = 128
MAX_TEAMS = 64
MAX_AT_RISK = 100  # cases at risk that are counted of one person
PersonRole = Literal["agent", "supervisor", "analyst"]

CONTENT_EXAMPLE: dict[str, Any] = {"displayName": "Linh Trần", "teams": ["deliveries"], "role": "agent", "away": False}
EXAMPLE: dict[str, Any] = {
    "id": "agent-7",
    **CONTENT_EXAMPLE,
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}

LISTED_EXAMPLE: dict[str, Any] = EXAMPLE | {
    "present": True,
    "open": 12,
    "pending": 3,
    "atRisk": 1,
    "oldestWait": "2026-05-12T08:30:00.125000Z",
}


def is_valid_agent_id(text: str) -> bool:
    """Return whether a text can be the id of a person: the subject or the name of a principal."""
    return len(text) <= MAX_ID_LENGTH and text.isprintable() and text.strip() not in ("", NONE_FILTER)


DisplayName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_LENGTH),
    PRINTABLE,
    Field(description="what colleagues call the person"),
]
Teams = Annotated[
    list[Assignee],
    Field(max_length=MAX_TEAMS, description="teams of the person, sorted"),
    AfterValidator(lambda teams: sorted(set(teams))),
]


class AgentChange(SentChanges):
    """What changes of a person's entry; fields that are not sent stay as they are, and null clears a field."""

    model_config = example_config(CONTENT_EXAMPLE)

    display_name: DisplayName | None = None
    teams: Teams = Field([])
    role: PersonRole | None = None
    away: bool = False


class AgentContent(ApiModel):
    """The entry of a person in the directory, without the id."""

    display_name: str | None = Field(
        default=None, description="what colleagues call the person; null if it is not known"
    )
    teams: list[str] = Field(default_factory=list, description="teams of the person, sorted")
    role: PersonRole | None = None
    away: bool = Field(default=False, description="the person is away, as the person or a supervisor has set it")
    # The name comes from the provider, and is not one that a person has set.
    name_from_claims: SkipJsonSchema[bool] = Field(default=False, exclude=True)

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is compared and audited."""
        return {
            "displayName": self.display_name,
            "teams": self.teams,
            "role": self.role,
            "away": self.away,
            "nameFromClaims": self.name_from_claims,
        }


class AgentIdentity(ApiModel):
    """Who a person is."""

    id: str = Field(description="as in `assignedAgentId` and `authorId`")


class Agent(AgentContent, AgentIdentity):
    """A person who works on cases."""

    model_config = example_config(EXAMPLE)

    created_at: datetime
    updated_at: datetime
    version: SkipJsonSchema[int] = Field(default=1, exclude=True)  # sent to clients as ETag

    @property
    def name(self) -> str:
        """The id, by which the directory finds the person."""
        return self.id


class ListedAgent(Agent):
    """A person who works on cases, with the numbers of the person's cases, which agents get of their own only."""

    model_config = example_config(LISTED_EXAMPLE)

    present: bool = Field(default=False, description="had an open stream, or viewed a case, within two minutes")
    open: int | None = Field(default=None, description="open cases")
    pending: int | None = Field(default=None, description="pending cases")
    at_risk: int | None = Field(
        default=None,
        description=f"cases with a clock that is overdue, or due within two hours, exact up to {MAX_AT_RISK}",
    )
    oldest_wait: datetime | None = Field(
        default=None, description="since when the customer waits who has waited longest for an answer, or null"
    )


class AgentQuery(ApiModel):
    """Which page of the directory to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of people on a page"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the oldest entry"
    )


class AgentPage(ApiModel):
    """A page of the directory, oldest entry first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(
        {"items": [LISTED_EXAMPLE], "nextCursor": "rT0mV2Yw3kq9sJb1XzQ5n8L-uE7cHfA4dGpO6iW_xR"}
    )

    items: list[ListedAgent]
    next_cursor: str | None
