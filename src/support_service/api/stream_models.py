"""What clients get in the stream of changes, as models for the documents and for clients in Python."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.events import PublishedCase
from support_service.cases.masking import CaseMasker
from support_service.cases.model.case import ApiModel, CaseSummary, Message, Viewer
from support_service.cases.model.requests import RequestModel

MAX_POSITION_LENGTH = 64  # characters


class StreamQuery(RequestModel):
    """The query of a stream."""

    last_event_id: str = Field(
        "",
        max_length=MAX_POSITION_LENGTH,
        description="as the header `Last-Event-ID`, for clients that can't send it; the header takes precedence",
    )


class StreamedCase(PublishedCase):
    """A case as a list shows it."""

    last_message_at: datetime | None = Field(
        default=None, description="if a message was added that is no internal note"
    )
    version: SkipJsonSchema[int] = Field(default=0, exclude=True)  # beside the case
    public_version: SkipJsonSchema[int] = Field(default=0, exclude=True)


class StreamedChange(ApiModel):
    """The `data` of a change in the stream; its `event` is the type of the event, its `id` the position."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    case_id: str
    version: int = Field(
        description="the number in the `ETag` of the case after the change; 0 if an older release made the change"
    )
    change_type: str = Field(
        description="`case.opened`, `case.closed`, the `changeType` of the event, or `case.left`: the caller may no "
        "longer see the case"
    )
    at: datetime
    event_id: str = Field(description="the id of the event: a change that is sent again has the same")
    actor: str | None = Field(default=None, description="who made the change; for staff only")
    case: StreamedCase | None = Field(default=None, description="the case after the change; absent for `case.left`")
    message: Message | None = Field(default=None, description="the message that was added, if the caller may read it")


class StreamedPresence(ApiModel):
    """The `data` of the event `presence`: who views a case now."""

    case_id: str
    viewers: list[Viewer]


def mask_published_case(masker: CaseMasker, ticket: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a published case as analysts see it."""
    return masker.summary(CaseSummary.model_validate(ticket)).model_dump(mode="json", by_alias=True)
