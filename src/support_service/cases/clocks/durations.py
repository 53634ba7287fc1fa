"""Durations in ISO 8601. Pure.

Months and years are refused, because their length varies; a day is 24 hours.
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from support_service.cases.clocks.calendar import NOTHING

MAX_TARGET = timedelta(days=366)
DURATION_PATTERN = r"^P(?=.)(?:\d{1,3}W|(?:\d{1,4}D)?(?:T(?=.)(?:\d{1,5}H)?(?:\d{1,6}M)?(?:\d{1,8}S)?)?)$"
_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")


def format_duration(duration: timedelta) -> str:
    """Return a duration in ISO 8601, in hours, minutes and whole seconds, such as `PT26H5M`."""
    minutes, seconds = divmod(int(max(duration, NOTHING).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number]
    return f"PT{''.join(parts) or '0S'}"


def _to_duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(DURATION_PATTERN, value):
        raise ValueError(
            "must be a duration of ISO 8601 in weeks, or in days, hours, minutes and seconds: PT4H, P2DT12H"
        )
    match = _DURATION.fullmatch(value)
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0,) * 5
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _expect_bounded(value: timedelta) -> timedelta:
    if not NOTHING < value <= MAX_TARGET:
        raise ValueError("must be longer than nothing, and at most P366D")
    return value


TimeSpan = Annotated[
    timedelta,
    BeforeValidator(_to_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
Duration = Annotated[TimeSpan, AfterValidator(_expect_bounded)]
