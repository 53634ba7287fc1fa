"""Bulk changes as clients send and get them, and what one changes of a case. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from support_service.cases.model.case import ApiModel, CaseSummary, example_config
from support_service.cases.model.requests import RequestModel, SentChanges
from support_service.cases.model.vocabulary import (
    MAX_TAGS,
    Assignee,
    Identifier,
    Json,
    Priority,
    StartedSnoozeEnd,
    Tags,
)
from support_service.core.domain.case_vocabulary import PENDING, Status
from support_service.core.errors import problem
from support_service.desk.view_models import ViewFilters

MAX_BULK_CASES = 500
Outcome = Literal["changed", "unchanged", "refused", "undone"]
CHANGED: Final = "changed"
UNCHANGED: Final = "unchanged"
REFUSED: Final = "refused"
UNDONE: Final = "undone"

BULK_FIELDS_EXAMPLE: Json = {"assignedAgentId": "agent-7", "status": "pending", "addTags": ["storm"]}
NEW_BULK_CHANGE_EXAMPLE: Json = {
    "query": {"status": "open", "team": "deliveries", "tag": ["late"]},
    "change": BULK_FIELDS_EXAMPLE,
}
BULK_RESULT_EXAMPLE: Json = {
    "id": "c1a5a3a6-2f0e-4c43-9b51-5f3f6a1f4d10",
    "undoes": None,
    "finished": True,
    "undoUntil": "2026-05-12T09:30:00.125000Z",
    "counts": {"changed": 1, "unchanged": 0, "refused": 1, "undone": 0},
    "items": [
        {"id": "0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11", "outcome": "changed", "code": None},
        {"id": "5d0c7a52-2a0b-4f36-9c1e-0f7b0f7f6c21", "outcome": "refused", "code": "status_move_not_allowed"},
    ],
}


def _check_are_different(ids: list[str]) -> list[str]:
    if len(set(ids)) < len(ids):
        raise ValueError("must not name a case twice")
    return ids


class BulkFields(SentChanges):
    """What a bulk change does to each case; omitted fields stay unchanged. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", **example_config(BULK_FIELDS_EXAMPLE))

    assigned_agent_id: Assignee | None = Field(None, description="the new agent; null removes the agent")
    team: Assignee | None = Field(None, description="the new team; null removes the team")
    priority: Priority = "normal"
    status: Status = "open"
    until: StartedSnoozeEnd | None = None
    add_tags: Tags = Field([], description="tags that each case gets behind its own")
    remove_tags: Tags = Field([], description="tags that no case keeps")

    @model_validator(mode="after")
    def _check_changes_something(self) -> Self:
        sent = self.sent_fields()
        if not sent:
            raise ValueError("must have at least one field")
        if both := sorted({*self.add_tags}.intersection(self.remove_tags)):
            raise ValueError(f"addTags and removeTags both name {both[0]!r}")
        if self.until is not None and (sent.get("status") != PENDING):
            raise ValueError("until can be sent only with the status `pending`, which a snoozed case has")
        return self

    def values_for(self, case: CaseSummary) -> dict[str, Any]:
        """Return the values that a case gets, by the names of its fields. Raises Conflict for too many tags."""
        values = {name: value for name, value in self.sent_fields().items() if name in CaseSummary.model_fields}
        if values.get("status") == PENDING:
            values["snoozed_until"] = self.until
        if self.add_tags or self.remove_tags:
            tags = [tag for tag in case.tags if tag not in self.remove_tags]
            tags += [tag for tag in dict.fromkeys(self.add_tags) if tag not in tags]
            if len(tags) > max(MAX_TAGS, len(case.tags)):
                raise problem("too_many_tags", f"A case has at most {MAX_TAGS} tags.")
            values["tags"] = tags
        return values


class NewBulkChange(RequestModel):
    """A bulk change of the cases in `ids`, or of the cases that a list with the filters of `query` shows its caller."""

    model_config = example_config(NEW_BULK_CHANGE_EXAMPLE)

    ids: (
        Annotated[
            list[Identifier],
            Field(min_length=1, max_length=MAX_BULK_CASES, json_schema_extra={"uniqueItems": True}),
            AfterValidator(_check_are_different),
        ]
        | None
    ) = Field(None, description="ids of cases; either `ids` or `query` is sent")
    query: ViewFilters | None = Field(
        None,
        description="the query parameters of `GET /support/cases`, as saved views have them, without `limit` and "
        f"`cursor`; at most {MAX_BULK_CASES} cases may match",
    )
    change: BulkFields

    @model_validator(mode="after")
    def _check_names_cases_once(self) -> Self:
        if (self.ids is None) == (self.query is None):
            raise ValueError("must have either `ids` or `query`")
        return self


class BulkItem(ApiModel):
    """What became of one case of a bulk change."""

    id: str = Field(description="id of the case, as it was sent")
    outcome: Outcome
    code: str | None = Field(description="the problem code of a refused case, otherwise null")


class BulkCounts(ApiModel):
    """The number of cases of each outcome."""

    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    undone: int = 0


class BulkResult(ApiModel):
    """A bulk change, and what became of each of its cases, in the order of the request or of the list."""

    model_config = example_config(BULK_RESULT_EXAMPLE)

    id: str
    undoes: str | None = Field(description="id of the bulk change that this one undoes, or null")
    finished: bool = Field(
        description="false while cases have no outcome yet; `items` then has the changed ones so far"
    )
    undo_until: datetime | None = Field(description="until when it can be undone; null if it can't")
    counts: BulkCounts
    items: list[BulkItem]


def count_outcomes(items: Sequence[BulkItem]) -> BulkCounts:
    """Return the number of items of each outcome."""
    outcomes: list[str] = [item.outcome for item in items]
    return BulkCounts.model_validate({outcome: outcomes.count(outcome) for outcome in BulkCounts.model_fields})
