"""Request models of cases: bodies and query parameters."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, SettableFields, SettableTexts, example_config
from support_service.cases.model.vocabulary import (
    MAX_SPLIT_MESSAGES,
    Assignee,
    AttachmentIds,
    AttachmentUri,
    AuthorId,
    AuthorType,
    CaseSort,
    Channel,
    ExternalId,
    Identifier,
    LinkKind,
    MessageMetadata,
    MessageText,
    Moment,
    NewSentAt,
    Priority,
    Sentiment,
    SnoozeEnd,
    Status,
    Statuses,
    Subject,
    Tag,
    TimeSpan,
    Visibility,
)
from support_service.core.domain.case_vocabulary import PENDING
from support_service.core.domain.references import MAX_REFERENCE_LENGTH
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.personal import FACT, Personal

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
CURSOR_PATTERN = "^[A-Za-z0-9_-]+$"  # base64url, see core/pagination.py
MAX_QUERY_TAGS = 10  # tags in one query
Cursor = Annotated[str, Field(max_length=128, json_schema_extra={"pattern": CURSOR_PATTERN})]  # in a query


def _make_members_optional(schema: dict[str, Any]) -> None:
    """Add an example and make all members optional: members missing from the body may be in the query string."""
    schema["examples"] = [examples.STATUS_CHANGE]
    del schema["required"]


PersonId = Annotated[str, Field(min_length=1, max_length=128)]
ReferenceId = Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE_LENGTH)]


class RequestModel(ApiModel):
    """A body or query that a client sends; a field that is null counts as missing."""

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


class SentChanges(ApiModel):
    """Changes of an object. A field that is not sent stays as it is; null is a value. Defaults never apply."""

    def sent_fields(self) -> dict[str, Any]:
        """Return the fields that the client sent, by their Python names."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema without defaults."""
        schema = handler(core)
        for field_schema in handler.resolve_ref_schema(schema)["properties"].values():
            field_schema.pop("default", None)
        return schema


def _check_no_uri(ids: list[str], checked: ValidationInfo) -> list[str]:
    """Return the ids of a message's files. Raises ValueError if it also has an attachmentUri."""
    if ids and checked.data.get("attachment_uri") is not None:
        raise ValueError("can't be sent together with attachmentUri; name all files by their ids")
    return ids


class NewMessage(RequestModel):
    """A message to add to a case."""

    model_config = example_config(examples.NEW_MESSAGE)

    author_type: AuthorType
    message: MessageText
    attachment_uri: AttachmentUri = None
    attachment_ids: AttachmentIds = Field([])
    sentiment: Sentiment | None = None
    metadata: MessageMetadata | None = None
    visibility: Visibility = "public"
    external_id: ExternalId | None = None
    sent_at: NewSentAt | None = None
    author_id: AuthorId | None = None

    @field_validator("attachment_ids")
    @classmethod
    def _check_ids_replace_uri(cls, ids: list[str], checked: ValidationInfo) -> list[str]:
        return _check_no_uri(ids, checked)


class CaseOrigin(ApiModel):
    """Whose a case is, and where it comes from."""

    customer_id: Identifier | None = None
    channel: Channel


class NewCase(SettableFields, CaseOrigin, SettableTexts, RequestModel):
    """A case to open."""

    model_config = example_config(examples.NEW_CASE)

    external_id: ExternalId | None = None
    sent_at: NewSentAt | None = None
    initial_message: NewMessage | None = None

    @field_validator("initial_message")
    @classmethod
    def _check_names_no_files(cls, first: NewMessage | None) -> NewMessage | None:
        if first and first.attachment_ids:
            raise ValueError("can't have attachmentIds: a new case has no files yet. Send them with a message after it")
        return first


class CaseChange(SentChanges, SettableFields, SettableTexts):
    """Changes of a case; omitted fields stay unchanged."""

    model_config = example_config(examples.CASE_CHANGE)

    subject: Subject = ""
    status: Status = "open"


class StatusChange(RequestModel):
    """The new status of a case, and optionally its agent."""

    model_config = ConfigDict(json_schema_extra=_make_members_optional)

    status: Status = Field(description="the new status")
    assigned_agent_id: Assignee | None = Field(None, description="the new agent")
    until: SnoozeEnd | None = None

    @field_validator("until")
    @classmethod
    def _check_is_pending(cls, until: datetime | None, checked: ValidationInfo) -> datetime | None:
        # An invalid status has an error of its own.
        if until is not None and checked.data.get("status", PENDING) != PENDING:
            raise ValueError("can be sent only with the status `pending`, which a snoozed case has")
        return until


