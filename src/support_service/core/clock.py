"""The current time."""

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def time_after(latest: datetime) -> datetime:
    """Return the current time, or one microsecond after `latest` if the clock is not past that.

    The time of a change is taken under the lock of its case, after the case's latest change: the time before the lock
    was waited for, or the clock of another replica, would put it before changes that precede it.
    """
    return max(utc_now(), latest + timedelta(microseconds=1))


def age_in_seconds(since: datetime | None) -> float:
    """Return the seconds since a time; 0 without a time, and for one in the future: clocks of replicas differ."""
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0
