"""The number of cases that a list would show."""

from pydantic import Field

from support_service.api.cases import CASES, READ, TAG, check_may_search
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Route
from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import CaseFilters

MAX_COUNT = 1000  # cases that are counted


class CaseCount(ApiModel):
    """How many cases a list has."""

    model_config = example_config({"count": 17, "more": False})

    count: int = Field(description=f"the number of cases, at most {MAX_COUNT:,}")
    more: bool = Field(description="there are more cases than `count`")


async def count_cases(call: Call, query: CaseFilters) -> Reply[CaseCount]:
    """Count the cases that a list with these filters shows to the caller.

    The number is exact up to 1,000, as that of saved views.
    """
    check_may_search(call, query)
    count = await call.services.cases.count_cases(call.principal, query, MAX_COUNT + 1)
    return Reply(CaseCount(count=min(count, MAX_COUNT), more=count > MAX_COUNT))


ROUTES = (
    Route(
        operation="count_cases",
        tag=TAG,
        method="GET",
        path=f"{CASES}/count",
        handler=count_cases,
        access=READ,
        query=CaseFilters,
        response_model=CaseCount,
        problems=(*DATABASE_PROBLEMS, "invalid_request"),
    ),
)
