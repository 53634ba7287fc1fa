"""How clients read cases, their number, and the page of a customer."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, create_model, model_validator

from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, Attachment, ListedCase, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.core.ids import ID_LENGTH
from support_service.core.personal import NOT_PERSONAL
from support_service.desk.customer_models import Contact

MAX_COUNTED_CASES = 1000  # cases that are counted
MAX_CUSTOMER_FILES = 1000  # files of one page of a customer: a case may have as many


class CaseDetailQuery(ApiModel):
    """The query of a case: whether to collect its timeline, or which part of the conversation to return."""

    include_timeline: bool = Field(default=False, description="collect the timeline, live or from the cache")
    messages_after: Annotated[str, Field(max_length=ID_LENGTH)] | None = Field(
        None, description="only messages after the message with this id; not with `includeTimeline`"
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
    def _check_page_or_timeline(self) -> Self:
        if self.include_timeline and self.is_page:
            raise ValueError("includeTimeline returns the whole conversation, without messagesAfter and messagesLimit")
        if self.include_linked and self.is_page:
            raise ValueError("includeLinked returns the whole conversations, without messagesAfter and messagesLimit")
        return self


class CaseCount(ApiModel):
    """How many cases a list has."""

    model_config = example_config({"count": 17, "more": False})

    count: Annotated[int, NOT_PERSONAL] = Field(description=f"the number of cases, at most {MAX_COUNTED_CASES:,}")
    more: Annotated[bool, NOT_PERSONAL] = Field(description="there are more cases than `count`")


class CustomerQuery(ApiModel):
    """Which of the customer's cases to return."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of cases on a page; a page ends early at about 4 MiB of JSON"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the page starts with the newest case"
    )


if TYPE_CHECKING:

    class CustomerReferences(ApiModel):
        """Type checkers take any kind in plural for a list of ids."""

        def __getattr__(self, kinds: str) -> list[str]: ...
else:
    CustomerReferences = create_model(
        "CustomerReferences",
        __base__=ApiModel,
        __doc__="The ids that the contexts of the cases name, in the order of the cases, each once.",
        **{f"{kind}s": (list[str], ...) for kind in SERVICE_BY_KIND},
    )


class CustomerPage(ApiModel):
    """A page of a customer's cases, newest first, with the references and the files of these cases."""

    model_config = example_config(examples.CUSTOMER_PAGE)

    customer_id: str
    identities: list[str] = Field(
        description="all ids of the person, that of the record first; `cases` has the cases of all. Customers have "
        "their own id only"
    )
    name: str | None
    contacts: list[Contact] = Field(description="empty for customers")
    notes: str | None = Field(description="notes of staff; null for customers")
    cases: list[ListedCase]
    references: CustomerReferences
    files: list[Attachment] = Field(description=f"the newest {MAX_CUSTOMER_FILES:,} files of the cases, newest first")
    more_files: bool = Field(description="the cases have older files, which are in none of the pages")
    next_cursor: str | None
