"""Models of cases as they are returned, and the rules on their status and size. No I/O."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.clocks.case_clocks import ShownClocks
from support_service.cases.model import examples
from support_service.cases.model.history import ENTRY_SCHEMA, ENTRY_TYPE, MAX_HISTORY_ENTRIES
from support_service.cases.model.vocabulary import (
    Assignee,
    CaseContext,
    Description,
    Json,
    Priority,
    SentAt,
    ShownLinkKind,
    Subject,
    Tags,
    Visibility,
)
from support_service.core.domain.case_vocabulary import AuthorType, PresenceState, Status
from support_service.core.domain.references import NAME_BY_REFERENCE_KIND, SourceStatus
from support_service.core.domain.upstream_services import ENTRY_ORIGINS, ENTRY_TYPES, UPSTREAM_SERVICES, UpstreamService
from support_service.core.personal import FACT, INTERNAL, NOT_PERSONAL, PARTS, Personal

AUDITED: Final = "audited"  # in the type of a field: the audit log has its value at the opening of a case
MAX_CONVERSATION_BYTES = 4 * 1024 * 1024  # of a case's messages as JSON
MAX_BEGINNING = 1000  # characters of a message that are read for its beginning in one line
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

    id: Annotated[str, FACT]
    ticket_id: Annotated[str, FACT]
    author_type: Annotated[AuthorType, FACT]
    author_id: Annotated[str | None, Personal("author", "customer removed")] = Field(
        default=None,
        description="id of the customer, of the agent, or of the bot (`bot`, unless a service names another one); null "
        "if it is not known. Customers are shown their own only",
    )
    message: Annotated[str, Personal("masked", "replaced")]
    attachment_uri: Annotated[str | None, Personal("masked", "removed")]
    attachment_ids: Annotated[list[str], FACT] = Field(
        default_factory=list, description="ids of the case's files that it names; `attachmentUri` is that of the first"
    )
    sentiment: Annotated[str | None, Personal("known", "removed")]
    metadata: Annotated[Json | None, Personal("hidden", "removed")]
    visibility: Annotated[Visibility, FACT]
    external_id: Annotated[str | None, Personal("masked", "removed")] = None
    sent_at: Annotated[SentAt | None, FACT] = Field(
        default=None, description="when it was sent; in place of `createdAt` in the timeline"
    )
    created_at: Annotated[datetime, FACT]


WORD_FIELDS = ("subject", "description", "customerId", "tags", "message")  # the fields that a search reads by words
if TYPE_CHECKING:
    MatchField: TypeAlias = str
else:  # also the names of ids
    MatchField = Literal[(*WORD_FIELDS, "id", "externalId", *NAME_BY_REFERENCE_KIND.values())]


class CaseMatch(ApiModel):
    """Where a case matches `q`."""

    field: Annotated[MatchField, Personal("hidden", "removed")] = Field(
        description="what contains the words: a field of the case, or its newest such message. For an id its name: "
        "`id`, `externalId`, or that of a reference in the context"
    )
    message_id: Annotated[str | None, Personal("hidden", "removed")] = Field(
        default=None, description="id of the message, if `field` is `message`; null otherwise"
    )
    snippet: Annotated[str, Personal("hidden", "removed")] = Field(
        description="about 160 characters of its text around the first word that matches; `…` where it is cut"
    )
    highlights: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]], Personal("hidden", "removed")
    ] = Field(
        description="start and end of each part of `snippet` that matches, in order, counted in Unicode code points"
    )


class Viewer(ApiModel):
    """A colleague who views a case, or types in it."""

    name: Annotated[str, NOT_PERSONAL] = Field(
        description="`subject` of the colleague, or the name of one without a subject"
    )
    state: Annotated[PresenceState, NOT_PERSONAL]


# The documents of the API have the fields of the last base class first.
class SettableTexts(ApiModel):
    """What a case is about, as clients set it when they open the case, and change it."""

    subject: Subject
    description: Description | None = None


class SettableFields(ApiModel):
    """Other fields of a case that clients set when they open it, and change."""

    priority: Priority = "normal"
    assigned_agent_id: Assignee | None = None
    team: Assignee | None = None
    context: CaseContext = Field([])
    tags: Tags = Field([])


class CaseSummary(ApiModel):
    """A case without its conversation."""

    model_config = example_config(examples.CASE_SUMMARY, title="Ticket")

    id: Annotated[str, FACT]
    subject: Annotated[str, Personal("masked", "replaced")]
    description: Annotated[str | None, Personal("masked", "removed")]
    customer_id: Annotated[str | None, Personal("pseudonym", "removed"), AUDITED]
    status: Annotated[Status, FACT, AUDITED]
    priority: Annotated[Priority, FACT, AUDITED]
    channel: Annotated[str, Personal("known", "replaced if unknown"), AUDITED]
    assigned_agent_id: Annotated[str | None, FACT, AUDITED]
    team: Annotated[str | None, FACT, AUDITED]
    context: Annotated[list[Json], Personal("entries", "emptied")]
    tags: Annotated[list[str], Personal("words", "emptied"), AUDITED]
    external_id: Annotated[str | None, Personal("masked", "removed")] = None
    sent_at: Annotated[SentAt | None, FACT] = None
    snoozed_until: Annotated[SentAt | None, FACT, AUDITED] = Field(
        default=None, description="when the case becomes open by itself, if it is pending and snoozed, or null"
    )
    created_at: Annotated[datetime, FACT]
    updated_at: Annotated[datetime, FACT]
    match: Annotated[CaseMatch | None, Personal("hidden", "removed")] = Field(
        default=None, exclude_if=lambda match: match is None, description="where it matches; only in a list with `q`"
    )
    # Read with the lock of a case only.
    sla_policy: Annotated[SkipJsonSchema[int | None], INTERNAL] = Field(default=None, exclude=True)
    viewers: Annotated[list[Viewer] | None, PARTS] = Field(
        default=None,
        exclude_if=lambda viewers: viewers is None,
        description="who views the case at present; absent without viewers, and for callers who are not staff",
    )
    # Read with the lock of a case only.
    synthetic: Annotated[SkipJsonSchema[bool], INTERNAL] = Field(default=False, exclude=True)
    # Ids of people, and whether another case is a duplicate of this one; also read with the lock of a case only.
    followers: Annotated[SkipJsonSchema[list[str] | None], INTERNAL] = Field(default=None, exclude=True)
    has_duplicates: Annotated[SkipJsonSchema[bool], INTERNAL] = Field(default=False, exclude=True)
    # Grows with each change; sent to clients as ETag.
    version: Annotated[SkipJsonSchema[int], INTERNAL] = Field(default=1, exclude=True)


Sla = Annotated[
    ShownClocks | None,
    Field(description="clocks of the service levels; null if no policy applies, or if the caller may not see them"),
]


WaitingSince = Annotated[
    datetime | None,
    Field(description="since when the customer of an open or pending case waits for an answer of an agent, or null"),
]


MergedInto = Annotated[
    str | None,
    Field(
        exclude_if=lambda case_id: case_id is None,
        description="the case that this one was closed as a duplicate of; absent for any other case",
    ),
]


Names = Annotated[
    dict[str, str] | None,
    Personal("hidden", "not personal"),
    Field(
        exclude_if=lambda names: names is None,
        description="display names by the ids of agents, authors and viewers in this answer, as far as the directory "
        "has them. Absent without names, and for callers who are not staff",
    ),
]


CustomerName = Annotated[
    str | None,
    Field(
        exclude_if=lambda name: not name,
        description="what the customer is called; absent if nobody said it, for analysts, and in the answer to an "
        "opening. It changes without a new version of the case",
    ),
]


class LastCustomerMessage(ApiModel):
    """What the customer of a case wrote last."""

    model_config = example_config(examples.LAST_CUSTOMER_MESSAGE)

    text: Annotated[str, Personal("hidden", "removed")] = Field(
        description="its beginning in one line of at most 160 characters, without quotations and signature; `…` where "
        "it is cut"
    )
    at: Annotated[datetime, FACT] = Field(description="when it arrived")


class ListedCase(CaseSummary):
    """A case in a list."""

    model_config = example_config(examples.LISTED_CASE, title="ListedTicket")

    waiting_since: Annotated[WaitingSince, FACT]
    last_message_at: Annotated[datetime | None, FACT] = Field(
        description="when the last message arrived that is no internal note, or null"
    )
    last_customer_message: Annotated[LastCustomerMessage | None, Personal("hidden", "removed")] = Field(
        default=None,
        description="the last of the newest 200 messages that is of the customer, or the description of the case; null "
        "without one, and for analysts",
    )
    merged_into: Annotated[MergedInto, FACT] = None
    customer_name: Annotated[CustomerName, Personal("hidden", "removed")] = None
    sla: Annotated[Sla, PARTS] = None
    # As they are stored.
    clocks: Annotated[SkipJsonSchema[list[Json] | None], INTERNAL] = Field(default=None, exclude=True)


class Attachment(ApiModel):
    """A file of a case; `uri` is the address of its content, `sha256` is in hex."""

    model_config = example_config(examples.ATTACHMENT)

    id: Annotated[str, FACT]
    ticket_id: Annotated[str, FACT]
    filename: Annotated[str, Personal("masked", "replaced")]
    content_type: Annotated[str, Personal("known", "replaced if unknown")]
    size_bytes: Annotated[int, FACT]
    sha256: Annotated[str, Personal("hidden", "emptied")]
    visibility: Annotated[Visibility, FACT]
    uri: Annotated[str, Personal("hidden", "emptied")] = ""  # not stored; filled in by the API
    created_at: Annotated[datetime, FACT]
    staged_until: Annotated[datetime | None, FACT] = Field(
        default=None,
        exclude_if=lambda until: until is None,
        description="when it is deleted unless a message names it; only in the answer to the upload of a staged file",
    )


class CaseLink(ApiModel):
    """A link of a case; `kind` says what the case is to the other one, whose id is `caseId`."""

    model_config = example_config(examples.LINK)

    id: Annotated[str, FACT]
    kind: Annotated[ShownLinkKind, FACT]
    case_id: Annotated[str, FACT]
    created_at: Annotated[datetime, FACT]


ANY_ENTRY_SCHEMA: Json = {
    "title": "OtherEntry",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "timestamp": {"type": "string"},
        "origin": {
            "type": "string",
            "enum": list(ENTRY_ORIGINS),
            "description": "where the entry comes from. Only the service sets it. `case`: the conversation, the files "
            "and the changes of the case. `context`: the context that a client gave, whatever it says. Otherwise the "
            "service that gave the entry.",
        },
        "receivedAt": {
            "type": "string",
            "description": "when a message arrived, if that is more than five minutes from when it was sent",
        },
    },
    "required": ["type", "timestamp", "origin"],
}
TimelineEntry = Annotated[Json, WithJsonSchema({"anyOf": [ENTRY_SCHEMA, ANY_ENTRY_SCHEMA]})]
TimelineSources = dict[UpstreamService, SourceStatus]
NO_SOURCES_REQUESTED: TimelineSources = dict.fromkeys(
    UPSTREAM_SERVICES, SourceStatus(status="none", ageSeconds=None, reason="timeline not requested")
)


class Case(CaseSummary):
    """A case with its conversation and attachments; its timeline is empty until it is collected."""

    model_config = example_config(examples.CASE)

    waiting_since: Annotated[WaitingSince, FACT] = None
    merged_into: Annotated[MergedInto, FACT] = None
    customer_name: Annotated[CustomerName, Personal("hidden", "removed")] = None
    messages: Annotated[list[Message], PARTS] = Field(
        description="the conversation with that of its duplicates, oldest first; `ticketId` names the case of each"
    )
    more_messages: Annotated[bool, NOT_PERSONAL] = Field(
        default=False,
        description="there are more messages: after the part that `messagesLimit` asked for, or in duplicates. "
        "Duplicates may be too many or too long to be read at once",
    )
    timeline: Annotated[list[TimelineEntry], Personal("entries", "emptied")] = Field(
        default_factory=list,
        description=f"entries by `timestamp`; `type` is {', '.join(f'`{each}`' for each in ENTRY_TYPES)}, "
        f"`conversation`, `attachment`, `{ENTRY_TYPE}`, or what an entry of the context says. A `{ENTRY_TYPE}` is a "
        f"change of the case; the newest {MAX_HISTORY_ENTRIES:,} are returned at most",
    )
    more_case_events: Annotated[bool, NOT_PERSONAL] = Field(
        default=False, description="true if the case has older changes than `timeline` has"
    )
    attachments: Annotated[list[Attachment], PARTS] = Field(description="oldest first")
    links: Annotated[list[CaseLink], PARTS] = Field(
        default_factory=list,
        description="links with other cases, oldest first; customers see duplicates among their own cases only",
    )
    sla: Annotated[Sla, PARTS] = None
    timeline_sources: Annotated[TimelineSources, NOT_PERSONAL] = Field(
        default_factory=lambda: NO_SOURCES_REQUESTED, description="freshness of each service's part of the timeline"
    )
    names: Names = None
    # In lists only.
    match: Annotated[SkipJsonSchema[CaseMatch | None], Personal("never sent", "removed")] = Field(
        default=None, exclude=True
    )
    # Snapshots of an older epoch are outdated.
    timeline_epoch: Annotated[SkipJsonSchema[int], INTERNAL] = Field(default=0, exclude=True)


class CasePage(ApiModel):
    """A page of cases in the order of its sort; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(examples.CASE_PAGE)

    items: Annotated[list[ListedCase], PARTS]
    next_cursor: Annotated[str | None, NOT_PERSONAL]
    names: Names = None


class Workload(ApiModel):
    """How many cases an agent has, by status."""

    model_config = example_config(examples.WORKLOAD)

    agent_id: Annotated[str, NOT_PERSONAL]
    open: Annotated[int, NOT_PERSONAL] = 0
    pending: Annotated[int, NOT_PERSONAL] = 0
    resolved: Annotated[int, NOT_PERSONAL] = 0
    closed: Annotated[int, NOT_PERSONAL] = 0
