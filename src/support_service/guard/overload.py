"""Overload protection: the requests in progress, their limit, and fewer requests while the event loop lags.

Requests that wait for their client do not count as requests in progress. Only a bound of their own limits the large
bodies among them, in total and for each caller.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from support_service.core.errors import problem

# Late checks in a row before requests are refused; a garbage collection or a slow disk causes only one.
LATE_CHECKS_BEFORE_SHEDDING = 4
MIN_SHARE = 1 / 16  # minimum share of requests admitted; without any, the end of the overload would go unnoticed
SHARE_STEP = 1 / 8  # share of requests that is added at each check that is not late

LARGE_BODY_BYTES = 64 * 1024  # of a body; smaller ones have no bound of their own
MAX_LARGE_BODIES = 128
MAX_LARGE_BODIES_PER_CALLER = 32

RejectionReason = Literal["lag", "requests"]


class LoadShedder:
    """An overload limiter that admits a share of the requests, and halves it when the event loop stays late.

    The share grows while the lag is at most half the allowed lag. Between half and the whole of it the share does not
    change, so that it does not oscillate.
    """

    def __init__(self, max_lag: float, max_requests: int) -> None:
        """Set the limits.

        `max_lag` is the allowed lag of the event loop in consecutive checks, in s; 0 disables it. `max_requests` is
        the number of requests in progress.
        """
        self._max_lag = max_lag
        self._max_requests = max_requests
        self._late_checks = 0
        self._share = 1.0
        self._credit = 0.0

    def record_lag(self, lag: float) -> None:
        """Adjust the share to the current lag of the event loop, in s."""
        if not self._max_lag:
            return
        self._late_checks = self._late_checks + 1 if lag > self._max_lag else 0
        if self._late_checks >= LATE_CHECKS_BEFORE_SHEDDING:
            self._share = max(MIN_SHARE, self._share / 2)
        elif lag <= self._max_lag / 2:
            self._share = min(1.0, self._share + SHARE_STEP)

    def rejection_reason(self, in_progress: int) -> RejectionReason | None:
        """Return why a request is refused, or None. `in_progress` includes this request."""
        if in_progress > self._max_requests:
            return "requests"
        if self._share < 1.0:
            self._credit += self._share
            if self._credit < 1.0:
                return "lag"
            self._credit -= 1.0
        return None


@dataclass(slots=True)
class Readiness:
    """Whether the service accepts new requests, and how many are in progress.

    Shutdown clears `accepting` before it does anything else.
    """

    accepting: bool = True
    stop_by: float = 0.0  # loop time until which shutdown may wait for requests in progress
    in_progress: int = 0
    waiting_for_client: int = 0  # requests in progress that wait for their client, which costs only a connection
    streams: int = 0  # requests in progress that end only when the service ends them
    end_streams: list[Callable[[], None]] = field(default_factory=list)  # shutdown calls these after all other requests
    ping_task: asyncio.Task[None] | None = None  # the current database check; at most one runs at a time

    @contextmanager
    def count_waiting_for_client(self) -> Iterator[None]:
        """Count a request as waiting for its client for the duration of a `with` block."""
        self.waiting_for_client += 1
        try:
            yield
        finally:
            self.waiting_for_client -= 1

    @contextmanager
    def count_unfinished_body(self) -> Iterator[None]:
        """Count a client that sends the rest of a body whose handler has ended, for the duration of a `with` block."""
        self.in_progress += 1
        try:
            with self.count_waiting_for_client():
                yield
        finally:
            self.in_progress -= 1

    @contextmanager
    def count_stream(self) -> Iterator[None]:
        """Count a request as a stream, which waits for its client, for the duration of a `with` block."""
        self.streams += 1
        try:
            with self.count_waiting_for_client():
                yield
        finally:
            self.streams -= 1

    def close_streams(self) -> None:
        """End every stream."""
        for end in self.end_streams:
            end()


class LargeBodies:
    """Counts the requests whose body has more than LARGE_BODY_BYTES so far.

    A body stays in memory from its first byte to the end of its request, which may wait for a slow client or the
    database.
    """

    def __init__(self) -> None:
        self._total = 0
        self._by_caller: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._total

    def begin(self, callers: Sequence[str]) -> None:
        """Count a request of these callers until `end`. Raises Unavailable if there are too many."""
        if self._total >= MAX_LARGE_BODIES or any(
            self._by_caller[each] >= MAX_LARGE_BODIES_PER_CALLER for each in callers
        ):
            raise problem("overloaded", "Too many large requests are in progress; try again in a moment.")
        self._total += 1
        self._by_caller.update(callers)

    def end(self, callers: Sequence[str]) -> None:
        """Stop counting a request of these callers."""
        self._total -= 1
        for caller in callers:
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]
