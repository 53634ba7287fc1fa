"""The model of the number of cases of a list."""

from pydantic import Field

from support_service.cases.model.case import ApiModel, example_config

MAX_COUNT = 1000  # cases that are counted


class CaseCount(ApiModel):
    """How many cases a list has."""

    model_config = example_config({"count": 17, "more": False})

    count: int = Field(description=f"the number of cases, at most {MAX_COUNT:,}")
    more: bool = Field(description="there are more cases than `count`")
