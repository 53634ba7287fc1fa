"""Macros as clients send and get them, and the rules on their names and texts. No I/O."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Cursor, RequestModel
from support_service.cases.model.vocabulary import Status, Tags
from support_service.core.domain import case_vocabulary
from support_service.core.domain.macro_variables import VARIABLES, UnfilledReason, find_variables, variable_in_braces
from support_service.core.ids import NAME_PATTERN
from support_service.core.personal import INTERNAL

MAX_TEXT_LENGTH = 32_768  # characters

EXAMPLE: dict[str, Any] = {
    "name": "late-parcel",
    "text": "Your order {{order.id}} is {{order.status}}. Follow the parcel as {{shipment.trackingNumber}}.",
    "status": "pending",
    "tags": ["delivery"],
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}
CONTENT_EXAMPLE = {name: EXAMPLE[name] for name in ("text", "status", "tags")}


def _check_variables_are_known(text: str) -> str:
    unknown = [variable_in_braces(name[:64]) for name in find_variables(text) if name not in VARIABLES]
    if unknown:
        known = ", ".join(map(variable_in_braces, VARIABLES))
        raise ValueError(f"has unknown variables: {', '.join(unknown[:10])}; the known ones are {known}")
    return text


MacroName = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        description="1 to 64 letters of `a-z` and `A-Z`, digits, `-`, `_` and `.`, beginning with a letter or a digit",
    ),
]
MacroText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TEXT_LENGTH,
        description="the text, with any of the variables "
        f"{', '.join(f'`{variable_in_braces(name)}`' for name in VARIABLES)}; "
        "any other name between two braces is refused",
    ),
    AfterValidator(_check_variables_are_known),
]


class MacroContent(RequestModel):
    """The content of a macro. `status` and `tags` are what a case shall get with the text; none by default."""

    model_config = example_config(CONTENT_EXAMPLE)

    text: MacroText
    status: Status | None = None
    tags: Tags = Field([])

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is stored."""
        return {"text": self.text, "status": self.status, "tags": self.tags}


class NewMacro(MacroContent):
    """A macro to create."""

    model_config = example_config({"name": EXAMPLE["name"], **CONTENT_EXAMPLE})

    name: MacroName


class Macro(ApiModel):
    """A text with variables; `status` and `tags` are for the cases that it is used in."""

    model_config = example_config(EXAMPLE)

    name: Annotated[str, INTERNAL]
    text: Annotated[str, INTERNAL]
    status: Annotated[case_vocabulary.Status | None, INTERNAL]
    tags: Annotated[list[str], INTERNAL]
    created_at: Annotated[datetime, INTERNAL]
    updated_at: Annotated[datetime, INTERNAL]
    version: Annotated[SkipJsonSchema[int], INTERNAL] = Field(default=1, exclude=True)  # sent to clients as ETag

    def content_json(self) -> dict[str, Any]:
        """Return the content as it is stored."""
        return {"text": self.text, "status": self.status, "tags": self.tags}


class MacroQuery(ApiModel):
    """Which macros to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE)] = Field(
        DEFAULT_PAGE_SIZE, description="maximum number of macros on a page; a page ends early at about 4 MiB of JSON"
    )
    cursor: Cursor | None = Field(
        None, description="`nextCursor` of the previous page; without it the list starts with the oldest macro"
    )


class MacroPage(ApiModel):
    """A page of macros, oldest first; `nextCursor` requests the next page, and is null on the last one."""

    model_config = example_config({"items": [EXAMPLE], "nextCursor": "rT0mV2Yw3kq9sJb1XzQ5n8L-uE7cHfA4dGpO6iW_xR"})

    items: list[Macro]
    next_cursor: str | None


class UnfilledVariable(ApiModel):
    """A variable that stays in the text, and why."""

    variable: str
    reason: UnfilledReason = Field(
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
