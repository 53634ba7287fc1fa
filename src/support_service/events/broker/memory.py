"""The broker seam: streams of events with one group of consumers each, in Redis or in this process."""

import asyncio
import logging
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

log = logging.getLogger(__name__)


class BrokerFault(Exception):
    """The broker did not do what was asked; what was to be published is still to be published."""


class Fenced(BrokerFault):
    """Someone with a newer fence, this one, publishes to this stream now."""

    def __init__(self, fence: int) -> None:
        super().__init__(f"someone has published with fence {fence}")
        self.fence = fence


class Full(BrokerFault):
    """The stream has no room before its group has read more of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event as it lies in a stream, and how often it has been handed out, this time included."""

    id: str
    event: bytes
    tries: int = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up, and why."""

    id: str
    event: bytes
    reason: str
    tries: int
    at: str


@dataclass(frozen=True, slots=True)
class Depth:
    """What a stream's group has before it: events not handed out yet or not acknowledged, and dead letters."""

    waiting: int | None  # None: unknown
    dead: int


class Broker(Protocol):
    """Every call raises BrokerFault when the broker is out of order."""

    async def publish(
        self, stream: str, events: Sequence[str | bytes], *, keep: int, fence: int = 0, lose: bool = True
    ) -> None:
        """Append events in order, all or none, and let the oldest go beyond about `keep` of them.

        Raises Fenced where someone has published with a greater fence; Full where none may be lost and they don't fit.
        """

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:
        """The next events that the group has not been given, waiting up to `wait` seconds for the first."""

    async def claim(self, stream: str, consumer: str, *, count: int, idle: float, alone: int) -> list[Delivery]:
        """Events that some consumer was given at least `idle` seconds ago and has not acknowledged, oldest first.

        One that has been handed out `alone` times already comes by itself, so that it can't take others down with it.
        """

    async def keep(self, stream: str, consumer: str, delivery: Delivery) -> None:
        """Have as much time for an event as if it had been given now; no try is counted."""

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        """Let the group forget events; they have taken effect."""

    async def bury(self, stream: str, delivery: Delivery, reason: str, at: str) -> None:
        """Move an event to the stream's dead letters."""

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        """The oldest dead letters, or those that come after one."""

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        """Put dead letters back at the end of their stream; gives how many of these ids there were."""

    async def trim(self, stream: str) -> None:
        """Let go what every group has read and acknowledged, and consumers that are gone for long."""

    async def depth(self, stream: str) -> Depth:
        """How much is before the group."""

    async def close(self) -> None:
        """Close its connections."""


class _Stream:
    def __init__(self) -> None:
        self.entries: deque[Delivery] = deque()
        self.last = 0
        self.fence = 0
        self.pending: OrderedDict[str, tuple[Delivery, float]] = OrderedDict()
        self.dead: OrderedDict[str, DeadLetter] = OrderedDict()
        self.arrived = asyncio.Event()


class InProcessBroker:
    """For one process without Redis: what it holds is gone with the process."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    async def publish(
        self, stream: str, events: Sequence[str | bytes], *, keep: int, fence: int = 0, lose: bool = True
    ) -> None:
        into = self._streams[stream]
        if fence < into.fence:
            raise Fenced(into.fence)
        if not lose and len(into.entries) + len(into.pending) + len(events) > keep:
            raise Full(f"{len(into.entries)} events wait")
        into.fence = fence
        for event in events:
            into.last += 1
            into.entries.append(Delivery(str(into.last), event.encode() if isinstance(event, str) else event))
        while len(into.entries) > keep:
            into.entries.popleft()
        into.arrived.set()

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:  # noqa: ARG002
        out = self._streams[stream]
        if not out.entries:
            out.arrived.clear()
            try:
                async with asyncio.timeout(wait):
                    await out.arrived.wait()
            except TimeoutError:
                return []
        given = [out.entries.popleft() for _ in range(min(count, len(out.entries)))]
        out.pending.update((each.id, (each, monotonic())) for each in given)
        return given

    async def claim(
        self,
        stream: str,
        consumer: str,  # noqa: ARG002 - all its consumers are this process
        *,
        count: int,
        idle: float,
        alone: int,
    ) -> list[Delivery]:
        out = self._streams[stream]
        before = monotonic() - idle
        due = [each for each, since in out.pending.values() if since <= before]
        given = [Delivery(each.id, each.event, each.tries + 1) for each in chosen(due, count, alone)]
        out.pending.update((each.id, (each, monotonic())) for each in given)
        return given

    async def keep(self, stream: str, consumer: str, delivery: Delivery) -> None:  # noqa: ARG002
        pending = self._streams[stream].pending
        if delivery.id in pending:
            pending[delivery.id] = (pending[delivery.id][0], monotonic())

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        for each in ids:
            self._streams[stream].pending.pop(each, None)

    async def bury(self, stream: str, delivery: Delivery, reason: str, at: str) -> None:
        of = self._streams[stream]
        of.dead[delivery.id] = DeadLetter(delivery.id, delivery.event, reason, delivery.tries, at)
        of.pending.pop(delivery.id, None)

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
        """What is acknowledged is gone already."""

    async def depth(self, stream: str) -> Depth:
        of = self._streams[stream]
        return Depth(len(of.entries) + len(of.pending), len(of.dead))

    async def close(self) -> None:
        left = sum(len(each.entries) + len(each.pending) for each in self._streams.values())
        if left:
            log.warning("%d events that came in have not come to an end, and are lost with this process", left)
        self._streams.clear()


def chosen(due: Sequence[Delivery], count: int, alone: int) -> Sequence[Delivery]:
    """Which of the due events to hand out together; `tries` says how often each was handed out so far."""
    trusted = [each for each in due if each.tries < alone][:count]
    return trusted or due[:1]
