"""The model of macros, and the rules on their names and texts. No I/O."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from support_service.core.domain.case_vocabulary import Status
from support_service.core.personal import INTERNAL
from support_service.core.resource_names import NAME_PATTERN
from support_service.desk.macro_variables import VARIABLES, find_variables, in_braces

MAX_TEXT_LENGTH = 32_768  # characters
MAX_PAGE_BYTES = 4 * 1024 * 1024  # bytes of a page's texts as JSON; a page that reaches it gets no further macro

EXAMPLE: dict[str, Any] = {
    "name": "late-parcel",
    "text": "Your order {{order.id}} is {{order.status}}. Follow the parcel as {{shipment.trackingNumber}}.",
    "status": "pending",
    "tags": ["delivery"],
    "createdAt": "2026-05-12T08:30:00.125000Z",
    "updatedAt": "2026-05-12T09:02:11.480000Z",
}


def _expect_known_variables(text: str) -> str:
    unknown = [in_braces(name[:64]) for name in find_variables(text) if name not in VARIABLES]
    if unknown:
        known = ", ".join(map(in_braces, VARIABLES))
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
        description=f"the text, with any of the variables {', '.join(f'`{in_braces(name)}`' for name in VARIABLES)}; "
        "any other name between two braces is refused",
    ),
    AfterValidator(_expect_known_variables),
]


class MacroFields(NamedTuple):
    """What a supervisor sets of a macro, besides its name. The status and the tags are for the case; None sets none."""

    text: str
    status: Status | None
    tags: list[str]


class Macro(BaseModel):
    """A text with variables; `status` and `tags` are for the cases that it is used in."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_serialization_defaults_required=True,
        json_schema_extra={"examples": [EXAMPLE]},
    )

    name: Annotated[str, INTERNAL]
    text: Annotated[str, INTERNAL]
    status: Annotated[Status | None, INTERNAL]
    tags: Annotated[list[str], INTERNAL]
    created_at: Annotated[datetime, INTERNAL]
    updated_at: Annotated[datetime, INTERNAL]
    version: Annotated[SkipJsonSchema[int], INTERNAL] = Field(default=1, exclude=True)  # sent to clients as ETag

    @property
    def fields(self) -> MacroFields:
        """What a supervisor sets of it, besides its name."""
        return MacroFields(self.text, self.status, self.tags)
