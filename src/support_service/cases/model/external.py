"""Fields by which another system, such as a mail server, identifies and dates what it sends."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from support_service.core.clock import format_time, parse_time, utc_now

MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)  # by which the clock of the sender may be ahead
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # PostgreSQL's driver takes the first second of the year 1 for -infinity


def _read_time(value: object) -> datetime:
    """Return a time in UTC, in microseconds. Raises ValueError."""
    moment = parse_time(value)
    if moment is None:
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-05-12T08:30:00Z")
    if moment < EARLIEST:
        raise ValueError("must not be before 1970")
    if moment > utc_now() + MAX_CLOCK_DIFFERENCE:
        raise ValueError("must be at most five minutes in the future")
    return moment


ExternalId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        description="what the sending system calls it, such as a mail's Message-ID; a repeat gets what exists",
    ),
]
NewSentAt = Annotated[
    AwareDatetime,
    BeforeValidator(_read_time),
    Field(description="when it was written or sent, from 1970 on, at most five minutes in the future"),
]
SentAt = Annotated[
    datetime,
    PlainSerializer(format_time, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time as it was sent: JSON has microseconds, also if they are zero, as the JSON that the database writes."""
