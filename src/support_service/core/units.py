"""Parsing and formatting of quantities: durations (`30d`), rates (`50MB/s`, `100/min`), percentages (`1%`), counts."""

import re
from datetime import timedelta

DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
REQUEST_RATE_PATTERN = re.compile(r"(\d{1,9})\s*/\s*(s|min|h)")
SECONDS_PER_PERIOD = {"s": 1, "min": 60, "h": 3600}
SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|M|G|T)(i?)B")
SIZE_PREFIXES = ("", "k", "M", "G", "T")
MAX_DURATION = timedelta(days=36_500)
MAX_INTEGER = (1 << 63) - 1  # largest integer that the databases store
# Replicas account for each request's cost in whole microseconds.
MAX_REQUESTS_PER_SECOND = 1_000_000


def parse_duration(text: str, default_unit: str = "") -> timedelta:
    """Parse a duration: a number with `s`, `m`, `h`, `d` or `w`; with `default_unit` the unit may be left out.

    Raises ValueError with the expected form if it can't be parsed or is longer than MAX_DURATION.
    """
    found = DURATION_PATTERN.fullmatch(text.strip())
    unit = found[2] or default_unit if found else ""
    seconds = float(found[1]) * SECONDS_PER_UNIT[unit] if found and unit else None
    if seconds is None or seconds > MAX_DURATION.total_seconds():
        raise ValueError("a number with a unit (s, m, h, d or w), such as 12h")
    return timedelta(seconds=seconds)


def parse_byte_rate(text: str) -> float:
    """Parse a rate such as `50MB/s` into bytes per second; raises ValueError with the expected form."""
    found_bytes = _bytes_of(text.strip().removesuffix("/s"))
    if found_bytes <= 0:
        raise ValueError("a number of bytes per second with a unit (B, kB, MB, GB), such as 50MB/s")
    return found_bytes


def parse_size(text: str) -> int:
    """Parse a size such as `25MB` or `64KiB` into bytes; raises ValueError with the expected form."""
    found_bytes = _bytes_of(text.strip().replace("K", "k"))
    if found_bytes < 1:
        raise ValueError("a number of bytes with a unit (B, kB, MB, MiB), such as 25MB")
    return int(found_bytes)


def _bytes_of(text: str) -> float:
    found = SIZE_PATTERN.fullmatch(text)
    return float(found[1]) * (1024 if found[3] else 1000) ** SIZE_PREFIXES.index(found[2]) if found else 0.0


def parse_request_rate(text: str) -> tuple[int, int]:
    """Parse `100/s` or `6000/min` into (requests, seconds); raises ValueError with the expected form."""
    found = REQUEST_RATE_PATTERN.fullmatch(text.strip())
    if not found or not 0 < int(found[1]) <= MAX_REQUESTS_PER_SECOND * SECONDS_PER_PERIOD[found[2]]:
        raise ValueError(
            f"off, or a number of requests with /s, /min or /h, such as 100/s, up to {MAX_REQUESTS_PER_SECOND}/s"
        )
    return int(found[1]), SECONDS_PER_PERIOD[found[2]]


def parse_percentage(text: str) -> float:
    """Parse a percentage such as `1%` into a fraction from 0 to 1; raises ValueError with the expected form."""
    try:
        part = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        part = -1.0
    if not (text.strip().endswith("%") and 0 <= part <= 1):
        raise ValueError("a percentage from 0% to 100%")
    return part


def parse_count(text: str) -> int:
    """Parse a whole number from 1 to MAX_INTEGER; raises ValueError with the expected range."""
    found = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else 0
    if not 1 <= found <= MAX_INTEGER:
        raise ValueError(f"an integer from 1 to {MAX_INTEGER}")
    return found


def format_bytes(number: float) -> str:
    """Format a number of bytes with a decimal unit, such as `1.5 MB`."""
    for unit in SIZE_PREFIXES:
        if abs(number) < 1000 or unit == SIZE_PREFIXES[-1]:  # noqa: PLR2004 - decimal units
            return f"{number:.0f} B" if not unit else f"{number:.1f} {unit}B"
        number /= 1000
    raise AssertionError
