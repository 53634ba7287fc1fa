"""The health of a source as this replica sees it: a circuit breaker, and the last calls."""

import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

WINDOW_CALLS = 10  # number of last calls that are considered
FAILURES_TO_OPEN = 5  # failures among them that open the circuit
RECENT_WINDOW = 300.0  # seconds
MAX_RECENT_CALLS = 1000  # of the window; a busy source's window is shorter
ANSWERED_OUTCOMES = ("ok", "not_found")

BreakerState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerTimings:
    """Times in seconds."""

    open_for: float = 5.0  # at first; each failed trial call doubles it
    max_open_for: float = 30.0


class CircuitBreaker:
    """Stops the calls to a failing service for some seconds, then tries it with one call.

    Each call asks for admission first, and reports its result with it.

    A report from a call admitted before the last change of state is ignored: it says nothing about the present state.
    """

    def __init__(self, timings: BreakerTimings = BreakerTimings(), clock: Callable[[], float] = time.monotonic) -> None:
        self._timings = timings
        self._clock = clock
        self._recent_results: deque[bool] = deque(maxlen=WINDOW_CALLS)
        self._generation = 0  # number of state changes; identifies the state in which a call was admitted
        self._open_for = 0.0  # seconds; 0 while closed
        self._until = 0.0
        self._trial_running = False

    @property
    def state(self) -> BreakerState:
        """The state: `closed` admits all calls, `open` none, `half_open` one at a time."""
        if not self._open_for:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    def admit(self) -> int | None:
        """Admit a call: return the token for its report, or None if the call must not be made."""
        if self._open_for:
            if self._trial_running or self._clock() < self._until:
                return None
            self._trial_running = True
        return self._generation

    def still_admits(self, admission: int) -> bool:
        """Return whether a call that was admitted earlier, and has waited since, may be made now."""
        return not self._open_for or admission == self._generation

    def report(self, admission: int, *, healthy: bool | None) -> None:
        """Record the result of an admitted call; `healthy` is None if it says nothing about the service's health."""
        if admission != self._generation:
            return
        if self._trial_running:
            self._trial_running = False
            if healthy is not None:
                self._close() if healthy else self._open()
        elif healthy is not None:
            self._recent_results.append(healthy)
            if not healthy and self._recent_results.count(False) >= FAILURES_TO_OPEN:
                self._open()

    def _close(self) -> None:
        self._generation += 1
        self._open_for = 0.0
        self._recent_results.clear()

    def _open(self) -> None:
        self._generation += 1
        self._open_for = min(self._open_for * 2, self._timings.max_open_for) or self._timings.open_for
        # The random factor keeps replicas that saw the same failure from retrying at the same moment.
        self._until = self._clock() + self._open_for * random.uniform(0.8, 1.2)


@dataclass(frozen=True, slots=True)
class RecentCallsSummary:
    """What the calls of the window say; shares and times are None without calls."""

    calls: int
    error_share: float | None  # of calls without a usable answer, including calls that the circuit breaker rejected
    p95: float | None  # seconds, of the calls that were made
    last_answer_at: datetime | None  # also from before the window


class RecentCalls:
    """The calls of the last five minutes: how many failed, and how long they took."""

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float, str]] = deque(maxlen=MAX_RECENT_CALLS)  # end, seconds, outcome
        self._last_answer: float | None = None  # seconds since 1970

    def record(self, seconds: float, outcome: str) -> None:
        """Record a call with a value of SOURCE_OUTCOMES."""
        self._calls.append((time.monotonic(), seconds, outcome))
        if outcome in ANSWERED_OUTCOMES:
            self._last_answer = time.time()

    def summary(self) -> RecentCallsSummary:
        oldest = time.monotonic() - RECENT_WINDOW
        calls = [(seconds, outcome) for at, seconds, outcome in self._calls if at >= oldest]
        failed = sum(outcome not in ANSWERED_OUTCOMES for _, outcome in calls)
        times = sorted(seconds for seconds, outcome in calls if outcome != "open")
        return RecentCallsSummary(
            calls=len(calls),
            error_share=failed / len(calls) if calls else None,
            p95=times[math.ceil(0.95 * len(times)) - 1] if times else None,
            last_answer_at=None if self._last_answer is None else datetime.fromtimestamp(self._last_answer, UTC),
        )
