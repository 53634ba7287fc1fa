"""What lists, searches, counts, bulk changes and linked cases cost a caller, in further requests of its rate."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from support_service.api.routing.call import Call
from support_service.cases.model.requests import DEFAULT_PAGE_SIZE, CaseFilters, CaseQuery
from support_service.cases.sql.case_reading import StoredCase

READ_BYTES = 64 * 1024  # bytes of linked cases that cost as much as one request: masking them takes about 10 ms
CASES_PER_REQUEST = 10  # cases of a bulk change that cost as much as one request
SEARCH_COST = 4  # requests; of the words of a count, and of each DEFAULT_PAGE_SIZE cases of a list


def list_cost(query: CaseQuery) -> int:
    """Return how many requests a list costs besides its own: a search reads as much as several lists."""
    pages = -(-query.limit // DEFAULT_PAGE_SIZE)
    return pages - 1 + (SEARCH_COST * pages if query.q else 0)


def count_cost(query: CaseFilters) -> int:
    """Return how many requests a count costs in addition to its own request."""
    return SEARCH_COST if query.q else 0


def bulk_cost(cases: int) -> int:
    """Return how many requests a bulk change of so many cases costs in addition to its own request."""
    return -(-cases // CASES_PER_REQUEST)


def linked_cost(cases: Sequence[StoredCase], *, with_timeline: bool) -> int:
    """Return how many requests the read of a case with its duplicates costs: for what is read, and for timelines.

    A masked answer is short, and takes longer than one that is not masked.
    """
    return sum(each.size for each in cases) // READ_BYTES + (len(cases) - 1 if with_timeline else 0)


@asynccontextmanager
async def charged_turn(call: Call, cost: int) -> AsyncIterator[None]:
    """Wait for the caller's turn, and charge the caller."""
    async with call.service.turns.occupy(call.principal.name):
        call.exchange.charge(cost)
        yield
