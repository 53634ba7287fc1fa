"""The timeline cache in Redis, shared by all replicas. A failure of Redis never fails a read of a timeline."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any
from uuid import uuid4

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, ResponseError

from support_service.platform.background import cancel_all
from support_service.platform.redis import REDIS_FAILURES, OversizedAnswer, create_pool
from support_service.platform.telemetry.instruments import OTHER
from support_service.platform.telemetry.logs import outage_logger
from support_service.platform.telemetry.stores import PoolState, RecordOperation, discard_measurement, redis_pool_state
from support_service.timeline.cache import CacheUnavailable, Lease, RedisCacheTimings

UNAVAILABLE_MESSAGE = "Redis is unavailable, timelines are collected without it: %s"
DELETE_BATCH = 1000  # keys of one command
MAX_BATCHES_IN_FLIGHT = 4  # batches in flight; further commands are sent with the next batch

# Lua scripts are atomic across replicas. SET keeps the stored value if the writer has not seen it.
COMPARE_AND_SET_SCRIPT = """
local there = redis.pcall('GET', KEYS[1])
local revision = type(there) == 'string' and string.match(there, '^{"revision":"(%x+)"')
if revision and revision ~= ARGV[3] then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
# A key without an expiry, or with a longer one than a lease has, is overwritten: it must not block all replicas.
ACQUIRE_LEASE_SCRIPT = """
local left = redis.pcall('PTTL', KEYS[1])
if type(left) == 'number' and left > 0 and left <= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
EXTEND_LEASE_SCRIPT = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
RELEASE_LEASE_SCRIPT = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

log = logging.getLogger(__name__)


class RedisConnection:
    """Runs commands on a Redis within a timeout, and recovers in the background from faults.

    A fault or a late answer makes Redis unavailable. Every command then fails at once, until a ping in the background
    is answered within the timeout.
    """

    def __init__(self, url: str, timeout: float, timings: RedisCacheTimings) -> None:
        """Create the connection pool; connections are opened on first use.

        `timeout` in seconds covers an answer and a new connection. A caller pays it once if Redis freezes.
        """
        self.timeout = timeout  # read for each operation
        self._timings = timings
        last_resort = timings.late_answer_timeout + timeout  # `run` limits how long callers wait
        self._pool = create_pool(
            url,
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
        if self._fault:
            raise CacheUnavailable(self._fault)

    async def run(self, command: Awaitable[Any], keys: list[str]) -> Any:
        """Return the answer if it arrives within the timeout; otherwise raise TimeoutError and let the command run.

        `keys` are the keys that it reads: oversized values of a late or oversized answer are deleted.
        """
        running = self._start_command(command)
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

    def pool_state(self) -> PoolState:
        return redis_pool_state(self._pool)

    def _start_command(self, command: Awaitable[Any]) -> asyncio.Future[Any]:
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
        outage_log.warning(UNAVAILABLE_MESSAGE, self._fault)
        await self._collect_late()
        while True:
            with suppress(*REDIS_FAILURES):
                async with asyncio.timeout(self._timings.late_answer_timeout):
                    await self.client.ping()  # may have to open a connection first, so it is not timed
                timed_ping = self._start_command(self.client.ping())
                if await self._is_done_in_time(timed_ping) and timed_ping.result():
                    break
                timed_ping.cancel()
            outage_log.warning(UNAVAILABLE_MESSAGE, self._fault)
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
            with suppress(*REDIS_FAILURES):
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


class RedisCache:
    """The timeline cache in a Redis that all replicas share.

    Commands of one event loop iteration are sent as one batch. At 32 concurrent reads, one MGET costs a third less CPU
    per cached timeline than one GET each. A burst of reads needs a few connections only. MGET also returns nil instead
    of an error for a key of a wrong type.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        measure: RecordOperation = discard_measurement,
        timings: RedisCacheTimings = RedisCacheTimings(),
    ) -> None:
        """Connections are opened on first use. `timeout` in seconds covers an answer and a new connection."""
        self.connection = RedisConnection(url, timeout, timings)
        self._measure = measure
        self._max_value_bytes = timings.max_value_bytes
        self._reads: dict[str, list[asyncio.Future[Any]]] = {}
        self._commands: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._batches: set[asyncio.Future[None]] = set()

    async def get(self, key: str) -> bytes | None:
        waiting = self._next_answer()
        self._reads.setdefault(key, []).append(waiting)
        value: bytes | None = await waiting
        if value is not None and len(value) > self._max_value_bytes:
            await self.delete(key)
            return None
        return value

    async def compare_and_set(self, key: str, value: bytes, ttl: float, seen_revision: str) -> bytes | None:
        if len(value) > self._max_value_bytes:
            return None
        stored: bytes | None = await self._execute(
            "EVAL", COMPARE_AND_SET_SCRIPT, 1, key, value, max(1, round(ttl * 1000)), seen_revision
        )
        return stored

    async def delete(self, key: str) -> None:
        await self._execute("DEL", key)

    async def acquire_lease(self, key: str, seconds: float) -> Lease | None:
        token = uuid4().hex
        claimed = await self._execute("EVAL", ACQUIRE_LEASE_SCRIPT, 1, key, token, max(1, round(seconds * 1000)))
        return Lease(key, token) if claimed else None

    async def extend_lease(self, lease: Lease, seconds: float) -> None:
        await self._execute("EVAL", EXTEND_LEASE_SCRIPT, 1, lease.key, lease.token, max(1, round(seconds * 1000)))

    async def release_lease(self, lease: Lease) -> None:
        await self._execute("EVAL", RELEASE_LEASE_SCRIPT, 1, lease.key, lease.token)

    async def find_keys(self, prefix: str) -> list[str]:
        """Return all keys with a prefix, which takes long."""
        found = self.connection.client.scan_iter(match=f"{prefix}*", count=DELETE_BATCH)
        return [key.decode() async for key in found]

    async def delete_all(self, keys: Sequence[str]) -> None:
        """Delete keys."""
        for first in range(0, len(keys), DELETE_BATCH):
            await self.connection.client.unlink(*keys[first : first + DELETE_BATCH])

    async def ping(self) -> None:
        await self._execute("PING")

    async def close(self) -> None:
        await self.connection.close(self._batches)

    async def _execute(self, *command: Any) -> Any:
        waiting = self._next_answer()
        self._commands.append((command, waiting))
        return await waiting

    def _next_answer(self) -> asyncio.Future[Any]:
        """Return a future for an answer of the next batch. Raises CacheUnavailable if Redis is unavailable."""
        self.connection.raise_if_unavailable()
        if not self._reads and not self._commands and len(self._batches) < MAX_BATCHES_IN_FLIGHT:
            self._start_batch()
        return asyncio.get_running_loop().create_future()

    def _start_batch(self) -> None:
        batch = asyncio.ensure_future(self._send_batch())
        self._batches.add(batch)
        batch.add_done_callback(self._on_batch_done)

    def _on_batch_done(self, batch: asyncio.Future[None]) -> None:
        self._batches.discard(batch)
        if self._reads or self._commands:
            self._start_batch()

    async def _send_batch(self) -> None:
        """Send the commands collected since the last batch, and resolve their futures."""
        reads, self._reads = self._reads, {}
        commands, self._commands = self._commands, []
        started = perf_counter()
        answers: list[Any]
        try:
            self.connection.raise_if_unavailable()
            if commands:
                pipeline = self.connection.client.pipeline(transaction=False)
                for command, _ in commands:
                    pipeline.execute_command(*command)
                if reads:
                    pipeline.mget(list(reads))
                answers = await self.connection.run(pipeline.execute(raise_on_error=False), list(reads))
            else:
                answers = await self.connection.run(self._mget(list(reads)), list(reads))
        except Exception as failure:  # noqa: BLE001 - any failure must be passed on to the waiting callers
            answers = [failure] * (len(commands) + 1)
        elapsed = perf_counter() - started
        for (command, waiting), answer in zip(commands, answers, strict=False):
            self._resolve(command[0], elapsed, answer, [waiting])
        if reads:
            values = answers[-1]
            if not isinstance(values, Exception) and not _is_mget_answer(values, len(reads)):
                values = InvalidResponse("it does not answer what it was asked")
            if isinstance(values, Exception):
                self._resolve("MGET", elapsed, values, [waiting for each in reads.values() for waiting in each])
            else:
                self._measure("MGET", elapsed)
                for waiting_for_one, value in zip(reads.values(), values, strict=True):
                    _set_results(waiting_for_one, value)

    async def _mget(self, keys: list[str]) -> list[Any]:
        """Return the answer of one MGET as a list of answers, in the form of a pipeline's, where MGET is the last."""
        return [await self.connection.client.mget(keys)]

    def _resolve(self, name: str, elapsed: float, answer: Any, waiting: list[asyncio.Future[Any]]) -> None:
        if not isinstance(answer, Exception):
            self._measure(name, elapsed)
            _set_results(waiting, answer)
            return
        if not isinstance(answer, CacheUnavailable):  # pragma: no branch - else the command was not sent
            self._measure(name, elapsed, "timeout" if isinstance(answer, TimeoutError) else OTHER)
            if not isinstance(answer, ResponseError):
                self.connection.mark_unavailable(str(answer) or type(answer).__name__)
        for each in waiting:
            if not each.done():  # pragma: no branch - else the waiting task was just cancelled
                each.set_exception(CacheUnavailable(str(answer)))


def _is_mget_answer(answer: Any, number: int) -> bool:
    """Return whether an answer has the form of MGET's: a list of `number` values, each bytes or None."""
    return (
        isinstance(answer, list)
        and len(answer) == number
        and all(value is None or isinstance(value, bytes) for value in answer)
    )


def _set_results(waiting: list[asyncio.Future[Any]], value: Any) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(value)
