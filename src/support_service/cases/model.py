"""Request and response models of cases. Pure: no I/O, and no framework except pydantic."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from itertools import filterfalse
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema

from support_service.cases import examples
from support_service.cases.vocabulary import (
    Channel,
    Context,
    Description,
    Identifier,
    Json,
    Metadata,
    Priority,
    Sentiment,
    Subject,
    Tags,
    Text,
    Uri,
    Visibility,
)
from support_service.core.case_vocabulary import AuthorType, Status
from support_service.core.errors import Conflict
from support_service.core.references import SourceStatus
from support_service.core.upstream_services import ENTRY_TYPES, UPSTREAM_SERVICES, UpstreamService

MAX_SEARCH_WORD_LENGTH = 64  # letters of a word that are searchable
# Bytes of a case's words in the search index. This is enough for the longest text in any script, at three parts of
# three bytes per letter. A limit is necessary because some characters expand to up to 18 letters, and PostgreSQL
# accepts at most 1 MiB, to which each word adds five bytes.
MAX_SEARCH_TEXT_BYTES = 640 * 1024
DEFAULT_PAGE_SIZE = 50
# Allowed status changes. Any other status may change to closed; a closed case can only be reopened.
ALLOWED_STATUS_CHANGES: Mapping[Status, tuple[Status, ...]] = {
    "open": ("pending", "resolved", "closed"),
    "pending": ("open", "resolved", "closed"),
    "resolved": ("open", "pending", "closed"),
    "closed": ("open",),
}
MAX_PAGE_SIZE = 200
MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes of a page's cases as JSON; a page that reaches it gets no further case
CURSOR_PATTERN = "^[A-Za-f][A-Za-z0-9_-]{10}$"  # eight bytes in base64url; their first bit is 0


def example_config(example: examples.Example) -> ConfigDict:
    """Return the model configuration that puts an example into the model's JSON schema."""
    return ConfigDict(json_schema_extra={"examples": [example]})


def _without_required(schema: dict[str, Any]) -> None:
    """Add an example and make all members optional: members missing from the body may be in the query string."""
    schema["examples"] = [examples.STATUS_CHANGE]
    del schema["required"]


def _without_defaults(schema: dict[str, Any]) -> None:
    """Add an example and remove the defaults: they only make the fields optional and never apply to a change."""
    schema["examples"] = [examples.CASE_CHANGE]
    for field_schema in schema["properties"].values():
        field_schema.pop("default", None)


class ApiModel(BaseModel):
    """JSON in camelCase; fields that nobody knows are ignored, as clients of the old service send some."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", json_schema_serialization_defaults_required=True
    )


class RequestModel(ApiModel):
    """What a client sends; a field that is null counts as left out."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, sent: object) -> object:
        if isinstance(sent, dict):
            return {name: value for name, value in sent.items() if value is not None}
        return sent

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema with each optional field marked as nullable."""
        schema = handler(core)
        model_schema = handler.resolve_ref_schema(schema)
        for name in model_schema["properties"].keys() - model_schema.get("required", ()):
            field_schema = model_schema["properties"][name]
            annotations = {
                key: field_schema.pop(key) for key in ("title", "description", "default") if key in field_schema
            }
            alternatives = field_schema.pop("anyOf") if set(field_schema) == {"anyOf"} else [field_schema]
            alternatives += [{"type": "null"}] if {"type": "null"} not in alternatives else []
            model_schema["properties"][name] = annotations | {"anyOf": alternatives}
        return schema


class NewMessage(RequestModel):
    """A message to add to a case."""

    model_config = example_config(examples.NEW_MESSAGE)

    author_type: AuthorType
    message: Text
    attachment_uri: Uri | None = None
    sentiment: Sentiment | None = None
    metadata: Metadata | None = None
    visibility: Visibility = "public"


class NewCase(RequestModel):
    """A case to open."""

    model_config = example_config(examples.NEW_CASE)

    subject: Subject
    description: Description | None = None
    customer_id: Identifier | None = None
    channel: Channel
    priority: Priority = "normal"
    assigned_agent_id: Identifier | None = None
    team: Identifier | None = None
    context: Context = []
    tags: Tags = []
    initial_message: NewMessage | None = None


class CaseChange(ApiModel):
    """What may be changed of a case; a field that is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    subject: Subject = ""
    description: Description | None = None
    priority: Priority = "normal"
    assigned_agent_id: Identifier | None = None
    team: Identifier | None = None
    context: Context = []
    tags: Tags = []
    status: Status = "open"

    def given(self) -> dict[str, Any]:
        """Return the fields that the client sent, by their Python names."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class StatusChange(RequestModel):
    """A status to give a case, and perhaps an agent."""

    model_config = ConfigDict(json_schema_extra=_without_required)

    status: Status = Field(description="the status to give")
    assigned_agent_id: Identifier | None = Field(None, description="the agent to give the case to")


class Closing(RequestModel):
    """How a case is closed: a last message and an agent, each if given."""

    model_config = example_config(examples.CLOSING)

    message: Text | None = None
    author_type: AuthorType = "agent"
    attachment_uri: Uri | None = None
    sentiment: Sentiment | None = None
    metadata: Metadata | None = None
    visibility: Visibility = "public"
    assigned_agent_id: Identifier | None = None

    def last_message(self) -> NewMessage | None:
        """Return the message to add, or None without one."""
        if self.message is None:
            return None
        return NewMessage.model_construct(
            author_type=self.author_type,
            message=self.message,
            attachment_uri=self.attachment_uri,
            sentiment=self.sentiment,
            metadata=self.metadata,
            visibility=self.visibility,
        )


class CaseQuery(ApiModel):
    """Which cases to list; every filter given must hold."""

    status: Status | None = Field(None, description="only cases in this status")
    customer_id: Identifier | None = Field(None, description="only cases of this customer")
    assigned_agent_id: Identifier | None = Field(None, description="only cases of this agent")
    team: Identifier | None = Field(None, description="only cases of this team")
    priority: Priority | None = Field(None, description="only cases of this priority; `medium` is read as `normal`")
    channel: Channel | None = Field(None, description="only cases of this channel")
    q: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="words that subject, description or customer must have, whatever their case and diacritics"
    )
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE,
        description="how many cases a page has at most; one whose cases have more than about 4 MiB of JSON ends early",
    )
    cursor: Annotated[str, Field(max_length=64, json_schema_extra={"pattern": CURSOR_PATTERN})] | None = Field(
        None, description="`nextCursor` of the page before; without it the list starts with the newest case"
    )


class Message(ApiModel):
    """A message of a case's conversation."""

    model_config = example_config(examples.MESSAGE)

    id: str
    ticket_id: str
    author_type: AuthorType
    message: str
    attachment_uri: str | None
    sentiment: str | None
    metadata: Json | None
    visibility: Visibility
    created_at: datetime


