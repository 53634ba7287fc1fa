"""The broker and the log of events in memory, for a single process without Redis."""

import asyncio
import logging
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Sequence
from itertools import islice
from time import monotonic

from support_service.events.broker.base import (
    BrokerError,
    DeadLetter,
    Delivery,
    StreamBacklog,
    select_deliverable_together,
)
from support_service.events.broker.log import LOG_START, LogEntry, LogNote, LogPlace, LogRead, LogState, new_epoch

log = logging.getLogger(__name__)


class InMemoryLog:
    """The newest events and notes of this process; one reader follows it.

    It keeps `max_entries` events, for at most `max_age` seconds: an erasure can't reach the memory of a process.
    """

    def __init__(self, max_entries: int = 2000, max_age: float = 600.0) -> None:
        self._epoch = new_epoch()
        self._max_entries, self._max_age = max_entries, max_age
        self._entries: deque[LogEntry] = deque()
        self._times: deque[float] = deque()
        self._last = LOG_START
        self._notes: list[LogNote] = []
        self._changed = asyncio.Event()

    def append(self, events: Sequence[str | bytes]) -> None:
        for event in events:
            self._last = LogPlace(self._last.number + 1)
            self._entries.append(LogEntry(self._last, event.encode() if isinstance(event, str) else event))
            self._times.append(monotonic())
        self._remove_old_entries()
        self._changed.set()

    async def state(self) -> LogState:
        self._remove_old_entries()
        return LogState(self._epoch, self._last, self._missing_to)

    @property
    def _missing_to(self) -> LogPlace:
        """The last place whose entry was removed."""
        return LogPlace(self._entries[0].place.number - 1) if self._entries else self._last

    async def follow(self, after: LogPlace, wait: float) -> LogRead:
        if self._last <= after and not self._notes:
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                return LogRead((), ())
        notes, self._notes = self._notes, []
        return LogRead(self._entries_behind(after), notes, is_whole=after >= self._missing_to)

    async def entries(self, after: LogPlace, count: int) -> list[LogEntry]:
        return list(islice(self._entries_behind(after), count))

    async def entries_before(self, place: LogPlace, count: int) -> list[LogEntry]:
        return [each for each in self._entries if each.place <= place][-count:]

    async def add_note(self, content: bytes) -> None:
        self._notes.append(LogNote(content, 0.0))
        self._changed.set()

    async def close(self) -> None:
        self._entries.clear()
        self._times.clear()

    def _remove_old_entries(self) -> None:
        oldest = monotonic() - self._max_age
        while self._entries and (len(self._entries) > self._max_entries or self._times[0] < oldest):
            self._entries.popleft()
            self._times.popleft()

    def _entries_behind(self, after: LogPlace) -> list[LogEntry]:
        newer = min(len(self._entries), max(0, self._last.number - after.number))
        return list(islice(self._entries, len(self._entries) - newer, None))


class _InMemoryStream:
    """Entries, fencing token, pending deliveries (with the time of delivery) and dead letters of one stream."""

    def __init__(self) -> None:
        self.entries: deque[Delivery] = deque()
        self.last_id = self.last_dead_letter = 0
        self.fence = self.publications = 0
        self.pending: OrderedDict[str, tuple[Delivery, float]] = OrderedDict()
        self.dead: OrderedDict[str, DeadLetter] = OrderedDict()
        self.published = asyncio.Event()


