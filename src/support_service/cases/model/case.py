"""Models of cases as they are returned, and the rules on their status and size. No I/O."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model import examples
from support_service.cases.model.external import SentAt
from support_service.cases.model.history import ENTRY_SCHEMA, ENTRY_TYPE, MAX_ENTRIES
from support_service.cases.model.links import ShownLinkKind
from support_service.cases.model.vocabulary import Json, Priority, Visibility
from support_service.core.domain.case_vocabulary import AuthorType, PresenceState, Status
from support_service.core.domain.references import SourceStatus
from support_service.core.domain.upstream_services import ENTRY_ORIGINS, ENTRY_TYPES, UPSTREAM_SERVICES, UpstreamService
from support_service.core.errors import Conflict
from support_service.sla.shown_clocks import ShownClocks

# Allowed status changes. Any other status may change to closed; a closed case can only be reopened.
ALLOWED_STATUS_CHANGES: Mapping[Status, tuple[Status, ...]] = {
    "open": ("pending", "resolved", "closed"),
    "pending": ("open", "resolved", "closed"),
    "resolved": ("open", "pending", "closed"),
    "closed": ("open",),
}
MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes of a page's cases as JSON; a page that reaches it gets no further case


def example_config(example: examples.Example, *, title: str | None = None) -> ConfigDict:
    """Return the configuration of a model: an example for its JSON schema, and a title if it is not the class name."""
    return ConfigDict(title=title, json_schema_extra={"examples": [example]})


class ApiModel(BaseModel):
    """JSON in camelCase; unknown fields are ignored, because clients of the old service send some."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", json_schema_serialization_defaults_required=True
    )


class Message(ApiModel):
    """A message of a case's conversation."""

    model_config = example_config(examples.MESSAGE)

    id: str
    ticket_id: str
    author_type: AuthorType
    message: str
    attachment_uri: str | None
    attachment_ids: list[str] = Field(
        default_factory=list, description="ids of the case's files that it names; `attachmentUri` is that of the first"
    )
    sentiment: str | None
    metadata: Json | None
    visibility: Visibility
    external_id: str | None = None
    sent_at: SentAt | None = Field(
        default=None, description="when it was sent; in place of `createdAt` in the timeline"
    )
    created_at: datetime


MatchField = Literal["subject", "description", "customerId", "tags", "message"]


class CaseMatch(ApiModel):
    """Where a case matches `q`."""

    field: MatchField = Field(description="what contains the words: a field of the case, or its newest such message")
    snippet: str = Field(
        description="about 160 characters of its text around the first word that matches; `…` where it is cut"
    )
    highlights: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="start and end of each part of `snippet` that matches, in order, counted in Unicode code points"
    )


class Viewer(ApiModel):
    """A colleague who views a case, or types in it."""

    name: str = Field(description="`subject` of the colleague, or the name of one without a subject")
    state: PresenceState


class CaseSummary(ApiModel):
    """A case without its conversation."""

    model_config = example_config(examples.CASE_SUMMARY, title="Ticket")

    id: str
    subject: str
    description: str | None
    customer_id: str | None
    status: Status
    priority: Priority
    channel: str
    assigned_agent_id: str | None
    team: str | None
    context: list[Json]
    tags: list[str]
    external_id: str | None = None
    sent_at: SentAt | None = None
    created_at: datetime
    updated_at: datetime
    match: CaseMatch | None = Field(
        default=None, exclude_if=lambda match: match is None, description="where it matches; only in a list with `q`"
    )
    sla_policy: SkipJsonSchema[int | None] = Field(default=None, exclude=True)  # read with the lock of a case only
    viewers: list[Viewer] | None = Field(
        default=None,
        exclude_if=lambda viewers: viewers is None,
        description="who views the case at present; absent without viewers, and for callers who are not staff",
    )
    synthetic: SkipJsonSchema[bool] = Field(default=False, exclude=True)  # read with the lock of a case only
    version: SkipJsonSchema[int] = Field(default=1, exclude=True)  # grows with each change; sent to clients as ETag


Sla = Annotated[
    ShownClocks | None,
    Field(description="clocks of the service levels; null if no policy applies, or if the caller may not see them"),
]


WaitingSince = Annotated[
    datetime | None,
    Field(description="since when the customer of an open or pending case waits for an answer of an agent, or null"),
]


