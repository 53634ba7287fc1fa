"""Dead letters as clients get them."""

from typing import Annotated

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import Cursor
from support_service.events.broker.base import SHOWN_CHARACTERS

MAX_PAGE_SIZE = 50  # an event may have 256 KiB, and is read as a whole
EXAMPLE = {
    "id": "1778587200000-0",
    "at": "2026-05-12T12:00:00+00:00",
    "tries": 5,
    "reason": "The event is invalid: data.orderId: Field required",
    "event": '{"specversion":"1.0","id":"e-1","type":"order.status.changed.v1","data":{}}',
    "truncated": False,
}


class DeadLetterQuery(ApiModel):
    """Which dead letters to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        20, description="maximum number of dead letters on a page"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the oldest dead letter"
    )


class ShownDeadLetter(ApiModel):
    """An inbound event that was given up."""

    model_config = example_config(EXAMPLE)

    id: str
    at: str = Field(description="when it was given up; empty if another program wrote it")
    tries: int
    reason: str
    event: str = Field(description=f"the first {SHOWN_CHARACTERS:,} characters of the event as it arrived")
    truncated: bool = Field(description="true if the event is longer")


class DeadLetterPage(ApiModel):
    """A page of dead letters, oldest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [EXAMPLE], "nextCursor": None})

    items: list[ShownDeadLetter]
    next_cursor: str | None
