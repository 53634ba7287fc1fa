"""A circuit breaker: a service that keeps failing is left alone for a while, then tried with one call."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

WINDOW = 10  # of the last calls
FAILURES = 5  # among them open the circuit
OPEN_FOR = 5.0  # seconds at first; each trial that fails doubles it
OPEN_FOR_AT_MOST = 30.0  # seconds

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Of one service; calls ask for admission, and report how they went with what it gave them.

    A report of a call that was admitted before the state last changed says nothing about the state now, and is ignored.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lately: deque[bool] = deque(maxlen=WINDOW)
        self._term = 0  # counts changes of state, and is what a call is admitted with
        self._open_for = 0.0  # seconds; 0 while closed
        self._until = 0.0
        self._trying = False

    @property
    def state(self) -> State:
        """`closed` lets calls pass, `open` none, `half_open` one at a time."""
        if not self._open_for:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    def admit(self) -> int | None:
        """What the call must report with; None where it must not be made."""
        if self._open_for:
            if self._trying or self._clock() < self._until:
                return None
            self._trying = True
        return self._term

    def report(self, admission: int, *, good: bool | None) -> None:
        """How a call went; None where it ended without telling anything about the service."""
        if admission != self._term:
            return
        if self._trying:
            self._trying = False
            if good is not None:
                self._close() if good else self._open()
        elif good is not None:
            self._lately.append(good)
            if not good and self._lately.count(False) >= FAILURES:
                self._open()

    def _close(self) -> None:
        self._term += 1
        self._open_for = 0.0
        self._lately.clear()

    def _open(self) -> None:
        self._term += 1
        self._open_for = min(self._open_for * 2, OPEN_FOR_AT_MOST) or OPEN_FOR
        # Replicas that saw the same failure must not all come back at the same moment.
        self._until = self._clock() + self._open_for * random.uniform(0.8, 1.2)
