"""The model of the number of cases of a list."""

from typing import Annotated

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.core.personal import NOT_PERSONAL

MAX_COUNT = 1000  # cases that are counted


class CaseCount(ApiModel):
    """How many cases a list has."""

    model_config = example_config({"count": 17, "more": False})

    count: Annotated[int, NOT_PERSONAL] = Field(description=f"the number of cases, at most {MAX_COUNT:,}")
    more: Annotated[bool, NOT_PERSONAL] = Field(description="there are more cases than `count`")
