"""Macros as clients send and get them, and a macro that is filled for a case."""

from typing import Annotated

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor, RequestModel
from support_service.cases.model.vocabulary import Status, Tags
from support_service.core.domain import case_vocabulary
from support_service.desk.macro_models import EXAMPLE, Macro, MacroFields, MacroName, MacroText
from support_service.desk.macro_variables import Reason

SENT_EXAMPLE = {name: EXAMPLE[name] for name in ("text", "status", "tags")}


class MacroQuery(ApiModel):
    """Which macros to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE,
        description="maximum number of macros on a page; a page ends early at about 4 MiB of JSON",
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the oldest macro"
    )


class MacroContent(RequestModel):
    """The content of a macro. `status` and `tags` are what a case shall get with the text; none by default."""

    model_config = example_config(SENT_EXAMPLE)

    text: MacroText
    status: Status | None = None
    tags: Tags = Field([])

    def to_fields(self) -> MacroFields:
        """Return the content as the macro service takes it."""
        return MacroFields(self.text, self.status, self.tags)


class NewMacro(MacroContent):
    """A macro to create."""

    model_config = example_config({"name": EXAMPLE["name"], **SENT_EXAMPLE})

    name: MacroName


class MacroPage(ApiModel):
    """A page of macros, oldest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [EXAMPLE], "nextCursor": "rT0mV2Yw3kq9sJb1XzQ5n8L-uE7cHfA4dGpO6iW_xR"})

    items: list[Macro]
    next_cursor: str | None


class UnfilledVariable(ApiModel):
    """A variable that stays in the text, and why."""

    variable: str
    reason: Reason = Field(
        description="`stale`, `unavailable` or `off`: the state of its service in the timeline; `none`: no value"
    )


class FilledMacro(ApiModel):
    """A macro for one case: `unfilled` lists the variables that stay in the text as they are."""

    model_config = example_config(
        {
            "text": "Your order ORD-1001 is shipped. Follow the parcel as {{shipment.trackingNumber}}.",
            "status": EXAMPLE["status"],
            "tags": EXAMPLE["tags"],
            "unfilled": [{"variable": "shipment.trackingNumber", "reason": "unavailable"}],
        }
    )

    text: str
    status: case_vocabulary.Status | None
    tags: list[str]
    unfilled: list[UnfilledVariable]
