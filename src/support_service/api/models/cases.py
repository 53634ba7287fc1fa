"""How clients read a case."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from support_service.cases.model.case import ApiModel
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from support_service.core.ids import LENGTH


class CaseDetailQuery(ApiModel):
    """The query of a case: whether to collect its timeline, or which part of the conversation to return."""

    include_timeline: bool = Field(default=False, description="collect the timeline, live or from the cache")
    messages_after: Annotated[str, Field(max_length=LENGTH)] | None = Field(
        None, description="only messages after the one with this id; not with `includeTimeline`"
    )
    messages_limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] | None = Field(
        None,
        description=f"maximum number of messages, {DEFAULT_PAGE_SIZE} if only `messagesAfter` is given; "
        "without both, all messages are returned; not with `includeTimeline`",
    )

    include_linked: bool = Field(
        default=False,
        description="add the messages and files of the case's duplicates; with `includeTimeline`, one timeline of all; "
        "not with the other parameters",
    )

    @property
    def is_page(self) -> bool:
        """Return whether a part of the conversation is asked for."""
        return self.messages_after is not None or self.messages_limit is not None

    @model_validator(mode="after")
    def _expect_one_kind(self) -> Self:
        if self.include_timeline and self.is_page:
            raise ValueError("includeTimeline returns the whole conversation, without messagesAfter and messagesLimit")
        if self.include_linked and self.is_page:
            raise ValueError("includeLinked returns the whole conversations, without messagesAfter and messagesLimit")
        return self
