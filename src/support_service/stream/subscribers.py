"""The open streams of this replica, with bounded queues. Streams with the same rights share what is encoded."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from support_service.cases.masking import Masker
from support_service.core.domain.principals import CaseOwnership, CaseView, Principal
from support_service.events.broker.log import LOG_START, LogPlace, Position
from support_service.stream.changes import Change

StreamCloseReason = Literal["client", "slow", "revoked", "shutdown", "failed"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait for one client, and the size of one step of passing a change on."""

    events: int = 512
    bytes: int = 8 * 1024 * 1024  # streams with the same rights share them
    streams_per_pause: int = 50  # between two pauses in which requests are served


class QueuedFrame(NamedTuple):
    """A frame that waits for a client; `published` is the time of its change, None if it is not a change."""

    frame: bytes
    published: float | None = None


AudienceKey = tuple[str, str | None, frozenset[str], CaseView]


class Subscriber:
    """One open stream: the frames that wait for its client.

    `abort` closes the connection of a client that does not read.
    """

    def __init__(self, principal: Principal, view: CaseView, abort: Callable[[], None], limits: QueueLimits) -> None:
        self.principal = principal
        self.view = view
        self.closed: StreamCloseReason | None = None
        self.after: LogPlace = LOG_START  # the client has, or gets, the changes up to there
        self.awaits_continuation = False  # whether its client was sent an interruption without its end
        self._abort = abort
        self._limits = limits
        self._queue: deque[QueuedFrame] = deque()
        self._queued_bytes = 0
        self._ready = asyncio.Event()

    @property
    def audience_key(self) -> AudienceKey:
        """What decides which changes the stream gets."""
        principal = self.principal
        return principal.role, principal.subject, frozenset(principal.teams), self.view

    def begin_after(self, start: Position | None) -> None:
        """Set the position behind which the stream gets changes.

        None if the feed has not reached its log yet: it asks the client to read again once it has.
        """
        self.after = start.place if start else LOG_START

    def offer(self, queued: QueuedFrame) -> None:
        """Add a frame, or close the stream if too much waits for its client."""
        if self.closed:
            return
        self._queue.append(queued)
        self._queued_bytes += len(queued.frame)
        if len(self._queue) > self._limits.events or self._queued_bytes > self._limits.bytes:
            self.close("slow")
            self._abort()
        self._ready.set()

    def take(self) -> list[QueuedFrame]:
        taken, self._queued_bytes = list(self._queue), 0
        self._queue.clear()
        self._ready.clear()
        return taken

    def close(self, reason: StreamCloseReason) -> None:
        """End the stream; the first reason counts."""
        self.closed = self.closed or reason
        self._ready.set()

    async def wait_for_work(self, seconds: float) -> bool:
        """Wait until there is something to do. Return False after so many seconds in which there was nothing."""
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            return self._ready.is_set()  # a frame may have come in the same turn of the event loop
        return True


@dataclass(slots=True, eq=False)
class _Audience:
    """Streams whose principals have the same rights."""

    principal: Principal
    view: CaseView
    subscribers: set[Subscriber] = field(default_factory=set)


class Subscribers:
    """All open streams. A change is checked and encoded once for all streams with the same rights."""

    def __init__(self, limits: QueueLimits = QueueLimits()) -> None:
        self.limits = limits
        self._staff: dict[AudienceKey, _Audience] = {}
        self._customers: dict[str | None, dict[AudienceKey, _Audience]] = {}  # by subject: there may be thousands
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Subscriber]:
        groups = (self._staff, *self._customers.values())
        return iter([each for group in groups for audience in group.values() for each in audience.subscribers])

    def add(self, subscriber: Subscriber) -> None:
        principal, key = subscriber.principal, subscriber.audience_key
        group = self._customers.setdefault(principal.subject, {}) if principal.role == "customer" else self._staff
        if key not in group:
            group[key] = _Audience(principal, subscriber.view)
        group[key].subscribers.add(subscriber)
        self._number += 1

    def discard(self, subscriber: Subscriber) -> None:
        """Remove a stream that has ended, if it is there."""
        principal, key = subscriber.principal, subscriber.audience_key
        group = self._customers.get(principal.subject, {}) if principal.role == "customer" else self._staff
        if key not in group or subscriber not in group[key].subscribers:
            return
        group[key].subscribers.remove(subscriber)
        self._number -= 1
        if not group[key].subscribers:
            del group[key]
            if principal.role == "customer" and not group:
                del self._customers[principal.subject]

    async def publish(self, change: Change, masker: Masker, owner: CaseOwnership) -> None:
        """Pass a change to every stream that may see it; `owner` decides who may."""
        concerned = [*self._staff.values(), *self._customers.get(change.owner.customer_id, {}).values()]
        for audience in concerned:
            frame = change.frame_for(audience.principal, audience.view, masker, owner)
            if frame is None:
                continue
            queued = QueuedFrame(frame, change.published)
            for number, subscriber in enumerate(tuple(audience.subscribers), 1):
                if subscriber.after < change.position.place:
                    # Before the frame with the position: a client that gets a part of both gets both again.
                    notification = change.notification_frame_for(subscriber.principal, subscriber.view, owner)
                    subscriber.offer(QueuedFrame(notification + frame, change.published) if notification else queued)
                if number % self.limits.streams_per_pause == 0:
                    await asyncio.sleep(0)
        await asyncio.sleep(0)  # in a long series of changes, streams write meanwhile

    def send_to_staff(self, owner: CaseOwnership, frame: bytes) -> None:
        """Pass a frame to the streams of staff who may see a case."""
        queued = QueuedFrame(frame)
        for audience in self._staff.values():
            if audience.view == "full" and audience.principal.may_see(owner):
                for subscriber in audience.subscribers:
                    subscriber.offer(queued)

    def send_to_all(self, frame: bytes) -> None:
        """Pass a frame to every stream."""
        queued = QueuedFrame(frame)
        for subscriber in self:
            subscriber.offer(queued)
