"""Follows the log of published events, and passes each change to the open streams; replays what clients have missed."""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from support_service.cases.masking import Masker
from support_service.cases.reading import CaseReader
from support_service.core.clock import Backoff
from support_service.core.errors import Unavailable
from support_service.events.broker.base import BrokerError
from support_service.events.broker.log import EventLog, LogEntry, LogPlace, LogState, Position, parse_position
from support_service.stream.changes import Change, parse_change
from support_service.stream.frames import comment_frame, event_frame
from support_service.stream.presence import Presence
from support_service.stream.subscribers import Subscribers

GapReason = Literal["trimmed", "foreign", "too_many", "restarted"]
INTERRUPTED_COMMENT = "interrupted: the broker of changes is away"
CONTINUED_COMMENT = "continued: the broker of changes is back"

log = logging.getLogger(__name__)


MAX_KEPT_SECONDS = 60.0  # seconds; an erasure can't reach the memory of a replica
REMEMBERED_EVENTS = 400  # latest events whose ids are known: a relay that takes over publishes a batch again


@dataclass(frozen=True, slots=True)
class FeedTimings:
    """Times in seconds, and bounds of what is kept and replayed."""

    wait: float = 1.0  # for the next event of a read
    check_interval: float = 5.0  # between two checks that the log is still the same
    late_after: float = 3.0  # a change that is older when it is read was held up; a running relay needs a tenth
    backoff: Backoff = Backoff(0.2, 2.0)
    kept_changes: int = 1000  # in memory, for clients that come back soon
    kept_bytes: int = 16 * 1024 * 1024
    page_size: int = 100  # events of one step of a replay
    max_replayed: int = 10_000  # events; beyond them, it is faster to read the lists again


def resync_frame(reason: GapReason, position: Position) -> bytes:
    """Return the event that asks a client to read again what it shows; changes behind the position follow."""
    return event_frame("resync", {"reason": reason}, str(position))


