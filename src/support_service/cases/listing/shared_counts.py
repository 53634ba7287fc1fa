"""Numbers of cases: one that took long to count is shared for a few seconds with all who ask for the same."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from cachetools import TTLCache

from support_service.cases.listing import case_list
from support_service.cases.model.requests import CaseFilters
from support_service.core.domain.principals import CASE_SCOPED_ROLES, Principal
from support_service.platform.database import Database

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class SharedCountLimits:
    """Which counts are shared, and for how long."""

    min_duration: float = 0.02  # seconds; a count that took less is made again, so that it is exact
    max_age: float = 3.0  # seconds
    max_counts: int = 2048


class SharedCounts:
    """Counts cases in turns of the callers, and shares each count with callers who see the same cases."""

    def __init__(
        self, database: Database, limits: SharedCountLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._min_duration = limits.min_duration
        self._clock = clock
        self._counting: set[asyncio.Task[int]] = set()
        self._known: TTLCache[Key, int] = TTLCache(limits.max_counts, limits.max_age, clock)

    async def share(
        self,
        principal: Principal,
        query: CaseFilters,
        most: int,
        turn: Callable[[], AbstractAsyncContextManager[None]],
    ) -> int:
        """Return the number of matching cases that the principal may see; at most `most` are counted."""
        key = (*_seen_by(principal), query.model_dump_json(exclude={"limit", "cursor"}), most)
        if (known := self._known.get(key)) is not None:
            return known
        async with AsyncExitStack() as in_turn:
            await in_turn.enter_async_context(turn())
            if (known := self._known.get(key)) is not None:  # counted while this one waited for its turn
                return known
            count = case_list.count(self._database, query, principal, most)
            counting = asyncio.create_task(self._count(key, count, in_turn.pop_all()))
        self._counting.add(counting)
        counting.add_done_callback(self._end)
        # A caller that waits no longer leaves the statement: to end it would cost its connection.
        return await asyncio.shield(counting)

    async def _count(self, key: Key, count: Awaitable[int], in_turn: AsyncExitStack) -> int:
        async with in_turn:
            started = self._clock()
            number = await count
            if self._clock() - started >= self._min_duration:
                self._known[key] = number
            return number

    def _end(self, counting: asyncio.Task[int]) -> None:
        self._counting.discard(counting)
        if not counting.cancelled():
            counting.exception()  # a caller that waits gets it; that of another one is not reported


def _seen_by(principal: Principal) -> Key:
    """Return what decides which cases a principal sees, see `Principal.may_see`."""
    if principal.role in CASE_SCOPED_ROLES:
        return principal.role, principal.subject, frozenset(principal.teams)
    return (principal.role,)
