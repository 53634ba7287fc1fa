"""Overrides, dead letters and webhook deliveries as clients set and get them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor, RequestModel
from support_service.events.broker.base import MAX_SHOWN_CHARACTERS
from support_service.timeline.override_rules import MAX_REASON_LENGTH, TTL_RANGE, clean_reason, parse_override_duration

MAX_LISTED_DEAD_LETTERS = 50  # of one page: an event may have 256 KiB, and is read as a whole

DeliveryState = Literal["failed", "pending", "delivered"]

NEW_OVERRIDE_EXAMPLE = {"value": None, "reason": "being restored", "duration": "PT30M"}
DEAD_LETTER_EXAMPLE = {
    "id": "1778587200000-0",
    "at": "2026-05-12T12:00:00+00:00",
    "tries": 5,
    "reason": "The event is invalid: data.orderId: Field required",
    "event": '{"specversion":"1.0","id":"e-1","type":"order.status.changed.v1","data":{}}',
    "truncated": False,
}
DELIVERY_EXAMPLE = {
    "id": 1042,
    "endpoint": "warehouse",
    "type": "support.case.opened.v1",
    "state": "failed",
    "tries": 9,
    "since": "2026-05-11T12:00:00Z",
    "due": "2026-05-12T12:00:00Z",
    "reason": "The endpoint responded 500.",
}


def _cleaned_reason(text: str) -> str:
    try:
        return clean_reason(text)
    except ValueError as expected:
        raise ValueError(f"must have {expected}") from None


def _check_duration(text: str) -> str:
    try:
        parse_override_duration(text)
    except ValueError as expected:
        raise ValueError(f"must be {expected}, or ISO 8601, such as PT30M") from None
    return text


class NewOverride(RequestModel):
    """An override to set from now on."""

    model_config = example_config(NEW_OVERRIDE_EXAMPLE)

    value: Annotated[float, Field(ge=TTL_RANGE[0], le=TTL_RANGE[1])] | None = Field(
        None, description="of `ttl`: the seconds for which answers are fresh; null for a service, which is switched off"
    )
    reason: Annotated[str, AfterValidator(_cleaned_reason)] = Field(
        "", description=f"at most {MAX_REASON_LENGTH} characters, for agents and the next on-call; a service needs one"
    )
    duration: Annotated[str, Field(max_length=64), AfterValidator(_check_duration)] = Field(
        description="how long it is in effect, at most 7 days: `PT30M`, or `30m` as on the command line"
    )


class ShownOverride(ApiModel):
    """An override in effect."""

    model_config = example_config(
        {
            "name": "payment",
            "value": None,
            "reason": "being restored",
            "effect": "switched off until 12:30Z",
            "setAt": "2026-05-12T12:00:00Z",
            "until": "2026-05-12T12:30:00Z",
            "version": 1778587200000000,
        }
    )

    name: str = Field(description="a service that is switched off, or `ttl`")
    value: float | None = Field(description="seconds for which answers are fresh; null for a service")
    reason: str
    effect: str = Field(description="what it does, and until when")
    set_at: datetime
    until: datetime
    version: int = Field(description="for `If-Match`")


class DeadLetterQuery(ApiModel):
    """Which dead letters to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LISTED_DEAD_LETTERS)] = Field(
        20, description="maximum number of dead letters on a page"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the oldest dead letter"
    )


class ShownDeadLetter(ApiModel):
    """An inbound event that was given up."""

    model_config = example_config(DEAD_LETTER_EXAMPLE)

    id: str
    at: str = Field(description="when it was given up; empty if another program wrote it")
    tries: int
    reason: str
    event: str = Field(description=f"the first {MAX_SHOWN_CHARACTERS:,} characters of the event as it arrived")
    truncated: bool = Field(description="true if the event is longer")


class DeadLetterPage(ApiModel):
    """A page of dead letters, oldest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [DEAD_LETTER_EXAMPLE], "nextCursor": None})

    items: list[ShownDeadLetter]
    next_cursor: str | None


class DeliveryQuery(ApiModel):
    """Which deliveries to list."""

    state: DeliveryState = Field("failed", description="which deliveries: failed ones are not tried again")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of deliveries on a page"
    )
    cursor: Cursor | None = Field(None, description="`nextCursor` of the previous page of the same state")


class ShownDelivery(ApiModel):
    """The delivery of an event to a webhook endpoint, without the event."""

    model_config = example_config(DELIVERY_EXAMPLE)

    id: int
    endpoint: str
    type: str = Field(description="the type of its event")
    state: DeliveryState
    tries: int
    since: datetime = Field(description="start of the day in which it is retried")
    due: datetime = Field(description="time of the next try, or of the end of the delivery")
    reason: str | None = Field(description="why the last try failed")


class DeliveryPage(ApiModel):
    """A page of deliveries, latest `due` first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [DELIVERY_EXAMPLE], "nextCursor": None})

    items: list[ShownDelivery]
    next_cursor: str | None
