"""The page of a customer as clients ask for it and get it."""

from typing import Annotated

from pydantic import Field

from support_service.cases.model import examples
from support_service.cases.model.case import ApiModel, Attachment, ListedCase, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor

MAX_FILES = 1000  # files of one page: a case may have as many


class CustomerQuery(ApiModel):
    """Which of the customer's cases to return."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE,
        description="maximum number of cases on a page; a page ends early at about 4 MiB of JSON",
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the page starts with the newest case"
    )


class CustomerReferences(ApiModel):
    """The ids that the contexts of the cases name, in the order of the cases, each once."""

    orders: list[str]
    payments: list[str]
    shipments: list[str]


class CustomerPage(ApiModel):
    """A page of a customer's cases, newest first, with the references and the files of these cases."""

    model_config = example_config(examples.CUSTOMER_PAGE)

    customer_id: str
    cases: list[ListedCase]
    references: CustomerReferences
    files: list[Attachment] = Field(description=f"the newest {MAX_FILES:,} files of the cases, newest first")
    more_files: bool = Field(description="the cases have older files, which are in none of the pages")
    next_cursor: str | None
