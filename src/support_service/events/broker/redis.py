"""Broker on Redis Streams: entries with one field `event`, one consumer group, dead letters in a separate stream."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import perf_counter
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from support_service.events.broker.base import (
    BrokerError,
    DeadLetter,
    Delivery,
    RedisBrokerTimings,
    StreamBacklog,
    select_deliverable_together,
)
from support_service.events.broker.log import LogPlace, parse_place
from support_service.platform.redis import REDIS_FAILURES, create_pool
from support_service.platform.telemetry.instruments import OTHER
from support_service.platform.telemetry.stores import PoolState, RecordOperation, discard_measurement, redis_pool_state
from support_service.platform.telemetry.traces import UNTRACED, MessageSpans

CONSUMER_GROUP = "support-service"
MAX_CONNECTIONS = 16
COUNTED_ENTRIES = 1000  # entries of one read that only counts them
EVENT_FIELDS = (b"event", b"data")  # fields of an entry that may hold the event
ERROR_REPLY_PATTERN = re.compile(r"\bFENCED (?P<fence>\d+)|\bLOST (?P<kept>\d+)|\bFULL\b")  # error replies of PUBLISH

# Each script runs atomically in Redis.
# One script call for any number of events: the client encodes one command, and the server appends all or none. Its
# replicas and its file get the entries and their number together, too, so that a number stands for a prefix of them.
# Acknowledged entries that are kept do not count as waiting; Redis may not know how many of a group's entries wait.
PUBLISH_SCRIPT = f"""
local function waiting()
    local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
    for _, each in ipairs(groups) do
        local has = {{}}
        for i = 1, #each, 2 do has[each[i]] = each[i + 1] end
        if has.name == '{CONSUMER_GROUP}' and has.lag then return has.lag + has.pending end
    end
    return redis.call('XLEN', KEYS[1])
end
if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[2]) or '0') then
    return redis.error_reply('FENCED ' .. redis.call('GET', KEYS[2]))
end
if ARGV[3] == '0' and redis.call('XLEN', KEYS[1]) + #ARGV - 4 > tonumber(ARGV[2])
    and waiting() + #ARGV - 4 > tonumber(ARGV[2]) then
    return redis.error_reply('FULL')
end
local publications = redis.call('GET', KEYS[3]) or '0'
if tonumber(publications) < tonumber(ARGV[4]) then return redis.error_reply('LOST ' .. publications) end
if ARGV[1] ~= '0' then redis.call('SET', KEYS[2], ARGV[1]) end
for i = 5, #ARGV do
    if ARGV[3] == '0' then
        redis.call('XADD', KEYS[1], '*', 'event', ARGV[i])
    else
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[i])
    end
end
return ARGV[3] == '0' and 0 or redis.call('INCR', KEYS[3])
"""
# Nothing, if another consumer has claimed or acknowledged the event meanwhile. The letter comes first: memory may be
# short.
DEAD_LETTER_SCRIPT = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1, ARGV[7]) == 0 then
    return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*',
    'event', ARGV[3], 'reason', ARGV[4], 'tries', ARGV[5], 'at', ARGV[6])
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""
REPLAY_SCRIPT = """
local found = 0
for i = 1, #ARGV do
    local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
    if entry then
        redis.call('XADD', KEYS[1], '*', unpack(entry[2], 1, 2))
        redis.call('XDEL', KEYS[2], ARGV[i])
        found = found + 1
    end
end
return found
"""
# One script, because a consumer that reads between the check and its deletion would lose its new deliveries.
FORGET_CONSUMERS_SCRIPT = """
for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local has = {}
    for i = 1, #each, 2 do has[each[i]] = each[i + 1] end
    if has.pending == 0 and has.idle >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], has.name)
    end
