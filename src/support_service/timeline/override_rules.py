"""What an override may be: the rules that the command line and the API share. Pure."""

from datetime import timedelta

from pydantic import TypeAdapter

from support_service.core import units

MAX_OVERRIDE_DURATION = timedelta(days=7)  # longest duration of an override
TTL_RANGE = (1, 86_400)  # seconds
MAX_REASON_LENGTH = 200  # characters; agents read the reason
_ISO_8601 = TypeAdapter(timedelta)


def clean_reason(text: str) -> str:
    """Return a reason on one line, without spaces at its ends. Raises ValueError with the expected form."""
    reason = " ".join(text.split())
    if len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise ValueError(f"at most {MAX_REASON_LENGTH} printable characters")
    return reason


def check_ttl(seconds: float) -> float:
    """Return a TTL in seconds. Raises ValueError with the expected range."""
    low, high = TTL_RANGE
    if not low <= seconds <= high:
        raise ValueError(f"a number of seconds from {low} to {high}")
    return seconds


def parse_override_duration(text: str) -> timedelta:
    """Parse the duration of an override: a number with a unit (`30m`) or ISO 8601 (`PT30M`).

    Raises ValueError with the expected form and range.
    """
    written = text.strip()
    try:
        time = _ISO_8601.validate_python(written) if written[:1] in "Pp" else units.parse_duration(written)
    except ValueError:
        time = timedelta(0)
    if not timedelta(0) < time <= MAX_OVERRIDE_DURATION:
        raise ValueError("a number with a unit, such as 90s, 30m, 2h or 1d, up to 7d")
    return time
