"""The last calls of a source on this replica: how many failed, and how long they took."""

import math
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

WINDOW = 300.0  # seconds
MAX_CALLS = 1000  # of the window; a busy source's window is shorter
ANSWERED = ("ok", "not_found")


@dataclass(frozen=True, slots=True)
class RecentSummary:
    """What the calls of the window say; shares and times are None without calls."""

    calls: int
    error_share: float | None  # of calls without a usable answer, including calls that the circuit breaker rejected
    p95: float | None  # seconds, of the calls that were made
    last_answer_at: datetime | None  # also from before the window


class RecentCalls:
    """The calls of the last five minutes."""

    def __init__(self) -> None:
        self._calls: deque[tuple[float, float, str]] = deque(maxlen=MAX_CALLS)  # end, seconds, outcome
        self._last_answer: float | None = None  # seconds since 1970

    def record(self, seconds: float, outcome: str) -> None:
        """Record a call with a value of SOURCE_OUTCOMES."""
        self._calls.append((time.monotonic(), seconds, outcome))
        if outcome in ANSWERED:
            self._last_answer = time.time()

    def summary(self) -> RecentSummary:
        """Return what the calls of the window say."""
        oldest = time.monotonic() - WINDOW
        calls = [(seconds, outcome) for at, seconds, outcome in self._calls if at >= oldest]
        failed = sum(outcome not in ANSWERED for _, outcome in calls)
        times = sorted(seconds for seconds, outcome in calls if outcome != "open")
        return RecentSummary(
            calls=len(calls),
            error_share=failed / len(calls) if calls else None,
            p95=times[math.ceil(0.95 * len(times)) - 1] if times else None,
            last_answer_at=None if self._last_answer is None else datetime.fromtimestamp(self._last_answer, UTC),
        )
