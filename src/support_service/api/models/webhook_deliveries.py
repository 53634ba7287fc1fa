"""Webhook deliveries as clients get them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor

EXAMPLE = {
    "id": 1042,
    "endpoint": "warehouse",
    "type": "support.case.opened.v1",
    "state": "failed",
    "tries": 9,
    "since": "2026-05-11T12:00:00Z",
    "due": "2026-05-12T12:00:00Z",
    "reason": "The endpoint responded 500.",
}
DeliveryState = Literal["failed", "pending", "delivered"]


class DeliveryQuery(ApiModel):
    """Which deliveries to list."""

    state: DeliveryState = Field("failed", description="which deliveries: failed ones are not tried again")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of deliveries on a page"
    )
    cursor: Cursor | None = Field(None, description="`nextCursor` of the previous page of the same state")


class ShownDelivery(ApiModel):
    """The delivery of an event to a webhook endpoint, without the event."""

    model_config = example_config(EXAMPLE)

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

    model_config = example_config({"items": [EXAMPLE], "nextCursor": None})

    items: list[ShownDelivery]
    next_cursor: str | None
