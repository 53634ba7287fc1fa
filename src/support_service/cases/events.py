"""Payload models of the case events, for the AsyncAPI document; events/outbox.py writes the events."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import (
    ApiModel,
    Attachment,
    CaseLink,
    CaseMatch,
    CaseSummary,
    Message,
    Viewer,
)
from support_service.cases.model.vocabulary import Visibility
from support_service.core.domain.case_vocabulary import Status
from support_service.core.domain.service_levels import Target
from support_service.events import outbox

ACTOR: Any = Field(default=None, description="name of the principal who made the change; `customer` for every customer")


class PublishedCase(CaseSummary):
    """A case without its conversation."""

    match: SkipJsonSchema[CaseMatch | None] = Field(default=None, exclude=True)  # in lists only
    viewers: SkipJsonSchema[list[Viewer] | None] = Field(default=None, exclude=True)  # never published
    waiting_since: datetime | None = Field(
        description="since when the customer of an open or pending case waits for an answer of an agent, or null"
    )
    version: int = Field(description="grows with each change; the number in the `ETag` of staff")
    public_version: int = Field(description="the number in the `ETag` of customers: internal changes do not count")


class PreviousOwner(ApiModel):
    """The agent and the team of a case before a change of one of them."""

    assigned_agent_id: str | None
    team: str | None


class CaseOpened(ApiModel):
    """A case was opened."""

    actor: str | None = ACTOR
    ticket: PublishedCase
    initial_message: Message | None


class CaseUpdated(ApiModel):
    """A case was changed; `changeType` says how."""

    # An event has only the members of its change type, so the members with a default are not required.
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    change_type: Literal[
        "conversation.added",
        "status.changed",
        "attachment.added",
        "attachment.removed",
        "case.changed",
        "link.added",
        "link.removed",
    ]
    actor: str | None = ACTOR
    ticket: PublishedCase
    conversation: Message | None = Field(default=None, description="with conversation.added")
    previous_status: Status | None = Field(default=None, description="with status.changed")
    current_status: Status | None = Field(default=None, description="with status.changed")
    attachment: Attachment | None = Field(
        default=None, description="with attachment.added; with attachment.removed its former values"
    )
    link: CaseLink | None = Field(default=None, description="with link.added; with link.removed its former values")
    visibility: Visibility | None = Field(
        default=None, description="with link.added and link.removed: whether customers see the link"
    )
    previous_owner: PreviousOwner | None = Field(
        default=None, description="with case.changed, if the agent or the team was changed"
    )
    changed_fields: list[str] | None = Field(default=None, description="with case.changed")


class CaseClosed(ApiModel):
    """A case was closed."""

    actor: str | None = ACTOR
    ticket: PublishedCase
    previous_status: Status
    current_status: Literal["closed"]


class CaseSlaBreached(ApiModel):
    """A target of a service level was not reached in time; reported once for each clock that was started."""

    target: Target
    due_at: datetime = Field(description="when the time was up")
    visibility: Visibility = Field(description="whether customers see the clock: the policy of the case is public")
    ticket: PublishedCase


PAYLOADS: dict[str, type[ApiModel]] = {
    outbox.CASE_OPENED: CaseOpened,
    outbox.CASE_UPDATED: CaseUpdated,
    outbox.CASE_CLOSED: CaseClosed,
    outbox.CASE_SLA_BREACHED: CaseSlaBreached,
}
