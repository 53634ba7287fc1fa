"""A connection to the cache's Redis that never keeps a caller waiting: a fault or a late answer makes it unavailable.

While it is unavailable, every command fails at once, until a ping in the background is answered within the timeout.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected

from support_service.platform.background import cancel_all
from support_service.platform.redis import FAILURES, OversizedAnswer, limited_parser
from support_service.platform.telemetry.logs import outage_logger
from support_service.platform.telemetry.stores import PoolState, redis_pool_state
from support_service.timeline.cache.base import CacheUnavailable, RedisCacheTimings

UNAVAILABLE = "Redis is unavailable, timelines are collected without it: %s"

log = logging.getLogger(__name__)


class RedisConnection:
    """Runs commands on a Redis within a timeout, and recovers in the background from faults."""

    def __init__(self, url: str, timeout: float, timings: RedisCacheTimings) -> None:
        """Create the connection pool; connections are opened on first use.

        `timeout` in seconds covers an answer and a new connection. A caller pays it once if Redis freezes.
        """
        self.timeout = timeout  # read for each operation
        self._timings = timings
        last_resort = timings.late_answer_timeout + timeout  # `run` limits how long callers wait
        self._pool = redis.ConnectionPool.from_url(
            url,
            parser_class=limited_parser(url),
            socket_connect_timeout=last_resort,
            socket_timeout=last_resort,
            # An idle connection that was closed does not mean that Redis is unavailable, and a retry opens a new one. A
            # late answer is not retried: asking the upstream services is better than waiting a second time.
            retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
        )
        self.client = redis.Redis.from_pool(self._pool)
        self._running: set[asyncio.Future[Any]] = set()  # commands that Redis has not answered yet
        self._late: dict[asyncio.Future[Any], list[str]] = {}  # timed-out commands still running, with the keys read
        self._suspects: list[str] = []  # keys of answers that were too large; one of their values is oversized
        self._fault: str | None = None  # why Redis is unavailable; None while it is available
        self._recovery: asyncio.Task[None] | None = None

    def raise_if_unavailable(self) -> None:
        """Raise CacheUnavailable while Redis is unavailable."""
        if self._fault:
            raise CacheUnavailable(self._fault)

    async def run(self, command: Awaitable[Any], keys: list[str]) -> Any:
        """Return the answer if it arrives within the timeout; otherwise raise TimeoutError and let the command run.

        `keys` are the keys that it reads: oversized values of a late or oversized answer are deleted.
        """
        running = self._start(command)
        try:
            if await self._is_done_in_time(running):
                return running.result()
        except OversizedAnswer:
            self._suspects += keys
            raise
        except asyncio.CancelledError:
            running.cancel()
            raise
        self._late[running] = keys
        running.add_done_callback(_retrieve_exception)
        raise TimeoutError("no answer in time")

    def mark_unavailable(self, fault: str) -> None:
        """Let every command fail from now on, until Redis answers again."""
        if self._fault is None:
            self._fault = fault
            self._recovery = asyncio.create_task(self._recover())

    async def close(self, waiting: Iterable[asyncio.Future[Any]]) -> None:
        """Cancel the tasks that wait for commands, then the commands, and close the connections."""
        self._fault = "closed"
        # Commands end after the tasks that wait for them, because those may start others. A command that continued
        # after this method would open a new connection.
        tasks = [*waiting, *([self._recovery] if self._recovery else [])]
        await cancel_all(tasks)
        running = [*self._running]
        await cancel_all(running)
        for each in (*tasks, *running):
            each.add_done_callback(_retrieve_exception)
        await self.client.aclose()

    def usage(self) -> PoolState:
        """Return the state of the pool."""
        return redis_pool_state(self._pool)

    def _start(self, command: Awaitable[Any]) -> asyncio.Future[Any]:
        running = asyncio.ensure_future(command)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    async def _is_done_in_time(self, running: asyncio.Future[Any]) -> bool:
        await asyncio.wait({running}, timeout=self.timeout)
        for _ in range(3):
            if running.done():
                return True
            # A delayed event loop finds its timers due before it polls its sockets. An answer that has already arrived
            # must not count as late, otherwise an overloaded process would also lose its cache.
            await asyncio.sleep(0)
        return running.done()

    async def _recover(self) -> None:
        """Wait for the late answers, which may only have been large, and then for a ping within the timeout."""
        outage_log = outage_logger("cache_unavailable")
        outage_log.warning(UNAVAILABLE, self._fault)
        await self._collect_late()
        while True:
            with suppress(*FAILURES):
                async with asyncio.timeout(self._timings.late_answer_timeout):
                    await self.client.ping()  # may have to open a connection first, so it is not timed
                timed_ping = self._start(self.client.ping())
                if await self._is_done_in_time(timed_ping) and timed_ping.result():
                    break
                timed_ping.cancel()
            outage_log.warning(UNAVAILABLE, self._fault)
            await asyncio.sleep(self._timings.reconnect_interval)
        self._fault = None
        log.warning("Redis is available again")

    async def _collect_late(self) -> None:
        """Wait for the late answers, and delete oversized values: each read of one would fail again."""
        late, self._late = self._late, {}
        if late:
            await asyncio.wait(late, timeout=self._timings.late_answer_timeout)
        for running in late:
            running.cancel()
        keys, self._suspects = [*self._suspects, *(key for keys in late.values() for key in keys)], []
        if keys:
            with suppress(*FAILURES):
                async with asyncio.timeout(self._timings.late_answer_timeout):
                    await self._delete_oversized(keys)

    async def _delete_oversized(self, keys: list[str]) -> None:
        limit = self._timings.max_value_bytes
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.strlen(key)
        lengths = await pipeline.execute(raise_on_error=False)  # an error for a key of another type
        oversized = [
            key for key, length in zip(keys, lengths, strict=True) if isinstance(length, int) and length > limit
        ]
        if oversized:
            log.warning("%d values of more than %d bytes are removed from Redis", len(oversized), limit)
            await self.client.delete(*oversized)


def _retrieve_exception(running: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a late answer, so that asyncio does not log it as never retrieved."""
    if not running.cancelled():
        running.exception()
