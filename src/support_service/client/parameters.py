"""Fields that methods take as keywords, in snake_case.

`make generate` writes this module.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict

from support_service.cases.clocks.policy import PolicyCalendar, PolicyMatch, PolicyTargets
from support_service.cases.model.vocabulary import CaseSort
from support_service.core.domain.case_vocabulary import AuthorType, Priority, Status
from support_service.desk.customer_models import Contact

Visibility = Literal["public", "internal"]
NESTED = frozenset(("change", "initial_message", "query"))  # fields that have fields


class NewMessageFields(TypedDict, total=False):
    """A message to add to a case."""

    author_type: Required[AuthorType]
    message: Required[str]
    attachment_uri: str | None
    attachment_ids: Sequence[str]
    sentiment: str | None
    metadata: Mapping[str, Any] | None
    visibility: Visibility
    external_id: str | None
    sent_at: datetime | None
    author_id: str | None


class NewCaseFields(TypedDict, total=False):
    """A case to open."""

    subject: Required[str]
    description: str | None
    customer_id: str | None
    channel: Required[str]
    priority: Priority
    assigned_agent_id: str | None
    team: str | None
    context: Sequence[Mapping[str, Any]]
    tags: Sequence[str]
    external_id: str | None
    sent_at: datetime | None
    initial_message: NewMessageFields | None


class CaseChangeFields(TypedDict, total=False):
    """Changes of a case; omitted fields stay unchanged."""

    subject: str
    description: str | None
    priority: Priority
    assigned_agent_id: str | None
    team: str | None
    context: Sequence[Mapping[str, Any]]
    tags: Sequence[str]
    status: Status


class ClosingFields(TypedDict, total=False):
    """An optional last message and an optional agent for a case that is closed."""

    message: str | None
    author_type: AuthorType
    attachment_uri: str | None
    attachment_ids: Sequence[str]
    sentiment: str | None
    metadata: Mapping[str, Any] | None
    visibility: Visibility
    assigned_agent_id: str | None


class CaseFilterFields(TypedDict, total=False):
    """Which cases to list, and in which order; every filter given must hold."""

    status: Status | Sequence[Status] | None
    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None
    mentioned_agent_id: str | None
    priority: Priority | None
    channel: str | None
    tag: str | Sequence[str] | None
    order_id: str | None
    payment_id: str | None
    shipment_id: str | None
    updated_after: datetime | None
    due_before: datetime | None
    due_within: timedelta | str | None
    snoozed: bool | None
    q: str | None
    sort: CaseSort


class CaseReadOptions(TypedDict, total=False):
    """The query of a case: whether to collect its timeline, or which part of the conversation to return."""

    include_timeline: bool
    messages_after: str | None
    messages_limit: int | None
    include_linked: bool


class ViewChangeFields(TypedDict, total=False):
    """Changes of a saved view; omitted fields stay unchanged."""

    name: str
    query: CaseFilterFields
    team: str | None


class BulkChangeFields(TypedDict, total=False):
    """What a bulk change does to each case; omitted fields stay unchanged. Unknown fields are refused."""

    assigned_agent_id: str | None
    team: str | None
    priority: Priority
    status: Status
    until: datetime | None
    add_tags: Sequence[str]
    remove_tags: Sequence[str]


class AgentChangeFields(TypedDict, total=False):
    """What changes of a person's entry; fields that are not sent stay as they are, and null clears a field."""

    display_name: str | None
    teams: Sequence[str]
    role: Literal["agent", "supervisor", "analyst"] | None
    away: bool


class CustomerChangeFields(TypedDict, total=False):
    """What changes of a customer; fields that are not sent stay as they are, and null clears a field."""

    name: str | None
    contacts: Sequence[Contact]
    notes: str | None


class MacroFields(TypedDict, total=False):
    """The content of a macro. `status` and `tags` are what a case shall get with the text; none by default."""

    text: Required[str]
    status: Status | None
    tags: Sequence[str]


class PolicyFields(TypedDict, total=False):
    """The content of a policy."""

    match: PolicyMatch
    targets: Required[PolicyTargets]
    calendar: PolicyCalendar | None
    public: bool
