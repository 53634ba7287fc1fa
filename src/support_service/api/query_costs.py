"""What searches, long lists and counts of cases cost their caller, and the turns in which they run.

A request is charged as one. A search reads as much as several lists, and a page of 200 cases as four of 50.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support_service.api.routing.call import Call
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, CaseFilters, CaseQuery

SEARCH_COST = 4  # requests; of the words of a count, and of each DEFAULT_PAGE_SIZE cases of a list


def list_cost(query: CaseQuery) -> int:
    """Return how many requests a list costs in addition to its own request."""
    pages = -(-query.limit // DEFAULT_PAGE_SIZE)
    return pages - 1 + (SEARCH_COST * pages if query.q else 0)


def count_cost(query: CaseFilters) -> int:
    """Return how many requests a count costs in addition to its own request."""
    return SEARCH_COST if query.q else 0


@asynccontextmanager
async def turn(call: Call, cost: int) -> AsyncIterator[None]:
    """Wait for the caller's turn, and charge the caller. Raises RateLimited."""
    async with call.services.turns.occupy(call.principal.name):
        call.services.admission.charge_more(call.principal.name, cost)
        yield
