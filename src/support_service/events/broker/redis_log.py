"""The log of published events in a Redis stream, with connections of its own: a read that waits occupies one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from redis.exceptions import ResponseError

from support_service.events.broker.base import BrokerError, RedisBrokerTimings
from support_service.events.broker.log import START, LogEntry, LogRead, LogState, Note, Place, new_epoch, to_place
from support_service.events.broker.redis import by_stream, connection_pool, event_of
from support_service.platform.redis import FAILURES
from support_service.platform.telemetry.stores import PoolState, redis_pool_state

CONNECTIONS = 8
FOLLOW_BATCH = 200  # entries of one read
_NOTE_FIELD = "note"
# Notes are removed when they are too old, and the last one expires with the stream.
_ADD_NOTE = """
local now = redis.call('TIME')
redis.call('XADD', KEYS[1], 'MINID', now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1], '*', 'note', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""


class RedisLog:
    """The log of a stream of Redis. Its epoch is a key beside the stream, which Redis loses together with the stream.

    `note_ttl` is the number of seconds for which Redis keeps a note.
    """

    def __init__(self, url: str, stream: str, note_ttl: float, timings: RedisBrokerTimings) -> None:
        self._stream, self._notes, self._epoch_key = stream, f"{stream}.notes", f"{stream}:epoch"
        self._note_ttl = round(note_ttl * 1000)
        self._timings = timings
        self._pool = connection_pool(url, timings, CONNECTIONS)
        self._redis: Any = redis.Redis.from_pool(self._pool)
        self._add_note = self._redis.register_script(_ADD_NOTE)
        self._notes_after = START
        self._clock_offset = 0  # ms; Redis's time minus the time of the event loop

    async def state(self) -> LogState:
        async with self._operation():
            await self._redis.set(self._epoch_key, new_epoch(), nx=True)
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.get(self._epoch_key)
                pipe.xinfo_stream(self._stream)
                now, epoch, found = await pipe.execute(raise_on_error=False)
            if isinstance(found, ResponseError) and "no such key" in str(found):
                found = {}
            for answer in (now, epoch, found):
                if isinstance(answer, Exception):
                    raise answer
            self._clock_offset = now[0] * 1000 + now[1] // 1000 - _loop_time()
            if not found:
                return LogState(epoch.decode(), START, START)
            first = found["first-entry"]
            last = to_place(found["last-generated-id"])
            # Entries before the first one are missing if some were removed; Redis 6 does not tell.
            is_whole = found.get("entries-added") == found["length"]
            missing_to = START if is_whole else _before(to_place(first[0])) if first else last
            return LogState(epoch.decode(), last, missing_to)

    async def follow(self, after: Place, wait: float) -> LogRead:
        # The socket timeout must exceed the time the server blocks, or a quiet stream would look like a dead server.
        block = max(1, round(min(wait, self._timings.timeout / 2) * 1000))
        wanted = {self._stream: after.entry_id, self._notes: self._notes_after.entry_id}
        async with self._operation():
            answer = await self._redis.xread(wanted, count=FOLLOW_BATCH, block=block)
        entries, notes = [], []
        for name, found in by_stream(answer):
            if name == self._notes.encode():
                notes = [self._note(key, fields) for key, fields in found]
                self._notes_after = to_place(found[-1][0]) if found else self._notes_after
            else:
                entries = _entries(found)
        return LogRead(entries, notes)

    async def entries(self, after: Place, count: int) -> list[LogEntry]:
        async with self._operation():
            return _entries(await self._redis.xrange(self._stream, min=f"({after.entry_id}", count=count))

    async def entries_before(self, place: Place, count: int) -> list[LogEntry]:
        async with self._operation():
            return _entries(await self._redis.xrevrange(self._stream, max=place.entry_id, count=count))

    async def add_note(self, content: bytes) -> None:
        async with self._operation():
            await self._add_note(keys=[self._notes], args=[self._note_ttl, content])

    async def close(self) -> None:
        await self._redis.aclose()

    def connections(self) -> PoolState:
        """Return the state of the connection pool."""
        return redis_pool_state(self._pool)

    def _note(self, key: bytes, fields: dict[bytes, bytes]) -> Note:
        age = _loop_time() + self._clock_offset - to_place(key).number
        return Note(fields.get(_NOTE_FIELD.encode(), b""), max(0.0, age / 1000))

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """Limit the time of an operation, and raise BrokerError for its failure."""
        try:
            async with asyncio.timeout(self._timings.timeout):
                yield
        except FAILURES as failure:
            raise BrokerError(str(failure) or type(failure).__name__) from failure


def _loop_time() -> int:
    return round(asyncio.get_running_loop().time() * 1000)


def _before(place: Place) -> Place:
    """Return a place before this one and behind every entry that may precede it."""
    return Place(place.number, place.part - 1) if place.part else Place(place.number - 1, 2**63 - 1)


def _entries(found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[LogEntry]:
    return [LogEntry(to_place(key), event_of(fields)) for key, fields in found if fields is not None]
