"""The log of published events in a Redis stream, with connections of its own: a read that waits occupies one."""

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.broker.log import (
    LOG_START,
    LogEntry,
    LogNote,
    LogPlace,
    LogRead,
    LogState,
    new_epoch,
    parse_place,
)
from support_service.events.broker.redis import RedisClient, entries_by_stream, event_of_entry

MAX_CONNECTIONS = 8
FOLLOW_BATCH = 200  # entries of one read
_NOTE_FIELD = "note"
# Notes are removed when they are too old, and the last one expires with the stream.
_ADD_NOTE_SCRIPT = """
local now = redis.call('TIME')
redis.call('XADD', KEYS[1], 'MINID', now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1], '*', 'note', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""


class RedisLog(RedisClient):
    """The log of a stream of Redis. Its epoch is a key beside the stream, which Redis loses together with the stream.

    `note_ttl` is the number of seconds for which Redis keeps a note.
    """

    def __init__(self, url: str, stream: str, note_ttl: float, timings: RedisBrokerTimings) -> None:
        super().__init__(url, timings, MAX_CONNECTIONS)
        self._stream, self._notes, self._epoch_key = stream, f"{stream}.notes", f"{stream}:epoch"
        self._note_ttl = round(note_ttl * 1000)
        self._add_note = self.client.register_script(_ADD_NOTE_SCRIPT)
        self._notes_after = LOG_START
        self._clock_offset = 0  # ms; Redis's time minus the time of the event loop

    async def state(self) -> LogState:
        async with self._measured_operation():
            await self.client.set(self._epoch_key, new_epoch(), nx=True)
            async with self.client.pipeline(transaction=False) as pipe:
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
                return LogState(epoch.decode(), LOG_START, LOG_START)
            first = found["first-entry"]
            last = parse_place(found["last-generated-id"])
            # Entries before the first one are missing if some were removed; Redis 6 does not tell.
            is_whole = found.get("entries-added") == found["length"]
            missing_to = LOG_START if is_whole else _place_before(parse_place(first[0])) if first else last
            return LogState(epoch.decode(), last, missing_to)

    async def begin_epoch(self) -> None:
        """Make all positions foreign: what they stand for was undone."""
        async with self._measured_operation():
            await self.client.set(self._epoch_key, new_epoch())

    async def follow(self, after: LogPlace, wait: float) -> LogRead:
        # The socket timeout must exceed the time the server blocks, or a quiet stream would look like a dead server.
        block = max(1, round(min(wait, self._timings.timeout / 2) * 1000))
        wanted = {self._stream: after.entry_id, self._notes: self._notes_after.entry_id}
        async with self._measured_operation():
            answer = await self.client.xread(wanted, count=FOLLOW_BATCH, block=block)
        entries, notes = [], []
        for name, found in entries_by_stream(answer):
            if name == self._notes.encode():
                notes = [self._to_note(key, fields) for key, fields in found]
                self._notes_after = parse_place(found[-1][0]) if found else self._notes_after
            else:
                entries = _to_log_entries(found)
        return LogRead(entries, notes)

    async def entries(self, after: LogPlace, count: int) -> list[LogEntry]:
        async with self._measured_operation():
            return _to_log_entries(await self.client.xrange(self._stream, min=f"({after.entry_id}", count=count))

    async def entries_before(self, place: LogPlace, count: int) -> list[LogEntry]:
        async with self._measured_operation():
            return _to_log_entries(await self.client.xrevrange(self._stream, max=place.entry_id, count=count))

    async def add_note(self, content: bytes) -> None:
        async with self._measured_operation():
            await self._add_note(keys=[self._notes], args=[self._note_ttl, content])

    def _to_note(self, key: bytes, fields: dict[bytes, bytes]) -> LogNote:
        age = _loop_time() + self._clock_offset - parse_place(key).number
        return LogNote(fields.get(_NOTE_FIELD.encode(), b""), max(0.0, age / 1000))


def _loop_time() -> int:
    return round(asyncio.get_running_loop().time() * 1000)


def _place_before(place: LogPlace) -> LogPlace:
    """Return a place before this one and behind every entry that may precede it."""
    return LogPlace(place.number, place.part - 1) if place.part else LogPlace(place.number - 1, 2**63 - 1)


def _to_log_entries(found: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[LogEntry]:
    return [LogEntry(parse_place(key), event_of_entry(fields)) for key, fields in found if fields is not None]
