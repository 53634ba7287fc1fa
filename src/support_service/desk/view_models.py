"""Saved views as clients send and get them, and who may use them. No I/O.

A view belongs to one user, or to a team. `query` is a JSON object: the query parameters of the list of cases.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import CaseFilters, Cursor, RequestModel, SentChanges
from support_service.cases.model.vocabulary import NONE_FILTER, Assignee, Json, Subject, format_duration
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, STATUSES
from support_service.core.domain.principals import Principal
from support_service.core.errors import problem
from support_service.core.personal import FACT, INTERNAL, NOT_PERSONAL, PARTS, Personal

AT_RISK_WITHIN = timedelta(hours=2)  # of a case with a clock that is due soon
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100  # each view of a page is a statement that counts

NEW_VIEW_EXAMPLE: Json = {
    "name": "Urgent deliveries",
    "query": {"status": "open", "priority": "urgent", "team": "deliveries"},
    "team": "deliveries",
}
SAVED_VIEW_EXAMPLE: Json = NEW_VIEW_EXAMPLE | {
    "id": "2f1b6a0e-93d4-4c57-8a8e-51f0c7d2b6e4",
    "owner": None,
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T08:30:00.125000Z",
}
NUMBERS_EXAMPLE: Json = {"count": 17, "more": False, "late": 2, "moreLate": False}
COUNTED_VIEW_EXAMPLE: Json = SAVED_VIEW_EXAMPLE | NUMBERS_EXAMPLE
STANDARD_VIEW_EXAMPLE: Json = {
    "id": "mine",
    "query": {"status": "open,pending", "assignedAgentId": "agent-7", "snoozed": False, "sort": "waiting"},
} | NUMBERS_EXAMPLE


def _allow_statuses_as_text(schema: dict[str, Any]) -> None:
    """Describe that several statuses may also be one text, as in the query of a list."""
    status = schema["properties"]["status"]
    listed = {name: status.pop(name) for name in ("type", "items")}
    one = f"({'|'.join(STATUSES)})"
    text = {"type": "string", "pattern": f"^{one}(,{one})*$", "examples": ["open,pending"]}
    status["anyOf"] = [text, listed]


class ViewFilters(CaseFilters):
    """The query parameters of `GET /support/cases` without `limit` and `cursor`; null and empty ones are left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_allow_statuses_as_text)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_filters(cls, sent: object) -> object:
        if isinstance(sent, dict):
            return {name: value for name, value in sent.items() if value not in (None, "", [])}
        return sent

    def as_query(self) -> Json:
        """Return the filters as JSON, by the names of the query parameters."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


class NewView(RequestModel):
    """A view to save: for the caller, or with `team` for everyone in the team."""

    model_config = example_config(NEW_VIEW_EXAMPLE)

    name: Subject
    query: ViewFilters
    team: Assignee | None = Field(None, description="the team that the view is shared with")


class ViewChange(SentChanges):
    """Changes of a saved view; omitted fields stay unchanged."""

    model_config = example_config({"name": "Urgent deliveries, unassigned"})

    name: Subject = ""
    query: ViewFilters = Field(default_factory=ViewFilters, description="replaces the stored filters as a whole")
    team: Assignee | None = Field(None, description="the team that gets the view; null makes it the caller's own")


class ViewHolder(NamedTuple):
    """To whom a view belongs: a user (`owner`), or a team; the other one is None."""

    owner: str | None
    team: str | None


class SavedView(ApiModel):
    """A saved view, of a user or of a team."""

    model_config = example_config(SAVED_VIEW_EXAMPLE)

    id: Annotated[str, FACT]
    name: Annotated[str, Personal("shown", "removed")]
    owner: Annotated[str | None, FACT] = Field(
        description="the user that the view belongs to; null if it belongs to a team"
    )
    team: Annotated[str | None, FACT] = Field(
        description="the team that the view belongs to; null if it belongs to a user"
    )
    query: Annotated[Json, Personal("shown", "removed")] = Field(
        description="the filters, by the names of the query parameters of `GET /support/cases`"
    )
    created_at: Annotated[datetime, Personal("shown", "removed")]
    updated_at: Annotated[datetime, Personal("shown", "removed")]
    version: Annotated[SkipJsonSchema[int], INTERNAL] = Field(default=1, exclude=True)  # sent to clients as ETag

    @property
    def holder(self) -> ViewHolder:
        return ViewHolder(self.owner, self.team)


class ViewNumbers(ApiModel):
    """The number of cases that a view shows to the caller, and how many of them are late."""

    count: Annotated[int | None, NOT_PERSONAL] = Field(
        description="the number of cases, at most 1,000. Null if the caller may not list its cases, if "
        "this release does not know one of its filters, or if counting takes too long"
    )
    more: Annotated[bool, NOT_PERSONAL] = Field(description="there are more cases than `count`")
    late: Annotated[int | None, NOT_PERSONAL] = Field(
        description="the number of these cases with a clock that is overdue, at most 1,000; null without a `count`, "
        "and for a view with `q`"
    )
    more_late: Annotated[bool, NOT_PERSONAL] = Field(description="there are more such cases than `late`")


class CountedView(ViewNumbers, SavedView):
    """A saved view with the number of cases that it shows to the caller."""

    model_config = example_config(COUNTED_VIEW_EXAMPLE)


class StandardView(ViewNumbers):
    """A view that every caller has, with the number of its cases."""

    model_config = example_config(STANDARD_VIEW_EXAMPLE)

    id: Annotated[str, NOT_PERSONAL] = Field(
        description="`mine`, `mentioned`, `snoozed`, `unassigned`, `at-risk`, or `team:` and the name of a team of the "
        "caller"
    )
    query: Annotated[Json, NOT_PERSONAL] = Field(
        description="the filters, by the names of the query parameters of `GET /support/cases`"
    )


class StandardViews(ApiModel):
    """The views that every caller has."""

    model_config = example_config({"items": [STANDARD_VIEW_EXAMPLE]})

    items: Annotated[list[StandardView], PARTS]


def standard_queries(principal: Principal) -> dict[str, Json]:
    """Return the queries of the views that a principal has without saving them, by their ids."""
    unfinished: Json = {"status": ",".join(ACTIVE_STATUSES), "sort": "waiting"}
    own: dict[str, Json] = {
        "mine": {**unfinished, "assignedAgentId": principal.id, "snoozed": False},
        "mentioned": {"mentionedAgentId": principal.id, "sort": "updated"},
        "snoozed": {"assignedAgentId": principal.id, "snoozed": True, "sort": "snoozed"},
    }
    others = {"unassigned": {**unfinished, "assignedAgentId": NONE_FILTER}}
    others |= {f"team:{team}": {**unfinished, "team": team} for team in sorted(principal.teams)}
    others |= {"at-risk": {"dueWithin": format_duration(AT_RISK_WITHIN), "sort": "due"}}
    return others if principal.role == "analyst" else own | others


class ViewPage(ApiModel):
    """A page of saved views, newest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [COUNTED_VIEW_EXAMPLE], "nextCursor": None})

    items: Annotated[list[CountedView], PARTS]
    next_cursor: Annotated[str | None, NOT_PERSONAL]


class ViewListQuery(ApiModel):
    """Which page of the saved views to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of views on a page"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the newest view"
    )


def view_holder_for(principal: Principal, team: str | None) -> ViewHolder:
    """Return to whom a view belongs that the principal saves with this team.

    Agents share views with their own teams, supervisors with every team. Analysts share none.
    """
    if team is None:
        return ViewHolder(principal.id, None)
    if not _may_use_views_of(principal, team):
        raise problem(
            "permission_missing",
            "The permission 'views:share' is missing. Members of a team and supervisors change the views of the team.",
        )
    return ViewHolder(None, team)


def may_use_view(principal: Principal, view: SavedView) -> bool:
    if view.team is None:
        return view.owner == principal.id
    return _may_use_views_of(principal, view.team)


def _may_use_views_of(principal: Principal, team: str) -> bool:
    return principal.role == "supervisor" or (principal.role == "agent" and team in principal.teams)
