"""The log of published events: read by position, without a consumer group.

The broker's stream is the log. A position is the place of an entry in the log; positions of one log are in the order of
its entries. A log that has lost its entries is another log: it has another epoch, and its positions say so.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

EPOCH_BYTES = 4
_POSITION = re.compile(r"([0-9a-f]{8})\.(\d{1,18})-(\d{1,18})", re.ASCII)


class LogPlace(NamedTuple):
    """The place of an entry: a number that grows, and a second one among equal first ones, as Redis gives them."""

    number: int
    part: int = 0

    @property
    def entry_id(self) -> str:
        return f"{self.number}-{self.part}"


LOG_START = LogPlace(0, 0)  # before the first entry


def parse_place(entry_id: str | bytes) -> LogPlace:
    number, _, part = (entry_id.decode() if isinstance(entry_id, bytes) else entry_id).partition("-")
    return LogPlace(int(number), int(part or 0))


class Position(NamedTuple):
    """A place in the log of an epoch."""

    epoch: str
    place: LogPlace

    def __str__(self) -> str:
        return f"{self.epoch}.{self.place.entry_id}"


def parse_position(text: str) -> Position | None:
    """Return the position that a client sent, or None if it does not have the form of a position."""
    match = _POSITION.fullmatch(text)
    return Position(match[1], LogPlace(int(match[2]), int(match[3]))) if match else None


def new_epoch() -> str:
    return secrets.token_hex(EPOCH_BYTES)


class LogEntry(NamedTuple):
    """An entry of the log: its place, and the event as it was published."""

    place: LogPlace
    event: bytes


class LogNote(NamedTuple):
    """A short-lived entry beside the log, and its age in seconds."""

    content: bytes
    age: float


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of a log: its epoch, the place of its last entry, and up to which place entries may be missing."""

    epoch: str
    last: LogPlace
    missing_to: LogPlace  # all entries behind it are there


class LogRead(NamedTuple):
    """What a read returned: the next entries, and the next notes.

    `is_whole` is False if the log is known to have lost entries before these.
    """

    entries: Sequence[LogEntry]
    notes: Sequence[LogNote]
    is_whole: bool = True


class EventLog(Protocol):
    """Reads the published events, and passes notes between replicas. Methods raise BrokerError if it is unavailable.

    Notes live for some seconds. They are not events: only readers that follow the log at the time get them.
    """

    async def state(self) -> LogState:
        """Return the state of the log."""

    async def follow(self, after: LogPlace, wait: float) -> LogRead:
        """Return the entries behind a place, and new notes; wait up to `wait` seconds for the first."""

    async def entries(self, after: LogPlace, count: int) -> list[LogEntry]:
        """Return up to `count` entries behind a place, oldest first."""

    async def entries_before(self, place: LogPlace, count: int) -> list[LogEntry]:
        """Return the last `count` entries up to a place, in any order."""

    async def add_note(self, content: bytes) -> None:
        """Pass a note to every replica that follows the log, this one included."""

    async def close(self) -> None:
        """Close the connections of the log."""
