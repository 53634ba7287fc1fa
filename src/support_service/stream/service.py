"""The stream of one client: what it gets when it is opened, while it is open, and at its end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from support_service.cases.masking import Masker
from support_service.cases.reading import CaseReader
from support_service.core.domain.case_vocabulary import PresenceState
from support_service.core.domain.principals import CaseOwnership, CaseView, Principal
from support_service.core.errors import Unauthenticated, Unavailable
from support_service.events.broker.base import BrokerError
from support_service.events.broker.log import EventLog, Position, parse_position
from support_service.guard.exchange import REQUEST_TURNED_AWAY
from support_service.platform.background import Job, Runner
from support_service.platform.settings.process import LimitSettings
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.stream.changes import Change, Replay
from support_service.stream.feed import (
    CONTINUED_COMMENT,
    INTERRUPTED_COMMENT,
    Feed,
    FeedTimings,
    GapReason,
    resync_frame,
)
from support_service.stream.frames import RETRY_MILLISECONDS, comment_frame, retry_frame, shutdown_frame
from support_service.stream.presence import Presence, PresenceTimings
from support_service.stream.slots import StreamSlots
from support_service.stream.subscribers import QueueLimits, Subscriber, Subscribers

Authenticate = Callable[[], Awaitable[Principal]]
WriteFrames = Callable[[bytes], Awaitable[None]]
DATABASE_AWAY_COMMENT = "interrupted: the database is away"

STREAM_OPEN = InstrumentSpec("support.stream.open", "observed sum", "{stream}", "Open streams of changes")
STREAM_SENT = InstrumentSpec("support.stream.sent", "counter", "{event}", "Changes sent to open streams")
STREAM_REPLAYED = InstrumentSpec(
    "support.stream.replayed", "counter", "{event}", "Changes that clients had missed, sent when they came back"
)
STREAM_RESYNCED = InstrumentSpec(
    "support.stream.resynced",
    "counter",
    "{stream}",
    "Streams whose client was asked to read again: its position was trimmed, is foreign (of another broker), or has "
    "too many changes behind it. restarted: the broker was unavailable when the stream was opened",
    {"reason": ("trimmed", "foreign", "too_many", "restarted")},
)
STREAM_CLOSED = InstrumentSpec(
    "support.stream.closed",
    "counter",
    "{stream}",
    "Ended streams: by the client, slow (it did not read), revoked (its credentials are no longer valid), shutdown, "
    "failed (a defect)",
    {"reason": ("client", "slow", "revoked", "shutdown", "failed")},
)
STREAM_INTERRUPTED = InstrumentSpec(
    "support.stream.interrupted",
    "gauge",
    "s",
    "Time since which the replica has not been able to follow the published events; 0 while it follows them",
)
STREAM_LAG = InstrumentSpec(
    "support.stream.lag",
    "histogram",
    "s",
    "Time from a change to the moment it is sent to a client; of the oldest change of each write, without replays",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)


@dataclass(frozen=True, slots=True)
class StreamTimings:
    """Times in seconds, and the timings and bounds of the parts."""

    heartbeat: float = 15.0  # without anything to send; proxies close connections that are silent for longer
    access_interval: float = 3.0  # between two checks that a caller may still read
    replay_retry: float = 1.0  # while the broker is unavailable
    feed: FeedTimings = field(default_factory=FeedTimings)
    presence: PresenceTimings = field(default_factory=PresenceTimings)
    queue: QueueLimits = field(default_factory=QueueLimits)


class ChangeStream:
    """The open streams of this replica with the feed and the presence that they show."""

    def __init__(
        self,
        event_log: EventLog,
        masker: Masker,
        cases: CaseReader,
        instruments: Instruments,
        limits: LimitSettings,
        *,
        timings: StreamTimings = StreamTimings(),
    ) -> None:
        self._log = event_log
        self._masker = masker
        self._cases = cases
        self._instruments = instruments
        self._timings = timings
        self.subscribers = Subscribers(timings.queue)
        self.presence = Presence(self.subscribers, timings.presence)
        self.feed = Feed(
            event_log,
            self.subscribers,
            self.presence,
            masker,
            cases,
            count_resync=self._count_resync,
            timings=timings.feed,
        )
        self.slots = StreamSlots(limits, lambda: instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": "streams"}))
        self._authenticate: dict[Subscriber, Authenticate] = {}
        self._stopping = False

    async def start(self, runner: Runner) -> None:
        """Follow the log from now on, end presence that has expired, and check the callers of streams."""
        self._instruments.observe(STREAM_OPEN, lambda: [(len(self), {})])
        self._instruments.observe(STREAM_INTERRUPTED, lambda: [(self.feed.seconds_interrupted, {})])
        timings, announce = self._timings, partial(self.presence.announce_present, self._log)
        runner.run(
            self.feed.run(),
            Job("Ending presence", timings.presence.expiry_interval, self.presence.remove_expired),
            Job("Checking the callers of streams", timings.access_interval, self.close_streams_without_access),
            Job("Passing on who is present", timings.presence.present_interval, announce),
        )
        await self.feed.attempted.wait()  # else the first clients would be asked to read again

    async def announce_presence(
        self, principal: Principal, case_id: str, owner: CaseOwnership, state: PresenceState | None
    ) -> None:
        """Say that a principal views a case, types in it, or (without a state) has left it."""
        await self.presence.announce(principal, case_id, owner, state, self._log)

    def open(
        self, principal: Principal, view: CaseView, authenticate: Authenticate, abort: Callable[[], None]
    ) -> Subscriber:
        """Return a new stream; the caller must `send` it.

        `authenticate` returns the caller as its credentials are now. `abort` closes the connection.
        """
        subscriber = Subscriber(principal, view, abort, self._timings.queue)
        if self._stopping:
            subscriber.close("shutdown")
        self._authenticate[subscriber] = authenticate
        return subscriber

    async def send(self, subscriber: Subscriber, last_event_id: str | None, write: WriteFrames) -> None:
        """Send a stream until it is closed: what its client has missed behind `last_event_id`, then each change.

        `write` raises ConnectionError once the client has gone.
        """
        try:
            await self._send_until_closed(subscriber, last_event_id, write)
            if subscriber.closed == "shutdown":
                await write(shutdown_frame())
        except ConnectionError:
            subscriber.close("client")
        except BaseException:
            subscriber.close("failed")
            raise
        finally:
            self.subscribers.discard(subscriber)
            del self._authenticate[subscriber]
            self._instruments.add(STREAM_CLOSED, 1, {"reason": subscriber.closed or "failed"})

    async def close_streams_without_access(self) -> None:
        """End the streams whose callers were revoked, have expired, or have other rights now."""
        streams, size = list(self._authenticate.items()), self._timings.queue.streams_per_pause
        for first in range(0, len(streams), size):
            await asyncio.gather(*(_close_without_access(*stream) for stream in streams[first : first + size]))

    def __len__(self) -> int:
        return len(self._authenticate)

    def shut_down(self) -> None:
        """End every stream, also each one that is opened from now on."""
        self._stopping = True
        for subscriber in self._authenticate:
            subscriber.close("shutdown")

    async def _send_until_closed(self, subscriber: Subscriber, last_event_id: str | None, write: WriteFrames) -> None:
        interrupted = self._interrupted(subscriber, INTERRUPTED_COMMENT) if self.feed.is_interrupted else b""
        await write(retry_frame(RETRY_MILLISECONDS) + interrupted)
        while last_event_id and self.feed.position is None and not subscriber.closed:
            await asyncio.sleep(self._timings.replay_retry)
            if self.feed.position is None:
                await write(self._interrupted(subscriber, INTERRUPTED_COMMENT))
        start = self.feed.position
        subscriber.begin_after(start)
        self.subscribers.add(subscriber)
        if subscriber.view == "full":
            self.presence.note_present([subscriber.principal.id])
        if start is not None and last_event_id:
            await self._replay(subscriber, start, last_event_id, write)
        elif start is not None:
            await write(comment_frame("open", str(start)))
        if continued := self._continued(subscriber):
            await write(continued)
        self.presence.send_viewers(subscriber)
        while not subscriber.closed:
            if await subscriber.wait_for_work(self._timings.heartbeat):
                await self._send_queued(subscriber, write)
            else:
                reached = self.feed.passed_on  # what the client got from another replica may be further
                known = reached is None or reached.place < subscriber.after
                await write(comment_frame("alive", None if known else str(reached)))

    async def _send_queued(self, subscriber: Subscriber, write: WriteFrames) -> None:
        taken = subscriber.take()
        if not taken or subscriber.closed == "slow":
            return
        await write(b"".join(queued.frame for queued in taken))
        changes = [queued.published for queued in taken if queued.published is not None]
        if changes:
            self._instruments.add(STREAM_SENT, len(changes))
            self._instruments.record(STREAM_LAG, max(0.0, time.time() - min(changes)))

    async def _replay(self, subscriber: Subscriber, start: Position, last_event_id: str, write: WriteFrames) -> None:
        """Send what the client has missed, or ask it to read again.

        While the broker or the database is unavailable, wait for it.
        """
        position = parse_position(last_event_id)
        if position is not None and position.epoch == start.epoch:  # it may come from a replica that is ahead
            subscriber.after = max(subscriber.after, position.place)
        replay = Replay(subscriber.principal, subscriber.view, self._masker)
        while not subscriber.closed:
            try:
                async with aclosing(self.feed.replay(last_event_id, start.place)) as pages:
                    async for changes in pages:
                        if isinstance(changes, str):
                            await self._resync(subscriber, changes, start, write)
                        elif changes:
                            await self._send_replayed(subscriber, replay, changes, write)
                            last_event_id = str(changes[-1].position)
                        await asyncio.sleep(0)  # nothing else waits if the client may see none of them
            except (BrokerError, Unavailable) as failure:
                await asyncio.sleep(self._timings.replay_retry)
                comment = INTERRUPTED_COMMENT if isinstance(failure, BrokerError) else DATABASE_AWAY_COMMENT
                await write(self._interrupted(subscriber, comment))
            else:
                return

    async def _resync(self, subscriber: Subscriber, reason: GapReason, start: Position, write: WriteFrames) -> None:
        now = self.feed.position or start
        self._count_resync(reason, 1)
        subscriber.take()
        subscriber.after = now.place
        await write(self._continued(subscriber) + resync_frame(reason, now))

    async def _send_replayed(
        self, subscriber: Subscriber, replay: Replay, changes: Sequence[Change], write: WriteFrames
    ) -> None:
        owners = await self._cases.read_owners({change.case_id for change in changes})
        messages = replay.messages_that_may_have_moved(changes)
        case_of_message = await self._cases.read_cases_of_messages(messages) if messages else {}
        shown = replay.frames_of_changes(changes, owners, case_of_message)
        if shown:
            await write(self._continued(subscriber) + b"".join(shown))
            self._instruments.add(STREAM_REPLAYED, len(shown))

    def _interrupted(self, subscriber: Subscriber, comment: str) -> bytes:
        """Return a comment that reports an interruption to one client, and note that its end is to be reported."""
        subscriber.awaits_continuation = True
        return comment_frame(comment)

    def _continued(self, subscriber: Subscriber) -> bytes:
        """Return the comment that the client awaits, or nothing. The feed sends it to all streams that are followed."""
        if self.feed.is_interrupted or not subscriber.awaits_continuation:
            return b""
        subscriber.awaits_continuation = False
        return comment_frame(CONTINUED_COMMENT)

    def _count_resync(self, reason: GapReason, number: int) -> None:
        self._instruments.add(STREAM_RESYNCED, number, {"reason": reason})


async def _close_without_access(subscriber: Subscriber, authenticate: Authenticate) -> None:
    try:
        if await authenticate() == subscriber.principal:
            return
    except Unavailable:
        return  # callers can't be verified at present
    except Unauthenticated:
        pass
    subscriber.close("revoked")
