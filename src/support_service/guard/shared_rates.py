"""Rates shared by replicas: each replica adds what it has spent to Redis in the background; requests never wait for it.

Redis stores for each key the time at which its bucket is full, by the clock of Redis, and every replica adds what it
spent. Requests that replicas admit beyond the rate before they synchronize are a debt, and are paid back. Over t
seconds, N replicas admit at most t times the rate plus, for each replica, one bucket and its refill in one interval.
Under steady demand the total is the rate itself.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from support_service.guard.rates import RateLimiter, RateSyncTimings
from support_service.platform.redis import create_pool
from support_service.platform.telemetry.instruments import OTHER
from support_service.platform.telemetry.logs import outage_logger
from support_service.platform.telemetry.stores import RecordOperation, discard_measurement

MICROSECONDS_PER_SECOND = 1_000_000
# The debt is limited to ten windows: more comes from a clock that jumped, or from a value that another program wrote.
SYNC_SCRIPT = """
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


class SharedRateLimits:
    """Synchronization of limiters with the limiters of other replicas."""

    def __init__(
        self,
        url: str,
        limiters: Sequence[RateLimiter],
        measure: RecordOperation = discard_measurement,
        timings: RateSyncTimings = RateSyncTimings(),
    ) -> None:
        self._limiters = limiters
        self._measure = measure
        self._timings = timings
        self._redis = redis.Redis.from_pool(
            create_pool(
                url,
                socket_connect_timeout=timings.redis_timeout,
                socket_timeout=timings.redis_timeout,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._healthy = True
        for limiter in limiters:
            limiter.start_recording()

    async def run(self) -> None:
        """Synchronize periodically, until cancelled. While Redis fails, each replica applies the limits on its own."""
        while True:
            await asyncio.sleep(self._timings.interval if self._healthy else self._timings.retry_interval)
            await self.synchronize()

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def synchronize(self) -> None:
        """Synchronize what was spent since the last call. A failure is logged and measured, but not raised."""
        started = perf_counter()
        try:
            async with asyncio.timeout(self._timings.redis_timeout):
                synchronized = [await self._synchronize(limiter) for limiter in self._limiters]
        except Exception as failure:  # noqa: BLE001 - the next turn retries after any failure
            # Discard what was spent during a failure: the buckets have refilled meanwhile, and the sum of a
            # whole outage, added at once, would put callers into debt who have kept to their rate.
            for limiter in self._limiters:
                limiter.start_recording()
            self._measure("EVAL", perf_counter() - started, "timeout" if _is_timeout(failure) else OTHER)
            reason = str(failure) or type(failure).__name__
            outage_logger("limits_not_shared").warning(
                "Redis failed, so each replica applies the rate limits on its own: %s", reason
            )
            self._healthy = False
        else:
            if any(synchronized):
                self._measure("EVAL", perf_counter() - started)
                if not self._healthy:
                    log.warning("Rate limits are shared between replicas again")
                self._healthy = True

    async def _synchronize(self, limiter: RateLimiter) -> bool:
        spent = limiter.pop_consumed(self._timings.max_keys)
        if not spent:
            return False
        redis_keys = [f"support:rate:{limiter.name}:{key}" for key in spent]
        arguments = (
            round(limiter.interval * MICROSECONDS_PER_SECOND),
            limiter.rate.seconds * MICROSECONDS_PER_SECOND,
            *spent.values(),
        )
        results: list[int] = await self._redis.eval(SYNC_SCRIPT, len(redis_keys), *redis_keys, *arguments)
        limiter.apply_shared(
            {key: micros / MICROSECONDS_PER_SECOND for key, micros in zip(spent, results, strict=True)}
        )
        return True


def _is_timeout(failure: Exception) -> bool:
    return isinstance(failure, (TimeoutError, redis.TimeoutError))