class InMemoryBroker:
    """An in-memory broker, for a single process without Redis. Its events are lost when the process ends."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _InMemoryStream] = defaultdict(_InMemoryStream)
        self._logs: dict[str, InMemoryLog] = {}

    def log(self, stream: str) -> InMemoryLog:
        """Return the log of a stream; from then on it has what is published."""
        return self._logs.setdefault(stream, InMemoryLog())

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
        state = self._streams[stream]
        if fence < state.fence:
            raise BrokerError(fence=state.fence)
        if state.publications < confirmed:
            raise BrokerError(kept=state.publications)
        if not trim and len(state.entries) + len(state.pending) + len(events) > max_length:
            raise BrokerError(f"{len(state.entries)} events are waiting", full=True)
        state.fence = fence
        for event in events:
            state.last_id += 1
            state.entries.append(Delivery(str(state.last_id), event.encode() if isinstance(event, str) else event))
        while len(state.entries) > max_length:
            state.entries.popleft()
        state.published.set()
        if stream in self._logs:
            self._logs[stream].append(events)
        state.publications += int(trim)
        return state.publications if trim else 0

    async def publications(self, stream: str) -> int:
        return self._streams[stream].publications

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:  # noqa: ARG002
        state = self._streams[stream]
        if not state.entries:
            state.published.clear()
            try:
                async with asyncio.timeout(wait):
                    await state.published.wait()
            except TimeoutError:
                return []
        delivered = [state.entries.popleft() for _ in range(min(count, len(state.entries)))]
        state.pending.update((each.id, (each, monotonic())) for each in delivered)
        return delivered

    async def claim(
        self,
        stream: str,
        consumer: str,  # noqa: ARG002 - every consumer is in this process
        *,
        count: int,
        min_idle: float,
        isolate_after: int,
    ) -> list[Delivery]:
        state = self._streams[stream]
        before = monotonic() - min_idle
        due = [each for each, since in state.pending.values() if since <= before]
        delivered = [
            Delivery(each.id, each.event, each.tries + 1)
            for each in select_deliverable_together(due, count, isolate_after)
        ]
        state.pending.update((each.id, (each, monotonic())) for each in delivered)
        return delivered

    async def renew_claim(self, stream: str, consumer: str, delivery: Delivery) -> None:  # noqa: ARG002
        pending = self._streams[stream].pending
        if delivery.id in pending:
            pending[delivery.id] = (pending[delivery.id][0], monotonic())

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        for each in ids:
            self._streams[stream].pending.pop(each, None)

    async def move_to_dead_letters(
        self,
        stream: str,
        consumer: str,  # noqa: ARG002 - every consumer is in this process
        delivery: Delivery,
        reason: str,
        at: str,
    ) -> None:
        state = self._streams[stream]
        if state.pending.pop(delivery.id, None) is None:
            return
        state.last_dead_letter += 1
        letter_id = f"{state.last_dead_letter}-0"  # a new one, as in Redis, so that ids ascend
        state.dead[letter_id] = DeadLetter(letter_id, delivery.event, reason, delivery.tries, at)

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        last = _number_of_letter(after) if after else 0
        newer = (letter for letter in self._streams[stream].dead.values() if _number_of_letter(letter.id) > last)
        return list(islice(newer, count))

    async def find_dead_letter(self, stream: str, letter_id: str) -> DeadLetter | None:
        return self._streams[stream].dead.get(letter_id)

    async def delete_dead_letters(self, stream: str, ids: Collection[str]) -> int:
        dead = self._streams[stream].dead
        return sum(dead.pop(each, None) is not None for each in ids)

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        dead = self._streams[stream].dead
        found = [dead.pop(each) for each in ids if each in dead]
        await self.publish(
            stream, [each.event for each in found], max_length=len(self._streams[stream].entries) + len(found)
        )
        return len(found)

    async def trim(self, stream: str, keep: int) -> None:
        """Do nothing: acknowledged events are already removed."""

    async def backlog(self, stream: str) -> StreamBacklog:
        state = self._streams[stream]
        return StreamBacklog(len(state.entries) + len(state.pending), len(state.dead))

    async def close(self) -> None:
        unfinished = sum(len(each.entries) + len(each.pending) for each in self._streams.values())
        if unfinished:
            log.warning("%d events are unfinished and are lost with this process", unfinished)
        self._streams.clear()


def _number_of_letter(letter_id: str) -> int:
    return int(letter_id.partition("-")[0])
