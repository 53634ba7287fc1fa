"""Payload models of the case events, for the AsyncAPI document; `sql/case_events.py` writes the events."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, Attachment, CaseLink, CaseMatch, CaseSummary, Message, Viewer
from support_service.cases.model.vocabulary import Visibility
from support_service.core.domain.case_vocabulary import ClockTarget, NotificationKind, Status
from support_service.core.personal import EVENT_ONLY, FACT, INTERNAL, PARTS, Personal

EVENT_SOURCE = "/support-service"
CASE_OPENED = "support.case.opened.v1"
CASE_UPDATED = "support.case.updated.v1"
CASE_CLOSED = "support.case.closed.v1"
CASE_SLA_BREACHED = "support.case.sla-breached.v1"
DATABASE_RESTORED = "support.database.restored.v1"

ACTOR_FIELD: Any = Field(
    default=None, description="name of the principal who made the change; `customer` for every customer"
)


class PublishedCase(CaseSummary):
    """A case without its conversation."""

    # In lists only.
    match: Annotated[SkipJsonSchema[CaseMatch | None], Personal("never sent", "removed")] = Field(
        default=None, exclude=True
    )
    # Never published.
    viewers: Annotated[SkipJsonSchema[list[Viewer] | None], INTERNAL] = Field(default=None, exclude=True)
    waiting_since: Annotated[datetime | None, FACT] = Field(
        description="since when the customer of an open or pending case waits for an answer of an agent, or null"
    )
    version: Annotated[int, FACT] = Field(description="grows with each change; the number in the `ETag` of staff")
    public_version: Annotated[int, EVENT_ONLY] = Field(
        description="the number in the `ETag` of customers: internal changes do not count"
    )


class PreviousOwner(ApiModel):
    """The agent and the team of a case before a change of one of them."""

    assigned_agent_id: Annotated[str | None, EVENT_ONLY]
    team: Annotated[str | None, EVENT_ONLY]


class Notified(ApiModel):
    """A person who is notified of the change."""

    id: Annotated[str, EVENT_ONLY] = Field(description="of the notification")
    agent_id: Annotated[str, EVENT_ONLY]
    kind: Annotated[NotificationKind, EVENT_ONLY]
    actor_id: Annotated[str, EVENT_ONLY] = Field(
        description="who made the change, as in `authorId`; `customer` for every customer"
    )


NotifiedPeople = Annotated[
    list[Notified] | None,
    PARTS,
    Field(
        exclude_if=lambda people: people is None, description="people who are notified of the change; absent for none"
    ),
]


class CaseOpened(ApiModel):
    """A case was opened."""

    actor: Annotated[str | None, EVENT_ONLY] = ACTOR_FIELD
    ticket: Annotated[PublishedCase, PARTS]
    initial_message: Annotated[Message | None, PARTS]
    split_from: Annotated[str | None, FACT] = Field(
        default=None,
        exclude_if=lambda case_id: case_id is None,
        description="the case that its messages were split from; no event reports them again",
    )
    notified: NotifiedPeople = None


class CaseUpdated(ApiModel):
    """A case was changed; `changeType` says how."""

    # An event has only the members of its change type, so the members with a default are not required.
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    change_type: Annotated[
        Literal[
            "conversation.added",
            "status.changed",
            "attachment.added",
            "attachment.removed",
            "case.changed",
            "case.split",
            "link.added",
            "link.removed",
        ],
        FACT,
    ]
    actor: Annotated[str | None, EVENT_ONLY] = ACTOR_FIELD
    ticket: Annotated[PublishedCase, PARTS]
    conversation: Annotated[Message | None, PARTS] = Field(default=None, description="with conversation.added")
    previous_status: Annotated[Status | None, EVENT_ONLY] = Field(default=None, description="with status.changed")
    current_status: Annotated[Status | None, EVENT_ONLY] = Field(default=None, description="with status.changed")
    attachment: Annotated[Attachment | None, PARTS] = Field(
        default=None, description="with attachment.added; with attachment.removed its former values"
    )
    link: Annotated[CaseLink | None, PARTS] = Field(
        default=None, description="with link.added; with link.removed its former values"
    )
    visibility: Annotated[Visibility | None, EVENT_ONLY] = Field(
        default=None, description="with link.added, link.removed and case.split: whether customers see the link"
    )
    split_into: Annotated[str | None, FACT] = Field(
        default=None, description="with case.split: the new case that messages were moved to, with the files they name"
    )
    message_ids: Annotated[list[str] | None, FACT] = Field(
        default=None, description="with case.split: the messages that were moved"
    )
    previous_owner: Annotated[PreviousOwner | None, PARTS] = Field(
        default=None, description="with case.changed, if the agent or the team was changed"
    )
    changed_fields: Annotated[list[str] | None, EVENT_ONLY] = Field(default=None, description="with case.changed")
    notified: NotifiedPeople = None


class CaseClosed(ApiModel):
    """A case was closed."""

    actor: Annotated[str | None, EVENT_ONLY] = ACTOR_FIELD
    ticket: Annotated[PublishedCase, PARTS]
    previous_status: Annotated[Status, EVENT_ONLY]
    current_status: Annotated[Literal["closed"], EVENT_ONLY]


class CaseSlaBreached(ApiModel):
    """A target of a service level was not reached in time; reported once for each clock that was started."""

    target: Annotated[ClockTarget, EVENT_ONLY]
    due_at: Annotated[datetime, EVENT_ONLY] = Field(description="when the time was up")
    visibility: Annotated[Visibility, EVENT_ONLY] = Field(
        description="whether customers see the clock: the policy of the case is public"
    )
    ticket: Annotated[PublishedCase, PARTS]


class DatabaseRestored(ApiModel):
    """The database was restored from a backup: read again what is kept of the service."""

    undone_after: Annotated[datetime | None, EVENT_ONLY] = Field(
        description="time of the last change that the backup has; later changes were undone, though their events were "
        "published"
    )
    version_base: Annotated[int, EVENT_ONLY] = Field(
        description="versions of events and ETags from now on are greater; versions of earlier ones are not valid"
    )


PAYLOAD_BY_EVENT_TYPE: dict[str, type[ApiModel]] = {
    CASE_OPENED: CaseOpened,
    CASE_UPDATED: CaseUpdated,
    CASE_CLOSED: CaseClosed,
    CASE_SLA_BREACHED: CaseSlaBreached,
    DATABASE_RESTORED: DatabaseRestored,
}
