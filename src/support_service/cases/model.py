"""A case as clients see it: what they may send, and what they get. Pure: no I/O, no framework beyond validation."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from support_service.references import Service, SourceStatus

Status = Literal["open", "pending", "resolved", "closed"]
AuthorType = Literal["agent", "customer", "bot"]
Visibility = Literal["public", "internal"]  # an internal note is for agents' eyes, never for customers'
Json = dict[str, Any]

MAX_TEXT = 65_536  # characters in a description or message
MAX_CONTEXT = 500  # entries
MAX_WORD = 64  # letters of a word that count in a search
DEFAULT_LIMIT = 50
MAX_LIMIT = 200


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, dict) else value


def _priority(value: object) -> object:
    return "normal" if value == "medium" else value


Priority = Annotated[Literal["low", "normal", "high", "urgent"], BeforeValidator(_priority)]
Subject = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_not_blank)]
Description = Annotated[str, Field(max_length=MAX_TEXT)]
Identifier = Annotated[str, Field(min_length=1, max_length=36)]
Channel = Annotated[str, Field(min_length=1, max_length=32), AfterValidator(_not_blank)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_not_blank)]
Context = Annotated[list[Json], BeforeValidator(_as_list), Field(max_length=MAX_CONTEXT)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)]
Uri = Annotated[str, Field(max_length=2048)]
Sentiment = Annotated[str, Field(max_length=32)]


class Wire(BaseModel):
    """JSON in camelCase; fields that nobody knows are ignored, as clients of the old service send some."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class Request(Wire):
    """What a client sends; a field that is null counts as left out."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, sent: object) -> object:
        if isinstance(sent, dict):
            return {name: value for name, value in sent.items() if value is not None}
        return sent


class NewMessage(Request):
    """A message to add to a case."""

    author_type: AuthorType
    message: Text
    attachment_uri: Uri | None = None
    sentiment: Sentiment | None = None
    metadata: Json | None = None
    visibility: Visibility = "public"


class NewCase(Request):
    """A case to open."""

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


class CaseChange(Wire):
    """What may be changed of a case; a field that is left out stays as it is."""

    subject: Subject = ""
    description: Description | None = None
    priority: Priority = "normal"
    assigned_agent_id: Identifier | None = None
    team: Identifier | None = None
    context: Context = []
    tags: Tags = []
    status: Status = "open"

    def given(self) -> dict[str, Any]:
        """The fields that the client sent, by their names here."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class StatusChange(Request):
    """A status to give a case, and perhaps an agent."""

    status: Status
    assigned_agent_id: Identifier | None = None


class Closing(Request):
    """How a case is closed: a last message and an agent, each if given."""

    message: Text | None = None
    author_type: AuthorType = "agent"
    attachment_uri: Uri | None = None
    sentiment: Sentiment | None = None
    metadata: Json | None = None
    visibility: Visibility = "public"
    assigned_agent_id: Identifier | None = None

    def last_message(self) -> NewMessage | None:
        """The message to add, where there is one."""
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


class CaseQuery(Wire):
    """Which cases to list; every filter given must hold."""

    status: Status | None = None
    customer_id: Identifier | None = None
    assigned_agent_id: Identifier | None = None
    team: Identifier | None = None
    priority: Priority | None = None
    channel: Channel | None = None
    q: Annotated[str, Field(max_length=200)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, Field(max_length=64)] | None = None


class Message(Wire):
    """A message of a case's conversation."""

    id: str
    ticket_id: str
    author_type: AuthorType
    message: str
    attachment_uri: str | None
    sentiment: str | None
    metadata: Json | None
    visibility: Visibility
    created_at: datetime


class Ticket(Wire):
    """A case without its conversation."""

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


class Attachment(Wire):
    """A file of a case; `uri` gives its bytes, `sha256` is in hex."""

    id: str
    ticket_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    uri: str = ""  # known to those who serve it
    created_at: datetime


Sources = dict[Service, SourceStatus]
_NOT_REQUESTED = SourceStatus(status="none", ageSeconds=None, reason="timeline not requested")
NOT_REQUESTED: Sources = {"order": _NOT_REQUESTED, "payment": _NOT_REQUESTED, "fulfillment": _NOT_REQUESTED}


class Case(Ticket):
    """A case with its conversation and attachments; its timeline is empty until someone collects it."""

    messages: list[Message]
    timeline: list[Json] = Field(default_factory=list)
    attachments: list[Attachment]
    timeline_sources: Sources = Field(default_factory=lambda: NOT_REQUESTED)
    timeline_epoch: SkipJsonSchema[int] = Field(default=0, exclude=True)  # what is cached of an older one is outdated


class CasePage(Wire):
    """A page of cases, newest first; `nextCursor` asks for the next page, null ends the list."""

    items: list[Ticket]
    next_cursor: str | None


class Workload(Wire):
    """How many cases an agent has, by status."""

    agent_id: str
    open: int = 0
    pending: int = 0
    resolved: int = 0
    closed: int = 0


def search_words(*texts: str | None) -> list[str]:
    """The words of texts, folded for search: lower case, without diacritics ("Đơn hàng" becomes don, hang)."""
    bare = " ".join(filter(None, texts)).casefold()
    if not bare.isascii():
        decomposed = unicodedata.normalize("NFKD", bare.replace("đ", "d"))
        bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return [word[:MAX_WORD] for word in re.findall(r"[^\W_]+", bare)]
