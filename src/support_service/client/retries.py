"""When a call is repeated, and how long the client waits before it does.

Own code, because a library of retries would replace only the loop. It would not replace how the time that is left
bounds each attempt, or the time that the service asks for. It would not replace the start from where a stream or a
download broke off.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from support_service.client.errors import NoAnswer
from support_service.core.clock import Backoff
from support_service.core.errors import SupportError

TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
IN_PROGRESS_CODE = "idempotency_key_in_use"  # the first attempt still runs; a repeat gets its answer
UNLIMITED = float("inf")


@dataclass(frozen=True, slots=True)
class ClientTimings:
    """How long the client waits, in seconds, and how often it repeats a call."""

    connect: float = 10.0  # until a connection is made
    attempt: float = 30.0  # until an attempt is answered; of a file: until the next block is sent or received
    deadline: float = 60.0  # from the call until the last attempt ends
    attempts: int = 20  # of one call; 1 repeats nothing
    silence: float = 45.0  # without a byte of the stream, which has a comment at least every 15 s
    backoff: Backoff = Backoff(0.1, 5.0)


class Attempts:
    """The attempts of one call; `deadline` is in seconds from now, and starts again when `progress` is called."""

    def __init__(
        self,
        timings: ClientTimings,
        *,
        deadline: float | None = None,
        attempts: float | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timings = timings
        self._most = timings.attempts if attempts is None else attempts
        self._within = timings.deadline if deadline is None else deadline
        self._sleep = sleep
        self._now = now
        self._failures = 0
        self._answer: SupportError | None = None  # the last failure that the service answered with
        self._ends = self._now() + self._within

    @property
    def seconds_left(self) -> float:
        """Seconds for the next attempt, at least a millisecond, because 0 means no limit to aiohttp."""
        return max(0.001, min(self._timings.attempt, self._ends - self._now()))

    def note_progress(self) -> None:
        """Note that an attempt has received something: the count of failures and the deadline start again."""
        self._failures = 0
        self.restart_deadline()

    def restart_deadline(self) -> None:
        """Start the deadline again, for an attempt that takes long because it sends much."""
        self._ends = self._now() + self._within

    async def wait_after(self, failure: SupportError, *, at_least: float = 0.0, repeat: bool = False) -> None:
        """Wait until the next attempt, at least some seconds.

        Raises the failure if there is no time for another attempt, or unless it may pass; `repeat` says that it may.
        What the service has answered before says more than an attempt that the deadline has cut short.
        """
        self._failures += 1
        pause = max(at_least, failure.retry_after or 0.0) + self._timings.backoff.delay(self._failures)
        out_of_time = self._now() + pause >= self._ends
        if not (repeat or is_worth_repeating(failure)) or self._failures >= self._most or out_of_time:
            if out_of_time and isinstance(failure, NoAnswer) and self._answer is not None:
                raise self._answer from failure
            raise failure
        if not isinstance(failure, NoAnswer):
            self._answer = failure
        await self._sleep(pause)


def is_worth_repeating(failure: SupportError) -> bool:
    """Return whether a repeat of the request may succeed."""
    if isinstance(failure, NoAnswer):
        return failure.may_pass
    return failure.status in TRANSIENT_STATUSES or failure.code == IN_PROGRESS_CODE
