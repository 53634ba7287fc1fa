"""The number of cases that a list would show."""

from functools import partial

from support_service.api.cases import CASES, READ, TAG, check_may_search
from support_service.api.models.cases import MAX_COUNT, CaseCount
from support_service.api.query_costs import count_cost, turn
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.cases.model.requests import CaseFilters


@get(f"{CASES}/count", tag=TAG, access=READ, problems=(*DATABASE_PROBLEMS, "searches_waiting"))
async def count_cases(call: Call, query: CaseFilters) -> Reply[CaseCount]:
    """Count the cases that a list with these filters shows to the caller.

    The number is exact up to 1,000, as that of saved views. With `q` it counts as several requests.
    """
    check_may_search(call, query)
    in_turn = partial(turn, call, count_cost(query))
    count = await call.services.cases.count_cases(call.principal, query, MAX_COUNT + 1, in_turn)
    return Reply(CaseCount(count=min(count, MAX_COUNT), more=count > MAX_COUNT))