class Feed:
    """Follows one log.

    `position` is the last change that it has read, None until it has reached the log for the first time. `passed_on`
    is the last change that every stream has got; while a change is being passed on, it is the one before.
    """

    def __init__(
        self,
        event_log: EventLog,
        subscribers: Subscribers,
        presence: Presence,
        masker: Masker,
        cases: CaseReader,
        *,
        count_resync: Callable[[GapReason, int], None] = lambda _reason, _number: None,
        timings: FeedTimings = FeedTimings(),
    ) -> None:
        self._log = event_log
        self._subscribers = subscribers
        self._presence = presence
        self._masker = masker
        self._cases = cases
        self._timings = timings
        self._count_resync = count_resync
        self.position: Position | None = None
        self.passed_on: Position | None = None
        self.attempted = asyncio.Event()  # set after the first attempt to reach the log
        self._interrupted_at: float | None = None
        self._kept: deque[tuple[Change, int, float]] = deque()  # with size and time
        self._kept_bytes = 0
        self._kept_after: LogPlace = LogPlace(0)  # every change behind it is kept
        self._seen_event_ids: OrderedDict[str, None] = OrderedDict()

    @property
    def is_interrupted(self) -> bool:
        """Whether the broker is unavailable, or the database that late changes need."""
        return self._interrupted_at is not None

    @property
    def seconds_interrupted(self) -> float:
        """The seconds for which no change could be passed on; 0 while the log is followed."""
        return 0.0 if self._interrupted_at is None else time.monotonic() - self._interrupted_at

    async def run(self) -> None:
        """Follow the log until cancelled; while the broker is unavailable, streams stay open."""
        failures = 0
        while True:
            try:
                await self._find_start()
                await self._follow_log()
            except (BrokerError, Unavailable) as failure:
                failures = failures + 1 if self.is_interrupted else 1
                log.warning(
                    "Following the stream of events is interrupted and is retried: %s", failure, exc_info=failure
                )
                self._note_interrupted()
            except Exception:
                failures = failures + 1 if self.is_interrupted else 1
                log.exception("Following the stream of events failed and is retried")
                self._note_interrupted()
            await asyncio.sleep(self._timings.backoff.delay(failures))

    async def replay(self, last_event_id: str, up_to: LogPlace) -> AsyncGenerator[list[Change] | GapReason, None]:
        """Yield the changes behind a client's position, up to a place that the feed has reached.

        If they are not there any more or are too many, the last item is the reason. The client then has to read again
        what it shows. Raises BrokerError.
        """
        position = parse_position(last_event_id)
        if position is None or self.position is None or position.epoch != self.position.epoch:
            yield "foreign"
            return
        if position.place >= self._kept_after and position.place <= up_to:
            kept = [change for change, _, _ in self._kept if position.place < change.position.place <= up_to]
            for first in range(0, len(kept), self._timings.page_size):
                yield kept[first : first + self._timings.page_size]
            return
        state = await self._log.state()
        if state.epoch != position.epoch or position.place > state.last:
            yield "foreign"
            return
        if position.place >= up_to:  # the client comes from a replica that was ahead
            return
        if position.place < state.missing_to:
            yield "trimmed"
            return
        async for page in self._replay_log(position, up_to):
            yield page

    async def _replay_log(self, position: Position, up_to: LogPlace) -> AsyncGenerator[list[Change] | GapReason, None]:
        number, after = 0, position.place
        seen_event_ids = OrderedDict[str, None]()
        before = await self._log.entries_before(after, REMEMBERED_EVENTS)
        _parse_unseen(position.epoch, before, seen_event_ids, len(before))
        while True:
            entries = await self._log.entries(after, self._timings.page_size)
            if (await self._log.state()).missing_to > after:  # since the page before
                yield "trimmed"
                return
            if not entries:
                return
            after, number = entries[-1].place, number + len(entries)
            if number > self._timings.max_replayed:
                yield "too_many"
                return
            wanted = [each for each in entries if each.place <= up_to]
            changes = _parse_unseen(position.epoch, wanted, seen_event_ids, self._timings.max_replayed)
            yield changes
            if after >= up_to:
                return

    async def _find_start(self) -> None:
        """Find the place to continue from. Streams are asked to read again if something may be missing."""
        state = await self._log.state()
        if self.position is None:
            await self._start_at(state)
            self._ask_for_resync("restarted")  # streams that were opened meanwhile
        else:
            await self._check_continuity(state)
            if self.passed_on != self.position:  # passing on a change has failed: some streams have not got it
                self._ask_for_resync("restarted")
                self.passed_on = self.position
        self.attempted.set()

    async def _start_at(self, state: LogState) -> None:
        before = await self._log.entries_before(state.last, REMEMBERED_EVENTS)
        self._seen_event_ids.clear()
        _parse_unseen(state.epoch, before, self._seen_event_ids, REMEMBERED_EVENTS)
        self._kept.clear()
        self._kept_bytes, self._kept_after = 0, state.last
        self.position = self.passed_on = Position(state.epoch, state.last)

    async def _check_continuity(self, state: LogState) -> None:
        """Start again if the log is another one, or has lost entries that the feed has not read."""
        assert self.position is not None  # noqa: S101 - the feed has started
        place = self.position.place
        if state.epoch != self.position.epoch or place > state.last:
            reason: GapReason = "foreign"
        elif place < state.missing_to:
            reason = "trimmed"
        else:
            return
        log.warning("The stream of events has lost entries (%s); clients read again", reason)
        await self._start_at(state)
        self._ask_for_resync(reason)

    async def _follow_log(self) -> None:
        assert self.position is not None  # noqa: S101 - `_find_start` has set it
        check_at = time.monotonic() + self._timings.check_interval
        while True:
            before, wait = self.position, 0.0 if self.is_interrupted else self._timings.wait
            read = await self._log.follow(before.place, wait)
            if not read.is_whole or time.monotonic() >= check_at:
                check_at = time.monotonic() + self._timings.check_interval  # a freeze below leads to another check
                self._remove_expired_changes()
                await self._check_continuity(await self._log.state())
            if read.entries and self.position == before:  # else the read has left out what the log has lost
                await self._pass_on_changes(read.entries)
            self._note_followed()
            for note in read.notes:
                self._presence.receive_announcement(note.content, note.age)

    async def _pass_on_changes(self, entries: Sequence[LogEntry]) -> None:
        assert self.position is not None  # noqa: S101 - the caller has read behind it
        epoch, seen_event_ids = self.position.epoch, self._seen_event_ids.copy()
        changes = _parse_unseen(epoch, entries, seen_event_ids, REMEMBERED_EVENTS)
        # A stream may have been opened since a late change, with other rights.
        in_time = time.time() - self._timings.late_after
        late = {change.case_id for change in changes if change.published < in_time}
        owners = await self._cases.read_owners(late) if late else {}  # after a failure, the entries are read again
        self._note_followed()  # not before: late changes wait for the database, too
        # Set before the changes are passed on: a stream that is opened meanwhile continues behind them.
        position = self.position = Position(epoch, entries[-1].place)
        self._seen_event_ids = seen_event_ids
        sizes = {entry.place: len(entry.event) for entry in entries}
        for change in changes:
            self._keep_for_replay(change, sizes[change.position.place])
        for change in changes:
            owner = owners.get(change.case_id) if change.case_id in late else change.owner
            if owner is not None and not change.is_erased(owner):
                self._presence.note_owner(change.case_id, owner)
                await self._subscribers.publish(change, self._masker, owner)
            self.passed_on = change.position
        self.passed_on = position

    def _keep_for_replay(self, change: Change, size: int) -> None:
        self._kept.append((change, size, time.monotonic()))
        self._kept_bytes += size
        while len(self._kept) > self._timings.kept_changes or self._kept_bytes > self._timings.kept_bytes:
            self._remove_oldest_change()

    def _remove_expired_changes(self) -> None:
        while self._kept and self._kept[0][2] < time.monotonic() - MAX_KEPT_SECONDS:
            self._remove_oldest_change()

    def _remove_oldest_change(self) -> None:
        oldest, size, _ = self._kept.popleft()
        self._kept_bytes -= size
        self._kept_after = oldest.position.place

    def _ask_for_resync(self, reason: GapReason) -> None:
        assert self.position is not None  # noqa: S101 - the feed has just started there
        self._count_resync(reason, len(self._subscribers))
        for subscriber in self._subscribers:
            subscriber.after = self.position.place
        self._subscribers.send_to_all(resync_frame(reason, self.position))

    def _note_followed(self) -> None:
        """Note that the log was read, and also the database if its changes need it; the changes come behind."""
        if self.is_interrupted:
            self._interrupted_at = None
            log.info("Following the stream of events continues")
            self._subscribers.send_to_all(comment_frame(CONTINUED_COMMENT))

    def _note_interrupted(self) -> None:
        self.attempted.set()
        if not self.is_interrupted:
            self._interrupted_at = time.monotonic()
            self._subscribers.send_to_all(comment_frame(INTERRUPTED_COMMENT))


def _parse_unseen(
    epoch: str, entries: Iterable[LogEntry], seen_event_ids: OrderedDict[str, None], max_seen: int
) -> list[Change]:
    """Return the changes of entries whose events are not in `seen_event_ids`, and add up to `max_seen` ids there."""
    found = []
    for entry in entries:
        try:
            change = parse_change(Position(epoch, entry.place), entry.event)
        except ValueError as failure:
            log.warning("The entry %s of the stream of events is left out: %s", entry.place.entry_id, failure)
            continue
        if change is None or change.event_id in seen_event_ids:
            continue
        seen_event_ids[change.event_id] = None
        while len(seen_event_ids) > max_seen:
            seen_event_ids.popitem(last=False)
        found.append(change)
    return found