end
"""


class RedisClient:
    """A client with a pool of its own in the Redis of events. It repeats nothing: its users repeat what failed."""

    def __init__(
        self, url: str, timings: RedisBrokerTimings, connections: int, measure: RecordOperation = discard_measurement
    ) -> None:
        self._timings = timings
        self._measure = measure
        self._pool = create_pool(
            url,
            blocking=True,
            timeout=timings.timeout,
            socket_timeout=timings.timeout,
            socket_connect_timeout=timings.timeout,
            max_connections=connections,
            retry=Retry(NoBackoff(), 0),
        )
        self.client: Any = redis.Redis.from_pool(self._pool)

    async def close(self) -> None:
        await self.client.aclose()

    def connections(self) -> PoolState:
        return redis_pool_state(self._pool)

    @asynccontextmanager
    async def _measured_operation(self, name: str = "") -> AsyncIterator[None]:
        """Limit the time of an operation, measure it as the command `name` (if not empty), and raise BrokerError.

        The time includes a new connection, whose commands each have the same timeout.
        """
        started = perf_counter()
        error = ""
        try:
            async with asyncio.timeout(self._timings.timeout):
                yield
        except REDIS_FAILURES as failure:
            described = _as_broker_error(failure)
            if described.unavailable:  # the others are answers of a script: Redis works
                error = "timeout" if isinstance(failure, RedisTimeout | TimeoutError) else OTHER
            raise described from failure
        finally:
            if name:  # the duration of a blocking read says nothing about Redis
                self._measure(name, perf_counter() - started, error)


class RedisBroker(RedisClient):
    """A broker in a Redis that producers, replicas and subscribers share."""

    def __init__(
        self,
        url: str,
        measure: RecordOperation = discard_measurement,
        timings: RedisBrokerTimings = RedisBrokerTimings(),
        spans: MessageSpans = UNTRACED,
    ) -> None:
        super().__init__(url, timings, MAX_CONNECTIONS, measure)
        self._spans = spans
        self._publish_script, self._dead_letter_script, self._replay_script, self._forget_consumers_script = map(
            self.client.register_script, (PUBLISH_SCRIPT, DEAD_LETTER_SCRIPT, REPLAY_SCRIPT, FORGET_CONSUMERS_SCRIPT)
        )

    async def publish(
        self,
        stream: str,
        events: Sequence[str | bytes],
        *,
        max_length: int,
        fence: int = 0,
        trim: bool = True,
        confirmed: int = 0,
    ) -> int:
        keys = [stream, f"{stream}:fence", _publications_key(stream)]
        arguments = [fence, max_length, int(trim), confirmed, *events]
        with self._spans.publishing(stream, events):
            async with self._measured_operation("XADD"):
                return int(await self._publish_script(keys=keys, args=arguments))

    async def publications(self, stream: str) -> int:
        async with self._measured_operation():
            return int(await self.client.get(_publications_key(stream)) or 0)

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:
        # The socket timeout must exceed the time the server blocks, or a quiet stream would look like a dead server.
        block_seconds = min(wait, self._timings.timeout / 2)
        async with self._measured_operation():
            answer = await self._run_with_group(
                stream,
                lambda: self.client.xreadgroup(
                    CONSUMER_GROUP, consumer, {stream: ">"}, count=count, block=max(1, round(block_seconds * 1000))
                ),
            )
        return [each for _, entries in entries_by_stream(answer) for each in _to_deliveries(entries, {})]

    async def claim(
        self, stream: str, consumer: str, *, count: int, min_idle: float, isolate_after: int
    ) -> list[Delivery]:
        min_idle_ms = max(0, round(min_idle * 1000))
        async with self._measured_operation("XCLAIM"):
            pending = await self._run_with_group(
                stream,
                lambda: self.client.xpending_range(
                    stream, CONSUMER_GROUP, "-", "+", self._timings.max_pending_read, idle=min_idle_ms
                ),
            )
            due = [Delivery(each["message_id"].decode(), b"", int(each["times_delivered"])) for each in pending]
            taken = select_deliverable_together(due, count, isolate_after)
            if not taken:
                return []
            tries = {each.id: each.tries + 1 for each in taken}
            entries = await self.client.xclaim(stream, CONSUMER_GROUP, consumer, min_idle_ms, list(tries))
            return _to_deliveries(entries, tries)

    async def renew_claim(self, stream: str, consumer: str, delivery: Delivery) -> None:
        async with self._measured_operation("XCLAIM"):
            await self.client.xclaim(
                stream, CONSUMER_GROUP, consumer, 0, [delivery.id], justid=True
            )  # JUSTID counts no try

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        if ids:
            async with self._measured_operation("XACK"):
                await self.client.xack(stream, CONSUMER_GROUP, *ids)

    async def move_to_dead_letters(self, stream: str, consumer: str, delivery: Delivery, reason: str, at: str) -> None:
        async with self._measured_operation("XADD"):
            arguments: list[Any] = [CONSUMER_GROUP, delivery.id, delivery.event, reason, delivery.tries, at, consumer]
            await self._dead_letter_script(keys=[stream, _dead_letter_stream_name(stream)], args=arguments)

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        async with self._measured_operation("XRANGE"):
            entries = await self.client.xrange(
                _dead_letter_stream_name(stream), min=f"({after}" if after else "-", count=count
            )
        return [_to_dead_letter(key, fields) for key, fields in entries]

    async def find_dead_letter(self, stream: str, letter_id: str) -> DeadLetter | None:
        async with self._measured_operation("XRANGE"):
            entries = await self.client.xrange(_dead_letter_stream_name(stream), min=letter_id, max=letter_id)
        return _to_dead_letter(*entries[0]) if entries else None

    async def last_dead_letter(self, stream: str) -> str | None:
        """Return the id of the newest dead letter, or None."""
        async with self._measured_operation("XRANGE"):
            entries = await self.client.xrevrange(_dead_letter_stream_name(stream), count=1)
        return entries[0][0].decode() if entries else None

    async def entries(self, stream: str, count: int, after: str = "") -> list[Delivery]:
        """Return up to `count` entries of a stream, oldest first, starting after the id `after`."""
        async with self._measured_operation("XRANGE"):
            found = await self.client.xrange(stream, min=f"({after}" if after else "-", count=count)
        return _to_deliveries(found, {})

    async def remove(self, stream: str, ids: Collection[str]) -> int:
        if not ids:
            return 0
        async with self._measured_operation("XDEL"):
            return int(await self.client.xdel(stream, *ids))

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        if not ids:
            return 0
        async with self._measured_operation("XADD"):
            return int(await self._replay_script(keys=[stream, _dead_letter_stream_name(stream)], args=list(ids)))

    async def delete_dead_letters(self, stream: str, ids: Collection[str]) -> int:
        async with self._measured_operation():  # not measured: only on-call uses it
            return int(await self.client.xdel(_dead_letter_stream_name(stream), *ids))

    async def trim(self, stream: str, keep: int) -> None:
        async with self._measured_operation("XTRIM"):
            groups = await self._run_with_group(stream, lambda: self.client.xinfo_groups(stream))
            if not any(map(_is_own, groups)):
                return  # only other groups exist so far; our group has yet to read the entries they have read
            floors = []
            for group in groups:  # the oldest pending entry, or else the last delivered one: later entries are newer
                pending = await self.client.xpending(stream, group["name"])
                floors.append(pending["min"] or group["last-delivered-id"])
            floor = min(floors, key=lambda each: tuple(map(int, each.split(b"-"))))
            if keep:  # Redis removes whole nodes of entries, at most as many entries as there are too many
                (waiting,) = ((each["lag"] or 0) + each["pending"] for each in groups if _is_own(each))
                excess = await self.client.xlen(stream) - waiting - keep
                if excess > 0:
                    await self.client.xtrim(stream, minid=floor, limit=excess)
            else:
                await self.client.xtrim(stream, minid=floor, approximate=False)
            # Each process start creates a consumer, which Redis never removes by itself.
            await self._forget_consumers_script(
                keys=[stream], args=[CONSUMER_GROUP, round(self._timings.consumer_expiry * 1000)]
            )

    async def rewind(self, stream: str, since: datetime, *, dry_run: bool = False) -> int:
        """Let the group read its entries again, acknowledged ones too, from a time on. Return how many there are."""
        async with self._measured_operation():
            groups = await self._run_with_group(stream, lambda: self.client.xinfo_groups(stream))
            (last,) = (each["last-delivered-id"] for each in groups if _is_own(each))
            place = min(parse_place(last), LogPlace(round(since.timestamp() * 1000)))
            if not dry_run:
                await self.client.xgroup_setid(stream, CONSUMER_GROUP, place.entry_id)
        found, after = 0, place.entry_id
        while page := await self.entries(stream, COUNTED_ENTRIES, after):
            found, after = found + len(page), page[-1].id
        return found

    async def first_unfinished(self, stream: str) -> LogPlace:
        """Return the place from which on the group may have entries to acknowledge; it has acknowledged all before."""
        async with self._measured_operation():
            groups = await self._run_with_group(stream, lambda: self.client.xinfo_groups(stream))
            pending = (await self.client.xpending(stream, CONSUMER_GROUP))["min"]
            if pending:
                return parse_place(pending)
            (last,) = (parse_place(each["last-delivered-id"]) for each in groups if _is_own(each))
            return LogPlace(last.number, last.part + 1)

    async def backlog(self, stream: str) -> StreamBacklog:
        async with self._measured_operation("XINFO"):
            groups, dead = await asyncio.gather(
                self._run_with_group(stream, lambda: self.client.xinfo_groups(stream)),
                self.client.xlen(_dead_letter_stream_name(stream)),
            )
            own_groups = [*filter(_is_own, groups)]
            if not own_groups:  # the group does not exist yet
                return StreamBacklog(await self.client.xlen(stream), dead)
        lag = own_groups[0]["lag"]
        return StreamBacklog(None if lag is None else lag + own_groups[0]["pending"], dead)

    async def _run_with_group(self, stream: str, command: Any) -> Any:
        """Run `command`; if the stream or its group is missing, e.g. after Redis lost its data, create it and retry."""
        try:
            return await command()
        except ResponseError as failure:
            if not str(failure).startswith(("NOGROUP", "no such key")):
                raise
        try:
            await self.client.xgroup_create(stream, CONSUMER_GROUP, id="0", mkstream=True)
        except ResponseError as failure:  # pragma: no cover - another replica made the group in the same moment
            if not str(failure).startswith("BUSYGROUP"):
                raise
        return await command()


def _as_broker_error(failure: Exception) -> BrokerError:
    reply = ERROR_REPLY_PATTERN.search(str(failure)) if isinstance(failure, ResponseError) else None
    if reply is None:
        return BrokerError(str(failure) or type(failure).__name__)
    if reply["kept"]:
        return BrokerError(kept=int(reply["kept"]))
    if reply["fence"]:
        return BrokerError(fence=int(reply["fence"]))
    return BrokerError("too many events are waiting", full=True)


def _publications_key(stream: str) -> str:
    return f"{stream}:publications"


def _is_own(group: dict[str, Any]) -> bool:
    return bool(group["name"] == CONSUMER_GROUP.encode())


def _dead_letter_stream_name(stream: str) -> str:
    return f"{stream}.dead"


def _to_dead_letter(key: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    """Return a stream entry as a dead letter. If another program wrote it, fields may be missing or have any value."""
    reason, tries, at = (fields.get(name, b"").decode(errors="replace") for name in (b"reason", b"tries", b"at"))
    number = int(tries) if re.fullmatch("[0-9]{1,9}", tries) else 0
    return DeadLetter(key.decode(), fields.get(b"event", b""), reason, number, at)


def entries_by_stream(answer: Any) -> list[tuple[bytes, Any]]:
    """Return the entries of each stream that was read, from a RESP2 or RESP3 reply."""
    if not isinstance(answer, dict):
        return [(name, found) for name, found in answer or ()]
    return [(name, found[0] if found and isinstance(found[0], list) else found) for name, found in answer.items()]


def event_of_entry(fields: dict[bytes, bytes]) -> bytes:
    """Return the event of an entry. Without a field for it that is an empty event, which fails to parse."""
    return next((fields[name] for name in EVENT_FIELDS if name in fields), b"")


def _to_deliveries(entries: Any, tries: dict[str, int]) -> list[Delivery]:
    """Return entries as deliveries, without entries that were trimmed since they were delivered."""
    return [
        Delivery(key.decode(), event_of_entry(fields), tries.get(key.decode(), 1))
        for key, fields in entries
        if key is not None and fields is not None
    ]
