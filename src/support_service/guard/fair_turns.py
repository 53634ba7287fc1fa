"""Turns for expensive work: bounded in total and for each caller; callers that wait are served one after the other."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from support_service.core.errors import SupportError, problem

RETRY_AFTER = 2  # seconds


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """The most turns at once in one process, and how long a caller waits for one."""

    total: int = 4
    per_caller: int = 1
    max_wait: float = 5.0  # seconds


def searches_waiting_error() -> SupportError:
    """Return the error for a search or a count that gets no turn."""
    message = "Earlier searches and counts take too long. Wait until your own have ended, and try again."
    return problem("searches_waiting", message, retry_after=RETRY_AFTER)


def bulk_changes_waiting_error() -> SupportError:
    """Return the error for a bulk change that gets no turn."""
    message = "Earlier bulk changes take too long. Wait until your own have ended, and try again."
    return problem("bulk_changes_waiting", message, retry_after=RETRY_AFTER)


class FairTurns:
    """Gives turns to callers.

    A turn that becomes free goes to the caller whose last turn is longest ago. So a caller waits for the turns of the
    others, and not for all that another caller has asked for.
    """

    def __init__(
        self, limits: TurnLimits = TurnLimits(), error: Callable[[], SupportError] = searches_waiting_error
    ) -> None:
        self._limits = limits
        self._error = error  # of a caller that gets no turn in time
        self._total = 0
        self._by_caller: Counter[str] = Counter()
        # Waiting turns by caller: the next caller comes first. In a queue the earliest request comes first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def occupy(self, caller: str) -> AsyncIterator[None]:
        """Occupy a turn for the duration of an `async with` block. Raises RateLimited if none comes in time."""
        try:
            async with asyncio.timeout(self._limits.max_wait):
                await self._wait_for_turn(caller)
        except TimeoutError:
            raise self._error() from None
        try:
            yield
        finally:
            self._end_turn(caller)

    async def _wait_for_turn(self, caller: str) -> None:
        if caller not in self._waiting and self._may_begin(caller):
            self._begin_turn(caller)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove_waiting(caller, turn)
            else:  # it was given at the same moment
                self._end_turn(caller)
            raise

    def _may_begin(self, caller: str) -> bool:
        return self._total < self._limits.total and self._by_caller[caller] < self._limits.per_caller

    def _begin_turn(self, caller: str) -> None:
        self._total += 1
        self._by_caller[caller] += 1

    def _end_turn(self, caller: str) -> None:
        """End a turn, and give it to the next caller that may have one more."""
        self._total -= 1
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]
        for following in list(self._waiting):
            if self._may_begin(following) and self._give_turn(following):
                return

    def _give_turn(self, caller: str) -> bool:
        """Give a turn to the first of a caller that waits. Return whether there is one."""
        queue = self._waiting.pop(caller)
        while queue:
            turn = queue.popleft()
            if not turn.cancelled():  # else it is about to notice
                if queue:
                    self._waiting[caller] = queue  # as the last one
                self._begin_turn(caller)
                turn.set_result(None)
                return True
        return False

    def _remove_waiting(self, caller: str, turn: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(caller, deque())
        if turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[caller]
