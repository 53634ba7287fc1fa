"""How often one key, a principal or an address, may ask: a bucket for each, counted in this process.

The generic cell rate algorithm keeps one number a key: the moment at which its bucket will be full again. The library
`limits` costs 7 to 12 us a request for a count and what headers tell of it, and a round trip to Redis where that is
shared; this costs 1 us, and `shared.py` settles with Redis beside the requests.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple

MOST_KEYS = 20_000  # a busy process sees fewer in the time that a bucket takes to fill
SLACK = 1e-6  # s; a sum of many small floats is not exact


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds: a bucket of `requests` that fills again evenly."""

    requests: int
    seconds: int


class Standing(NamedTuple):
    """How a key stands after a request: whether it may go on, what is left, and seconds until all or any is there."""

    admitted: bool
    left: int
    full_in: float
    retry_in: float


class Limiter:
    """One policy over many keys. Memory is bounded whatever keys come."""

    def __init__(self, name: str, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.rate = rate
        self.interval = rate.seconds / rate.requests  # s that one request takes to be given back
        self._room = rate.seconds - self.interval  # what may be spent already where one more request is to fit in
        self.policy = f'"{name}";q={rate.requests};w={rate.seconds}'  # as RateLimit-Policy has it
        self.clock = clock
        self._full_at: dict[str, float] = {}
        self._spent: dict[str, int] | None = None

    def take(self, key: str) -> Standing:
        """Count a request where there is room for it; a refused one costs nothing."""
        now = self.clock()
        full_at = self._full_at.get(key)
        if full_at is None:
            if len(self._full_at) >= MOST_KEYS:
                self._forget()
            full_in = 0.0
        else:
            full_in = full_at - now if full_at > now else 0.0
        waits = full_in - self._room
        if waits > SLACK:
            return Standing(False, 0, full_in, waits)  # noqa: FBT003 - a tuple, made once for each request
        full_in += self.interval
        self._full_at[key] = now + full_in
        if self._spent is not None:
            self._spent[key] = self._spent.get(key, 0) + 1
        return Standing(True, int((SLACK - waits) / self.interval), full_in, 0.0)  # noqa: FBT003

    def share(self) -> None:
        """Note from now on what is spent, for `spent` to hand out; what was noted before is forgotten."""
        self._spent = {}

    def spent(self, most: int) -> dict[str, int]:
        """What was spent by key since the last time, the largest first where there are more keys than `most`."""
        spent, self._spent = self._spent or {}, {}
        if len(spent) <= most:
            return spent
        chosen = dict(nlargest(most, spent.items(), key=lambda each: each[1]))
        self._spent = {key: number for key, number in spent.items() if key not in chosen}
        return chosen

    def settle(self, full_in: Mapping[str, float]) -> None:
        """Take over what all replicas together have spent: seconds until each key's bucket is full."""
        now = self.clock()
        for key, seconds in full_in.items():
            since = (self._spent or {}).get(key, 0) * self.interval
            # Never less than was spent here: a Redis that forgot everything forgives nothing.
            self._full_at[key] = max(self._full_at.get(key, 0.0), now + seconds + since)

    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at)

    def _forget(self) -> None:
        """Forget a quarter of the keys, those whose buckets are full soonest: it makes the least difference to them."""
        for key, _ in nsmallest(MOST_KEYS // 4, self._full_at.items(), key=lambda each: each[1]):
            del self._full_at[key]
            if self._spent:  # or more keys than a turn settles would wait there without end
                self._spent.pop(key, None)
