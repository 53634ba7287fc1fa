"""The broker protocol: streams of events with one consumer group each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from support_service.core.errors import Unavailable

ENTRY_ID_PATTERN: Final = "[0-9]{1,19}-[0-9]{1,19}"  # regular expression of the ids of stream entries and dead letters
MAX_SHOWN_CHARACTERS: Final = 2000  # of the event of a dead letter: enough to recognize its sender and its fault


@dataclass(frozen=True, slots=True)
class RedisBrokerTimings:
    """Times of the Redis broker in seconds. In this module, so that they can be set without importing redis."""

    timeout: float = 2.0  # for an operation, with a new connection if it needs one
    consumer_expiry: float = 86_400.0  # an active consumer reads every second
    max_pending_read: int = 256  # pending entries examined per claim


class BrokerError(Exception):
    """The broker did not confirm the operation. Events passed to `publish` have to be published again.

    A stream that refuses a publication is not `unavailable`. `full`: its consumer group has to read more of it first.
    `fence`: another publisher has used this newer fencing token. `kept`: the stream lacks publications after this one
    that were confirmed, such as after a failover.
    """

    def __init__(
        self, text: str = "", *, full: bool = False, fence: int | None = None, kept: int | None = None
    ) -> None:
        if fence is not None:
            text = f"the stream was published to with the newer fence {fence}"
        elif kept is not None:
            text = f"the stream lacks what was published to it after the publication {kept}"
        super().__init__(text)
        self.full, self.fence, self.kept = full, fence, kept

    @property
    def unavailable(self) -> bool:
        """Whether the broker failed, and no stream refused a publication."""
        return not self.full and self.fence is None and self.kept is None


OUTAGES = (BrokerError, Unavailable)  # of the broker or the database


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
        self,
        stream: str,
        events: Sequence[str | bytes],
        *,
        max_length: int,
        fence: int = 0,
        trim: bool = True,
        confirmed: int = 0,
    ) -> int:
        """Append events in order, all or none, and trim the oldest entries beyond about `max_length`.

        Return the number of this publication: they are counted beside the stream, and are lost together with its
        entries. Raises BrokerError with `kept` if there were fewer than `confirmed`, and with `fence` if another
        publisher has used a greater `fence`. If `trim` is False, nothing is trimmed or counted: raises BrokerError with
        `full` if the events would exceed `max_length`.
        """

    async def publications(self, stream: str) -> int:
        """Return the number of the last publication to a stream; 0 if there is none."""

    async def receive(self, stream: str, consumer: str, *, count: int, wait: float) -> list[Delivery]:
        """Return up to `count` events not yet delivered to the group; wait up to `wait` seconds for the first."""

    async def claim(
        self, stream: str, consumer: str, *, count: int, min_idle: float, isolate_after: int
    ) -> list[Delivery]:
        """Claim up to `count` events delivered at least `min_idle` seconds ago and not acknowledged, oldest first.

        An event delivered `isolate_after` times or more is claimed alone, so that a crash affects no other events.
        """

    async def renew_claim(self, stream: str, consumer: str, delivery: Delivery) -> None:
        """Reset the idle time of a delivered event, without counting a try."""

    async def acknowledge(self, stream: str, ids: Collection[str]) -> None:
        """Acknowledge events of the group that have been applied."""

    async def move_to_dead_letters(self, stream: str, consumer: str, delivery: Delivery, reason: str, at: str) -> None:
        """Move an event of a consumer to the dead letters, unless another one has claimed or acknowledged it."""

    async def dead_letters(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        """Return up to `count` dead letters, oldest first, starting after the id `after`."""

    async def find_dead_letter(self, stream: str, letter_id: str) -> DeadLetter | None:
        """Return the dead letter with an id of the form ENTRY_ID, or None."""

    async def delete_dead_letters(self, stream: str, ids: Collection[str]) -> int:
        """Delete dead letters. Return the number deleted."""

    async def replay(self, stream: str, ids: Collection[str]) -> int:
        """Move dead letters back to the end of their stream. Return the number of ids found."""

    async def trim(self, stream: str, keep: int) -> None:
        """Remove entries that every group has acknowledged, and consumers that have been inactive for long.

        About `keep` acknowledged entries stay, the newest ones, to be read again after a restore of the database.
        """

    async def backlog(self, stream: str) -> StreamBacklog:
        """Return the size of the group's backlog."""

    async def close(self) -> None:
        """Close the broker's connections."""


def select_deliverable_together(due: Sequence[Delivery], count: int, isolate_after: int) -> Sequence[Delivery]:
    """Return the due events to deliver together; `tries` is the number of their deliveries so far.

    Events delivered fewer than `isolate_after` times come first, at most `count`; otherwise the first due event alone.
    """
    trusted = [each for each in due if each.tries < isolate_after][:count]
    return trusted or due[:1]
