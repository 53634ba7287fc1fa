"""Notifications and followers, as clients send and get them. No I/O."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor, RequestModel
from support_service.cases.model.vocabulary import Identifier
from support_service.core.domain.case_vocabulary import NotificationKind

MAX_IDS = 200  # of one request

EXAMPLE: dict[str, Any] = {
    "id": "5f3f2a54-32a5-4c11-9d0b-7f7f3e1c9a02",
    "kind": "mention",
    "caseId": "0b6f7c0e-6a3c-4a0e-9d0f-6f0c2f6a9b11",
    "subject": "Parcel is late",
    "messageId": "c1a5b3de-8f0e-4b57-a3a0-3f1f0f8f2b77",
    "actorId": "agent-7",
    "at": "2026-05-12T09:02:11.480000Z",
    "read": False,
}
NotificationId = Annotated[Identifier, Field(description="id of a notification of the caller")]


class Notification(ApiModel):
    """A notification of a person about a change of a case."""

    model_config = example_config(EXAMPLE)

    id: str
    kind: NotificationKind = Field(
        description="`mention`: a note mentions you or your team; `assigned`: the case was assigned to you. Of cases "
        "that you follow: `note`, `message` (of the customer), `status`, and `assignment` (another agent or team)"
    )
    case_id: str
    subject: str = Field(description="subject of the case, as it is now")
    message_id: str | None = Field(description="the note or the message, or null")
    actor_id: str = Field(description="who made the change, as in `authorId`; `customer` for every customer")
    at: datetime
    read: bool


class NotificationQuery(ApiModel):
    """Which notifications to list."""

    unread: bool = Field(default=False, description="`true`: unread ones only")
    kind: NotificationKind | None = Field(None, description="only notifications of this kind")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of notifications on a page"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the newest notification"
    )


class UnreadCount(ApiModel):
    """How many notifications of the caller are unread."""

    model_config = example_config({"unread": 3, "moreUnread": False})

    unread: int = Field(description="number of unread notifications, at most 100")
    more_unread: bool = Field(description="there are more than that")


class NotificationPage(UnreadCount):
    """A page of notifications, newest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config(
        {
            "items": [EXAMPLE],
            "unread": 1,
            "moreUnread": False,
            "nextCursor": "rT0mV2Yw3kq9sJb1XzQ5n8L-uE7cHfA4dGpO6iW_xR",
        }
    )

    items: list[Notification]
    next_cursor: str | None


class ReadNotifications(RequestModel):
    """Which notifications are read: `ids`, or `until` and all below it in the list."""

    model_config = example_config({"ids": [EXAMPLE["id"]]})

    ids: Annotated[list[NotificationId], Field(min_length=1, max_length=MAX_IDS)] | None = None
    until: NotificationId | None = None

    @model_validator(mode="after")
    def _check_one_is_given(self) -> Self:
        if (self.ids is None) == (self.until is None):
            raise ValueError("send either `ids` or `until`")
        return self


class Follower(ApiModel):
    """A person who follows a case."""

    model_config = example_config({"id": "agent-7", "displayName": "Linh Trần"})

    id: str = Field(description="as in `assignedAgentId` and `authorId`")
    display_name: str | None = Field(description="the name in the directory, or null")


class Followers(ApiModel):
    """The people who follow a case, in the order in which they began."""

    model_config = example_config({"items": [{"id": "agent-7", "displayName": "Linh Trần"}]})

    items: list[Follower]