class Closing(RequestModel):
    """An optional last message and an optional agent for a case that is closed."""

    model_config = example_config(examples.CLOSING)

    message: MessageText | None = None
    author_type: AuthorType = "agent"
    attachment_uri: AttachmentUri = None
    attachment_ids: AttachmentIds = Field([])
    sentiment: Sentiment | None = None
    metadata: MessageMetadata | None = None
    visibility: Visibility = "public"
    assigned_agent_id: Assignee | None = None

    @field_validator("attachment_ids")
    @classmethod
    def _check_ids_replace_uri(cls, ids: list[str], checked: ValidationInfo) -> list[str]:
        if ids and checked.data.get("message") is None:
            raise ValueError("belongs to a message; send `message` too")
        return _check_no_uri(ids, checked)

    def last_message(self) -> NewMessage | None:
        """Return the message to add, or None without one."""
        if self.message is None:
            return None
        return NewMessage.model_construct(
            author_type=self.author_type,
            message=self.message,
            attachment_uri=self.attachment_uri,
            attachment_ids=self.attachment_ids,
            sentiment=self.sentiment,
            metadata=self.metadata,
            visibility=self.visibility,
        )


class NewLink(RequestModel):
    """A link to add to a case: what the case is to the other one, whose id is `caseId`."""

    model_config = example_config(examples.NEW_LINK)

    kind: LinkKind
    case_id: Identifier = Field(description="id of the other case")


class Merge(RequestModel):
    """The case that a case is merged into."""

    model_config = example_config(examples.MERGE)

    into: Identifier = Field(description="id of the case that this one is a duplicate of")


class Split(RequestModel):
    """Messages of a case that become a new case, and its subject."""

    model_config = example_config(examples.SPLIT)

    message_ids: Annotated[list[Identifier], Field(min_length=1, max_length=MAX_SPLIT_MESSAGES)] = Field(
        description="ids of messages of this case; the files that they name move with them"
    )
    subject: Subject


class _FiltersByColumns(ApiModel):
    status: Annotated[Statuses, FACT] = Field(
        (), description="only cases in one of these statuses, separated by commas or repeated"
    )
    customer_id: Annotated[Identifier | None, Personal("pseudonym", "removed")] = Field(
        None, description="only cases of this customer"
    )
    assigned_agent_id: Annotated[Identifier | None, FACT] = Field(
        None, description="only cases of this agent; `none`: only cases without an agent"
    )
    team: Annotated[Identifier | None, FACT] = Field(
        None, description="only cases of this team; `none`: only cases without a team"
    )
    mentioned_agent_id: Annotated[PersonId | None, FACT] = Field(
        None,
        description="only cases in which a note has mentioned this person, as long as the notification of it is kept; "
        "no case for customers",
    )
    priority: Annotated[Priority | None, FACT] = Field(
        None, description="only cases of this priority; `medium` is read as `normal`"
    )
    channel: Annotated[Channel | None, Personal("known", "replaced if unknown")] = Field(
        None, description="only cases of this channel"
    )
    tag: Annotated[Annotated[tuple[Tag, ...], Field(max_length=MAX_QUERY_TAGS)], Personal("words", "emptied")] = Field(
        (), description=f"only cases with this tag; repeated up to {MAX_QUERY_TAGS} times: with all of these tags"
    )


if TYPE_CHECKING:
    _FiltersByReferences = _FiltersByColumns
else:  # a filter by the objects of each source
    _FiltersByReferences = create_model(
        "_FiltersByReferences",
        __base__=_FiltersByColumns,
        **{
            f"{kind}_id": (
                Annotated[ReferenceId | None, Personal("pseudonym", "removed")],
                Field(None, description=f"only cases whose context refers to this {kind}"),
            )
            for kind in SERVICE_BY_KIND
        },
    )


class CaseFilters(_FiltersByReferences):
    """Which cases to list, and in which order; every filter given must hold."""

    updated_after: Annotated[Moment | None, FACT] = Field(
        None, description="only cases with an `updatedAt` after this time (RFC 3339, with `+` as `%2B`)"
    )
    due_before: Annotated[Moment | None, FACT] = Field(
        None, description="only cases with a running or breached clock that is due before this time (RFC 3339)"
    )
    due_within: Annotated[TimeSpan | None, FACT] = Field(
        None,
        description="only cases with a clock that is overdue, or due within this duration (ISO 8601); `PT0S`: overdue",
    )
    snoozed: Annotated[bool | None, FACT] = Field(
        None, description="`true`: only cases that are snoozed; `false`: only others"
    )
    q: Annotated[Annotated[str, Field(max_length=200)] | None, Personal("masked", "removed")] = Field(
        None,
        description=(
            "words that the case (subject, description, customer, tags) or one of its messages must contain, ignoring "
            'case and diacritics. The last word may be incomplete. `"a phrase"` in quotes must be contained as it is. '
            "Also the id of a case or at least its first 6 characters, or its `externalId`. Also the id of an order, "
            "of another object, or of a parcel (tracking number) that its context names"
        ),
    )
    sort: Annotated[CaseSort, FACT] = Field(
        "newest",
        description="`newest`: last stored first. `updated`: latest change first. `waiting`: longest-waiting "
        "customer of an open or pending case first. `due`: first due clock first. `snoozed`: first to wake "
        "first. No sort leaves out a case: cases that do not wait, or are not due or snoozed, come last, newest first",
    )


class CaseQuery(CaseFilters):
    """Which cases to list, and which page of them. Filters belong to `CaseFilters`, which saved views take too."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of cases on a page; a page ends early at about 4 MiB of JSON"
    )
    cursor: Cursor | None = Field(
        None,
        description="`nextCursor` of the previous page, of the same sort; without it the list starts at its first case",
    )
