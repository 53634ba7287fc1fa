"""Fields that operations take as keywords, in snake_case. A test compares them with the models of the service."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict

from support_service.cases.clocks.policy import PolicyCalendar, PolicyMatch, PolicyTargets
from support_service.cases.model.vocabulary import CaseSort, LinkKind
from support_service.core.domain.case_vocabulary import AuthorType, Priority, Status

__all__ = [
    "CaseChangeFields",
    "CaseFilterFields",
    "CaseReadOptions",
    "ClosingFields",
    "LinkKind",
    "MacroFields",
    "NewCaseFields",
    "NewMessageFields",
    "PolicyFields",
    "ViewChangeFields",
    "Visibility",
]

JsonObject = Mapping[str, Any]
Visibility = Literal["public", "internal"]


class NewMessageFields(TypedDict, total=False):
    """A message to add. A `visibility` of `internal` hides it from customers."""

    author_type: Required[AuthorType]
    message: Required[str]
    attachment_uri: str | None
    attachment_ids: Sequence[str]
    sentiment: str | None
    metadata: JsonObject | None
    visibility: Visibility
    external_id: str | None
    sent_at: datetime | None


class NewCaseFields(TypedDict, total=False):
    """A case to open."""

    subject: Required[str]
    channel: Required[str]
    description: str | None
    customer_id: str | None
    priority: Priority
    assigned_agent_id: str | None
    team: str | None
    context: Sequence[JsonObject]
    tags: Sequence[str]
    initial_message: NewMessageFields | None
    external_id: str | None
    sent_at: datetime | None


class CaseChangeFields(TypedDict, total=False):
    """Changes of a case. Fields that are left out stay as they are; None clears a description, an agent or a team."""

    subject: str
    description: str | None
    priority: Priority
    assigned_agent_id: str | None
    team: str | None
    context: Sequence[JsonObject]
    tags: Sequence[str]
    status: Status


class ClosingFields(TypedDict, total=False):
    """The last message of a case that is closed, and its agent."""

    message: str | None
    author_type: AuthorType
    attachment_uri: str | None
    attachment_ids: Sequence[str]
    sentiment: str | None
    metadata: JsonObject | None
    visibility: Visibility
    assigned_agent_id: str | None


class CaseFilterFields(TypedDict, total=False):
    """Which cases to list, and in which order; every filter must hold. Agent or team `none`: cases without one."""

    status: Status | Sequence[Status] | None
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    priority: Priority | None
    channel: str | None
    tag: str | Sequence[str] | None
    order_id: str | None
    payment_id: str | None
    shipment_id: str | None
    updated_after: datetime | None
    due_before: datetime | None
    due_within: timedelta | str | None
    q: str | None
    sort: CaseSort


class CaseReadOptions(TypedDict, total=False):
    """Which parts of a case to read."""

    include_timeline: bool
    include_linked: bool
    messages_after: str | None
    messages_limit: int | None


class ViewChangeFields(TypedDict, total=False):
    """Changes of a saved view. `query` replaces all its filters; a team of None makes it the caller's own."""

    name: str
    query: CaseFilterFields
    team: str | None


class MacroFields(TypedDict, total=False):
    """What a macro has besides its name."""

    text: Required[str]
    status: Status | None
    tags: Sequence[str]


class PolicyFields(TypedDict, total=False):
    """What a service level policy has besides its name. Without a calendar all of the time counts."""

    match: PolicyMatch
    targets: Required[PolicyTargets]
    calendar: PolicyCalendar | None
    public: bool
