"""Rates that replicas share: what each has spent is settled in Redis beside the requests, which never wait for it.

Redis keeps for each key the moment at which its bucket is full, by its own clock, and every replica adds what it
spent. So what replicas admit beyond the rate before they hear of one another is a debt, and paid back: over t seconds N
replicas admit at most t times the rate and, for each of them, a bucket and what it gives back in SETTLE_EVERY; under
steady demand that is the rate itself.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from support_service.limits.rates import Limiter
from support_service.telemetry.labels import OTHER
from support_service.telemetry.stores import Measure, unmeasured

SETTLE_EVERY = 0.2  # seconds
RETRY_AFTER = 1.0  # seconds between attempts while Redis is out of order
WITHIN = 1.0  # seconds for Redis to answer
MOST_AT_ONCE = 500  # keys of one policy in one turn: Redis serves nobody else meanwhile
MICRO = 1_000_000
# A debt of more than ten windows is no debt but a clock that jumped, or a value that is none of ours.
SETTLE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, most = tonumber(ARGV[1]), tonumber(ARGV[2]) * 10
local full_in = {}
for number, key in ipairs(KEYS) do
    local found = redis.pcall('GET', key)
    local at = type(found) == 'string' and tonumber(found) or now
    at = math.min(math.max(at, now) + ARGV[number + 2] * interval, now + most)
    redis.call('SET', key, string.format('%.0f', at), 'PX', math.ceil((at - now) / 1000) + 1000)
    full_in[number] = at - now
end
return full_in
"""

log = logging.getLogger(__name__)


class SharedRates:
    """Settles some limiters with those of other replicas."""

    def __init__(self, url: str, limiters: Sequence[Limiter], measure: Measure = unmeasured) -> None:
        self._limiters = limiters
        self._measure = measure
        self._redis = redis.Redis.from_url(
            url, socket_connect_timeout=WITHIN, socket_timeout=WITHIN, retry=Retry(NoBackoff(), 0)
        )
        self._in_order = True
        for limiter in limiters:
            limiter.share()

    async def run(self) -> None:
        """Settle again and again; while Redis is out of order each replica holds the limits by itself."""
        while True:
            await asyncio.sleep(SETTLE_EVERY if self._in_order else RETRY_AFTER)
            await self.settle()

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def settle(self) -> None:
        """Settle once what was spent since the last time; a failure is logged and measured, and not raised."""
        started = perf_counter()
        try:
            async with asyncio.timeout(WITHIN):
                settled = [await self._settle(limiter) for limiter in self._limiters]
        except Exception as failure:  # noqa: BLE001 - whatever it is, the next turn is a new attempt
            # What was spent meanwhile is not told later: the bucket has filled beside it, and the sum of an outage told
            # at once would be a debt of callers who have kept to their rate.
            for limiter in self._limiters:
                limiter.share()
            self._measure("EVAL", perf_counter() - started, "timeout" if _is_late(failure) else OTHER)
            self._tell(in_order=False, reason=str(failure) or type(failure).__name__)
        else:
            if any(settled):
                self._measure("EVAL", perf_counter() - started)
                self._tell(in_order=True)

    async def _settle(self, limiter: Limiter) -> bool:
        spent = limiter.spent(MOST_AT_ONCE)
        if not spent:
            return False
        names = [f"support:rate:{limiter.name}:{key}" for key in spent]
        arguments = (round(limiter.interval * MICRO), limiter.rate.seconds * MICRO, *spent.values())
        found: list[int] = await self._redis.eval(SETTLE, len(names), *names, *arguments)
        limiter.settle({key: micros / MICRO for key, micros in zip(spent, found, strict=True)})
        return True

    def _tell(self, *, in_order: bool, reason: str = "") -> None:
        if in_order != self._in_order:
            self._in_order = in_order
            log.warning("Rates are %s", "shared again" if in_order else f"counted by each replica for itself: {reason}")


def _is_late(failure: Exception) -> bool:
    return isinstance(failure, (TimeoutError, redis.TimeoutError))
