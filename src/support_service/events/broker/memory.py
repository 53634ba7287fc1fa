"""The broker protocol (streams of events with one consumer group each), and its in-memory implementation."""

import asyncio
import logging
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

log = logging.getLogger(__name__)


class BrokerError(Exception):
    """The broker did not confirm the operation. Events passed to `publish` have to be published again."""


class FencedError(BrokerError):
    """Another publisher has used a newer fencing token, given in `fence`, on this stream."""

    def __init__(self, fence: int) -> None:
        super().__init__(f"someone has published with fence {fence}")
        self.fence = fence


class StreamFullError(BrokerError):
    """The stream has reached its maximum length; its consumer group has to read more of it first."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event of a stream, and the number of its deliveries including this one."""

    id: str
    event: bytes
    tries: int = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up, with the reason, the number of deliveries, and the time (ISO 8601)."""

    id: str
    event: bytes
    reason: str
    tries: int
    at: str


@dataclass(frozen=True, slots=True)
class StreamBacklog:
    """The size of a stream's backlog: events not yet delivered or not acknowledged, and dead letters."""

    waiting: int | None  # None: unknown
    dead: int


class Broker(Protocol):
    """A broker of event streams. Every method raises BrokerError if the broker is unavailable."""

    async def publish(
        self, stream: str, events: Sequence[str | bytes], *, keep: int, fence: int = 0, lose: bool = True
    ) -> None:
        """Append events in order, all or none, and trim the oldest entries beyond about `keep`.

        Raises FencedError if another publisher has used a greater `fence`. If `lose` is False, nothing is trimmed:
        raises StreamFullError if the events would exceed `keep`.
        """

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:
        """Return up to `count` events not yet delivered to the group; wait up to `wait` seconds for the first."""

    async def claim(self, stream: str, consumer: str, *, count: int, idle: float, alone: int) -> list[Delivery]:
        """Claim up to `count` events delivered at least `idle` seconds ago and not acknowledged, oldest first.

        An event that was delivered `alone` times or more is claimed by itself, so that a crash affects no other events.
        """

    async def keep(self, stream: str, consumer: str, delivery: Delivery) -> None:
        """Reset the idle time of a delivered event, without counting a try."""

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        """Acknowledge events of the group that have been applied."""

    async def bury(self, stream: str, delivery: Delivery, reason: str, at: str) -> None:
        """Move an event to the stream's dead letters."""

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        """Return up to `count` dead letters, oldest first, starting after the id `after`."""

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        """Move dead letters back to the end of their stream. Return the number of ids found."""

    async def trim(self, stream: str) -> None:
        """Remove entries that every group has acknowledged, and consumers that have been inactive for long."""

    async def depth(self, stream: str) -> StreamBacklog:
        """Return the size of the group's backlog."""

    async def close(self) -> None:
        """Close the broker's connections."""


class _Stream:
    """Entries, fencing token, pending deliveries (with the time of delivery) and dead letters of one stream."""

    def __init__(self) -> None:
        self.entries: deque[Delivery] = deque()
        self.last = 0
        self.fence = 0
        self.pending: OrderedDict[str, tuple[Delivery, float]] = OrderedDict()
        self.dead: OrderedDict[str, DeadLetter] = OrderedDict()
        self.arrived = asyncio.Event()


class InMemoryBroker:
    """An in-memory broker, for a single process without Redis. Its events are lost when the process ends."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    async def publish(
        self, stream: str, events: Sequence[str | bytes], *, keep: int, fence: int = 0, lose: bool = True
    ) -> None:
        state = self._streams[stream]
        if fence < state.fence:
            raise FencedError(state.fence)
        if not lose and len(state.entries) + len(state.pending) + len(events) > keep:
            raise StreamFullError(f"{len(state.entries)} events wait")
        state.fence = fence
        for event in events:
            state.last += 1
            state.entries.append(Delivery(str(state.last), event.encode() if isinstance(event, str) else event))
        while len(state.entries) > keep:
            state.entries.popleft()
        state.arrived.set()

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:  # noqa: ARG002
        state = self._streams[stream]
        if not state.entries:
            state.arrived.clear()
            try:
                async with asyncio.timeout(wait):
                    await state.arrived.wait()
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
        idle: float,
        alone: int,
    ) -> list[Delivery]:
        state = self._streams[stream]
        before = monotonic() - idle
        due = [each for each, since in state.pending.values() if since <= before]
        delivered = [Delivery(each.id, each.event, each.tries + 1) for each in select_for_claim(due, count, alone)]
        state.pending.update((each.id, (each, monotonic())) for each in delivered)
        return delivered

    async def keep(self, stream: str, consumer: str, delivery: Delivery) -> None:  # noqa: ARG002
        pending = self._streams[stream].pending
        if delivery.id in pending:
            pending[delivery.id] = (pending[delivery.id][0], monotonic())

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        for each in ids:
            self._streams[stream].pending.pop(each, None)

    async def bury(self, stream: str, delivery: Delivery, reason: str, at: str) -> None:
        state = self._streams[stream]
        state.dead[delivery.id] = DeadLetter(delivery.id, delivery.event, reason, delivery.tries, at)
        state.pending.pop(delivery.id, None)

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        dead = self._streams[stream].dead
        start = list(dead).index(after) + 1 if after in dead else 0
        return list(dead.values())[start : start + count]

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        dead = self._streams[stream].dead
        found = [dead.pop(each) for each in ids if each in dead]
        await self.publish(stream, [each.event for each in found], keep=len(self._streams[stream].entries) + len(found))
        return len(found)

    async def trim(self, stream: str) -> None:
        """Do nothing: acknowledged events are already removed."""

    async def depth(self, stream: str) -> StreamBacklog:
        state = self._streams[stream]
        return StreamBacklog(len(state.entries) + len(state.pending), len(state.dead))

    async def close(self) -> None:
        left = sum(len(each.entries) + len(each.pending) for each in self._streams.values())
        if left:
            log.warning("%d events that came in have not come to an end, and are lost with this process", left)
        self._streams.clear()


def select_for_claim(due: Sequence[Delivery], count: int, alone: int) -> Sequence[Delivery]:
    """Return the due events to deliver together; `tries` is the number of their deliveries so far.

    Events delivered fewer than `alone` times come first, at most `count`; otherwise the first due event by itself.
    """
    trusted = [each for each in due if each.tries < alone][:count]
    return trusted or due[:1]
