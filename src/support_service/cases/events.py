"""Payload models of the case events, for the AsyncAPI document; events/outbox.py writes the events."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, Attachment, CaseLink, CaseMatch, CaseSummary, Message
from support_service.core.domain.case_vocabulary import Status
from support_service.core.domain.service_levels import Target
from support_service.events import outbox


class PublishedCase(CaseSummary):
    """A case without its conversation."""

    match: SkipJsonSchema[CaseMatch | None] = Field(default=None, exclude=True)  # in lists only


class CaseOpened(ApiModel):
    """A case was opened."""

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
    ticket: PublishedCase
    conversation: Message | None = Field(default=None, description="with conversation.added")
    previous_status: Status | None = Field(default=None, description="with status.changed")
    current_status: Status | None = Field(default=None, description="with status.changed")
    attachment: Attachment | None = Field(
        default=None, description="with attachment.added; with attachment.removed its former values"
    )
    link: CaseLink | None = Field(default=None, description="with link.added; with link.removed its former values")
    changed_fields: list[str] | None = Field(default=None, description="with case.changed")


class CaseClosed(ApiModel):
    """A case was closed."""

    ticket: PublishedCase
    previous_status: Status
    current_status: Literal["closed"]


class CaseSlaBreached(ApiModel):
    """A target of a service level was not reached in time; reported once for each clock that was started."""

    target: Target
    due_at: datetime = Field(description="when the time was up")
    ticket: PublishedCase


PAYLOADS: dict[str, type[ApiModel]] = {
    outbox.CASE_OPENED: CaseOpened,
    outbox.CASE_UPDATED: CaseUpdated,
    outbox.CASE_CLOSED: CaseClosed,
    outbox.CASE_SLA_BREACHED: CaseSlaBreached,
}
