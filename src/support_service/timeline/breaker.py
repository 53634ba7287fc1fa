"""A circuit breaker: stops the calls to a failing service for some seconds, then tries it with one call."""

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

WINDOW_CALLS = 10  # number of last calls that are considered
FAILURES_TO_OPEN = 5  # failures among them that open the circuit

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerTimings:
    """Times in seconds."""

    open_for: float = 5.0  # at first; each failed trial call doubles it
    max_open_for: float = 30.0


class CircuitBreaker:
    """The circuit breaker of one service. Each call asks for admission first, and reports its result with it.

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
    def state(self) -> State:
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

    def report(self, admission: int, *, good: bool | None) -> None:
        """Record the result of an admitted call; `good` is None if it says nothing about the service's health."""
        if admission != self._generation:
            return
        if self._trial_running:
            self._trial_running = False
            if good is not None:
                self._close() if good else self._open()
        elif good is not None:
            self._recent_results.append(good)
            if not good and self._recent_results.count(False) >= FAILURES_TO_OPEN:
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
