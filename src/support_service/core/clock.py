"""The current time, times as text, and delays between attempts."""

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def time_after(latest: datetime) -> datetime:
    """Return the current time, or one microsecond after `latest` if the clock is not past that.

    The time of a change is taken under the lock of its case, after the case's latest change. The time before the lock
    was waited for, or the clock of another replica, would put it before changes that precede it.
    """
    return max(utc_now(), latest + MICROSECOND)


def format_time(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with microseconds, such as `2026-05-12T08:30:00.125000Z`."""
    written = moment.isoformat(timespec="microseconds")
    if not written.endswith("+00:00"):  # most times are in UTC already, and converting costs more than formatting
        written = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{written[:-6]}Z"


def parse_time(text: object) -> datetime | None:
    """Return an RFC 3339 time in UTC, in microseconds, or None for anything else."""
    if not isinstance(text, str) or not RFC_3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, or not in the years 1 to 9999 in UTC
        return None


def to_micros(moment: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the time at some microseconds since 1970. Raises OverflowError."""
    return EPOCH + micros * MICROSECOND


def age_in_seconds(since: datetime | None) -> float:
    """Return the seconds since a time; 0 without a time, and for one in the future: clocks of replicas differ."""
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter, in seconds."""

    first_delay: float
    max_delay: float

    def delay(self, failures: int) -> float:
        """Return the delay after the given number of consecutive failures."""
        return min(self.max_delay, self.first_delay * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1)