class ListedCase(CaseSummary):
    """A case in a list."""

    model_config = example_config(examples.LISTED_CASE, title="ListedTicket")

    waiting_since: WaitingSince
    last_message_at: datetime | None = Field(
        description="when the last message arrived that is no internal note, or null"
    )
    sla: Sla = None
    clocks: SkipJsonSchema[list[Json] | None] = Field(default=None, exclude=True)  # as they are stored


class Attachment(ApiModel):
    """A file of a case; `uri` is the address of its content, `sha256` is in hex."""

    model_config = example_config(examples.ATTACHMENT)

    id: str
    ticket_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    visibility: Visibility
    uri: str = ""  # not stored; filled in by the API
    created_at: datetime
    staged_until: datetime | None = Field(
        default=None,
        exclude_if=lambda until: until is None,
        description="when it is deleted unless a message names it; only in the answer to the upload of a staged file",
    )


class CaseLink(ApiModel):
    """A link of a case; `kind` says what the case is to the other one, whose id is `caseId`."""

    model_config = example_config(examples.LINK)

    id: str
    kind: ShownLinkKind
    case_id: str
    created_at: datetime


ANY_ENTRY_SCHEMA: Json = {
    "title": "OtherEntry",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "timestamp": {"type": "string"},
        "origin": {
            "type": "string",
            "enum": list(ENTRY_ORIGINS),
            "description": "where the entry comes from; only the service sets it. `case`: the conversation, the files "
            "and the changes of the case; `context`: the context that a client gave, whatever it says; otherwise the "
            "service that gave the entry",
        },
        "receivedAt": {
            "type": "string",
            "description": "when a message arrived, if that is more than five minutes from when it was sent",
        },
    },
    "required": ["type", "timestamp", "origin"],
}
TimelineEntry = Annotated[Json, WithJsonSchema({"anyOf": [ENTRY_SCHEMA, ANY_ENTRY_SCHEMA]})]
Sources = dict[UpstreamService, SourceStatus]
NOT_REQUESTED: Sources = dict.fromkeys(
    UPSTREAM_SERVICES, SourceStatus(status="none", ageSeconds=None, reason="timeline not requested")
)


class Case(CaseSummary):
    """A case with its conversation and attachments; its timeline is empty until it is collected."""

    model_config = example_config(examples.CASE)

    waiting_since: WaitingSince = None
    messages: list[Message] = Field(description="the conversation, oldest first")
    more_messages: bool = Field(default=False, description="messages follow; only if `messagesLimit` asked for a part")
    timeline: list[TimelineEntry] = Field(
        default_factory=list,
        description=f"entries by `timestamp`; `type` is {', '.join(f'`{each}`' for each in ENTRY_TYPES)}, "
        f"`conversation`, `attachment`, `{ENTRY_TYPE}`, or what an entry of the context says. A `{ENTRY_TYPE}` is a "
        f"change of the case; the newest {MAX_ENTRIES:,} are returned at most",
    )
    more_case_events: bool = Field(
        default=False, description="true if the case has older changes than those in `timeline`"
    )
    attachments: list[Attachment] = Field(description="oldest first")
    links: list[CaseLink] = Field(
        default_factory=list,
        description="links with other cases, oldest first; customers see duplicates among their own cases only",
    )
    sla: Sla = None
    timeline_sources: Sources = Field(
        default_factory=lambda: NOT_REQUESTED, description="freshness of each service's part of the timeline"
    )
    match: SkipJsonSchema[CaseMatch | None] = Field(default=None, exclude=True)  # in lists only
    timeline_epoch: SkipJsonSchema[int] = Field(default=0, exclude=True)  # snapshots of an older epoch are outdated


class CasePage(ApiModel):
    """A page of cases in the order of its sort; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(examples.CASE_PAGE)

    items: list[ListedCase]
    next_cursor: str | None


class Workload(ApiModel):
    """How many cases an agent has, by status."""

    model_config = example_config(examples.WORKLOAD)

    agent_id: str
    open: int = 0
    pending: int = 0
    resolved: int = 0
    closed: int = 0


def check_status_change(before: Status, after: Status) -> None:
    """Raise Conflict if a case can't change from one status to the other; an unchanged status is allowed."""
    if after != before and after not in ALLOWED_STATUS_CHANGES[before]:
        allowed = f"it can only become {' or '.join(ALLOWED_STATUS_CHANGES[before])}"
        raise Conflict("status_move_not_allowed", f"A {before} case can't become {after}: {allowed}.")
