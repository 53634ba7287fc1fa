"""Quantities as people write them: durations (`30d`), rates (`50MB/s`, `100/min`), shares (`1%`) and counts."""

import re
from datetime import timedelta

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
IN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
FREQUENCY = re.compile(r"(\d{1,9})\s*/\s*(s|min|h)")
PERIODS = {"s": 1, "min": 60, "h": 3600}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|M|G|T)(i?)B")
POWERS = ("", "k", "M", "G", "T")
LONGEST = timedelta(days=36_500)
MOST = (1 << 63) - 1  # that the databases count to
MOST_OFTEN = 1_000_000  # requests a second: replicas settle in microseconds what each of them has cost


def duration(text: str, default_unit: str = "") -> timedelta:
    """A number with `s`, `m`, `h`, `d` or `w`, or with none where there is a default unit.

    Raises ValueError with what is allowed.
    """
    found = DURATION.fullmatch(text.strip())
    unit = found[2] or default_unit if found else ""
    seconds = float(found[1]) * IN_SECONDS[unit] if found and unit else None
    if seconds is None or seconds > LONGEST.total_seconds():
        raise ValueError("a number with s, m, h, d or w, such as 30d")
    return timedelta(seconds=seconds)


def rate(text: str) -> float:
    """Bytes a second, out of a text like `50MB/s`; raises ValueError with what is allowed."""
    found = SIZE.fullmatch(text.strip().removesuffix("/s"))
    found_bytes = float(found[1]) * (1024 if found[3] else 1000) ** POWERS.index(found[2]) if found else 0.0
    if found_bytes <= 0:
        raise ValueError("a number with B, kB, MB or GB a second, such as 50MB/s")
    return found_bytes


def frequency(text: str) -> tuple[int, int]:
    """(requests, seconds), out of a text like `100/s` or `6000/min`; raises ValueError with what is allowed."""
    found = FREQUENCY.fullmatch(text.strip())
    if not found or not 0 < int(found[1]) <= MOST_OFTEN * PERIODS[found[2]]:
        raise ValueError(f"a number of requests with /s, /min or /h, such as 100/s and up to {MOST_OFTEN}/s, or off")
    return int(found[1]), PERIODS[found[2]]


def share(text: str) -> float:
    """A part of a whole, out of a percentage such as `1%`; raises ValueError with what is allowed."""
    try:
        part = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        part = -1.0
    if not (text.strip().endswith("%") and 0 <= part <= 1):
        raise ValueError("a percentage from 0% to 100%")
    return part


def count(text: str) -> int:
    """A whole number of things; raises ValueError with what is allowed."""
    found = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else 0
    if not 1 <= found <= MOST:
        raise ValueError(f"a number from 1 to {MOST}")
    return found


def size(number: float) -> str:
    """A number of bytes as people read it."""
    for unit in POWERS:
        if abs(number) < 1000 or unit == POWERS[-1]:  # noqa: PLR2004 - decimal units
            return f"{number:.0f} B" if not unit else f"{number:.1f} {unit}B"
        number /= 1000
    raise AssertionError
