"""A bound on the large JSON bodies that are in memory: in total, and for each caller.

A body stays in memory from its first byte to the end of its request, which may wait for a slow client or the database.
Requests that wait for their client do not count as concurrent requests, so that only this bounds them.
"""

from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from support_service.core.errors import Unavailable

LARGE_BYTES = 64 * 1024  # of a body; smaller ones have no bound of their own
MAX_TOTAL = 128
MAX_PER_CALLER = 32
COUNTED = web.RequestKey("large_body_of", tuple[str, ...])  # the callers for whom a request is counted


class LargeBodies:
    """Counts the requests whose body has more than LARGE_BYTES so far."""

    def __init__(self) -> None:
        self._total = 0
        self._by_caller: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._total

    def begin(self, request: web.BaseRequest, callers: Sequence[str]) -> None:
        """Count a request once, until `end`. Raises Unavailable if there are too many."""
        if COUNTED in request:
            return
        if self._total >= MAX_TOTAL or any(self._by_caller[each] >= MAX_PER_CALLER for each in callers):
            raise Unavailable("overloaded", "Too many large requests are in progress; try again in a moment.")
        request[COUNTED] = tuple(callers)
        self._total += 1
        self._by_caller.update(callers)

    def end(self, request: web.BaseRequest) -> None:
        """Stop counting a request, if it is counted."""
        if COUNTED not in request:
            return
        self._total -= 1
        for caller in request[COUNTED]:
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]
