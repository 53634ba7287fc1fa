"""The current time."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def age_in_seconds(since: datetime | None) -> float:
    """Return the seconds since a time; 0 without a time, and for one in the future: clocks of replicas differ."""
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0
