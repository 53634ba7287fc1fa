"""Request rates per key, a principal or an address: one bucket for each, counted in this process.

The generic cell rate algorithm stores one number per key: the time at which its bucket will be full again. ADR 5 has
the figures of a library, which needs a round trip to Redis for each request if counts are shared. `shared_rates.py`
synchronizes with Redis in the background.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

MAX_KEYS = 20_000  # default; a busy process sees fewer keys in the time that a bucket takes to fill
TOLERANCE = 1e-6  # s; tolerance, because a sum of many floats is inexact


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate: a bucket that holds `requests`, and refills evenly within `seconds`."""

    requests: int
    seconds: int


class RateLimitState(NamedTuple):
    """State of a key after a request.

    Whether the request is admitted, how many are left, and the seconds until the bucket is full and until one fits.
    """

    admitted: bool
    remaining: int
    seconds_until_full: float
    retry_after: float


@dataclass(frozen=True, slots=True)
class RateSyncTimings:
    """Intervals of the synchronization, in seconds, and its batch size."""

    interval: float = 0.2
    retry_interval: float = 1.0  # while Redis fails
    redis_timeout: float = 1.0  # for Redis to answer
    max_keys: int = 500  # keys of one limiter per synchronization; Redis serves no other client during the script


class RateLimiter:
    """A limiter of one rate over many keys. Memory is bounded for any number of keys."""

    def __init__(
        self, name: str, rate: Rate, clock: Callable[[], float] = time.monotonic, *, max_keys: int = MAX_KEYS
    ) -> None:
        self.name = name
        self.rate = rate
        self.interval = rate.seconds / rate.requests  # s in which one request is refilled
        self._max_full_in = rate.seconds - self.interval  # s until full at which one more request still fits
        self.policy = f'"{name}";q={rate.requests};w={rate.seconds}'  # the value of RateLimit-Policy
        self.clock = clock
        self._max_keys = max_keys
        self._full_at: dict[str, float] = {}
        self._consumed: dict[str, int] | None = None

    def consume(self, key: str) -> RateLimitState:
        """Count a request if its bucket has room. A refused request is not counted."""
        now = self.clock()
        full_at = self._full_at.get(key)
        if full_at is None:
            if len(self._full_at) >= self._max_keys:
                self._evict()
            full_in = 0.0
        else:
            full_in = full_at - now if full_at > now else 0.0
        wait = full_in - self._max_full_in
        if wait > TOLERANCE:
            return RateLimitState(False, 0, full_in, wait)  # noqa: FBT003 - a tuple that is created for every request
        full_in += self.interval
        self._full_at[key] = now + full_in
        if self._consumed is not None:
            self._consumed[key] = self._consumed.get(key, 0) + 1
        return RateLimitState(True, int((TOLERANCE - wait) / self.interval), full_in, 0.0)  # noqa: FBT003

    def consume_many(self, key: str, requests: int, *, may_owe: bool = False) -> RateLimitState:
        """Count an answer that costs as much as some more requests.

        It is admitted unless the key owes requests; with `may_owe` in any case. An answer may cost more than the bucket
        holds: the key then owes the difference, and is refused until the bucket has refilled that much.
        """
        now = self.clock()
        full_in = max(self._full_at.get(key, 0.0) - now, 0.0)
        debt = full_in - self.rate.seconds
        if debt > TOLERANCE and not may_owe:
            return RateLimitState(
                admitted=False, remaining=0, seconds_until_full=full_in, retry_after=debt + self.interval
            )
        full_in += requests * self.interval
        self._full_at[key] = now + full_in
        if self._consumed is not None:
            self._consumed[key] = self._consumed.get(key, 0) + requests
        remaining = max(0, int((self.rate.seconds - full_in + TOLERANCE) / self.interval))
        return RateLimitState(admitted=True, remaining=remaining, seconds_until_full=full_in, retry_after=0.0)

    def consume_optional(self, key: str, requests: int) -> float:
        """Count work that an answer can do without, like some requests, if half of the bucket is left for others.

        Return 0.0, or the seconds until that is so; nothing is counted then.
        """
        wait = self._full_at.get(key, 0.0) - self.clock() - self.rate.seconds / 2
        if wait > TOLERANCE:
            return wait
        self.consume_many(key, requests)
        return 0.0

    def start_recording(self) -> None:
        """Start recording the requests spent per key, for `pop_consumed`; earlier records are discarded."""
        self._consumed = {}

    def pop_consumed(self, max_keys: int) -> dict[str, int]:
        """Return the requests spent per key since the last call.

        If there are more than `max_keys` keys, return the largest counts; the others stay for the next call.
        """
        spent, self._consumed = self._consumed or {}, {}
        if len(spent) <= max_keys:
            return spent
        largest = dict(nlargest(max_keys, spent.items(), key=lambda each: each[1]))
        self._consumed = {key: number for key, number in spent.items() if key not in largest}
        return largest

    def apply_shared(self, seconds_until_full: Mapping[str, float]) -> None:
        """Apply what all replicas together have spent: the seconds until each key's bucket is full."""
        now = self.clock()
        for key, seconds in seconds_until_full.items():
            not_synchronized = (self._consumed or {}).get(key, 0) * self.interval
            # Never below the local value, so that a Redis that has lost its data does not reset the limits.
            self._full_at[key] = max(self._full_at.get(key, 0.0), now + seconds + not_synchronized)

    def _evict(self) -> None:
        """Remove the quarter of the keys whose buckets are full soonest, because the removal affects them least."""
        for key, _ in nsmallest(self._max_keys // 4, self._full_at.items(), key=lambda each: each[1]):
            del self._full_at[key]
            if self._consumed:  # else they accumulate when one synchronization cannot cover all keys
                self._consumed.pop(key, None)