class Ticket(ApiModel):
    """A case without its conversation."""

    model_config = example_config(examples.TICKET)

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
    created_at: datetime
    updated_at: datetime
    version: SkipJsonSchema[int] = Field(default=1, exclude=True)  # grows with each change; sent to clients as ETag


class Attachment(ApiModel):
    """A file of a case; `uri` gives its bytes, `sha256` is in hex."""

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


Sources = dict[UpstreamService, SourceStatus]
NOT_REQUESTED: Sources = dict.fromkeys(
    UPSTREAM_SERVICES, SourceStatus(status="none", ageSeconds=None, reason="timeline not requested")
)


class Case(Ticket):
    """A case with its conversation and attachments; its timeline is empty until someone collects it."""

    model_config = example_config(examples.CASE)

    messages: list[Message] = Field(description="the conversation, oldest first")
    timeline: list[Json] = Field(
        default_factory=list,
        description=f"entries by `timestamp`; `type` is {', '.join(f'`{each}`' for each in ENTRY_TYPES)}, "
        "`conversation`, `attachment`, or what an entry of the context says",
    )
    attachments: list[Attachment] = Field(description="oldest first")
    timeline_sources: Sources = Field(
        default_factory=lambda: NOT_REQUESTED, description="what each service's part of the timeline is worth"
    )
    timeline_epoch: SkipJsonSchema[int] = Field(default=0, exclude=True)  # snapshots of an older epoch are outdated


class CasePage(ApiModel):
    """A page of cases, newest first; `nextCursor` asks for the next page, null ends the list."""

    model_config = example_config(examples.CASE_PAGE)

    items: list[Ticket]
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


def search_words(*texts: str | None) -> list[str]:
    """Return the words of the texts, folded for search: lower case, without diacritics ("Đơn hàng": don, hang).

    Each word is cut to `MAX_SEARCH_WORD_LENGTH` letters.
    """
    bare = " ".join(filter(None, texts)).casefold()
    if not bare.isascii():
        # Marks are also removed before NFKD, which would sort a long run of them for seconds.
        folded = unicodedata.normalize("NFKD", _without_marks(bare.replace("đ", "d")))
        bare = _without_marks(folded[:MAX_SEARCH_TEXT_BYTES])
    return [word[:MAX_SEARCH_WORD_LENGTH] for word in re.findall(r"[^\W_]+", bare)]


def _without_marks(text: str) -> str:
    return "".join(filterfalse(unicodedata.combining, text))
