"""Policies: what they accept, which one applies."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from support_service.cases.clocks.policy import (
    MAX_WEEKS,
    POLICY_CONTENT_EXAMPLE,
    PolicyContent,
    PolicyVersion,
    first_matching_policy,
)
from support_service.cases.model.vocabulary import format_duration
from tests.support.each import each_row

WORK_WEEK = {"mon": [["09:00", "12:00"], ["13:00", "17:00"]]}


@dataclass
class SomeCase:
    priority: str = "normal"
    channel: str = "email"
    team: str | None = None
    tags: list[str] = field(default_factory=list)


def policy(**fields: Any) -> PolicyContent:
    return PolicyContent.model_validate({"targets": {"firstResponse": "PT1H"}, **fields})


def calendar(**fields: Any) -> dict[str, Any]:
    return {"timeZone": "Europe/Berlin", "spans": WORK_WEEK, **fields}


def test_a_policy_is_stored_and_read_as_it_was_sent() -> None:
    sent = POLICY_CONTENT_EXAMPLE["calendar"]
    whole_week = {**sent, "spans": {"sat": [], "sun": [], **sent["spans"]}}
    content = PolicyContent.model_validate(POLICY_CONTENT_EXAMPLE).content_json()
    assert content == {**POLICY_CONTENT_EXAMPLE, "calendar": whole_week}


@each_row(
    ("sent", "duration"),
    [
        *(("PT4H", timedelta(hours=4)), ("PT90M", timedelta(hours=1.5)), ("P2DT12H", timedelta(hours=60))),
        *(("P1W", timedelta(days=7)), ("PT30S", timedelta(seconds=30))),
    ],
)
def test_durations(sent: str, duration: timedelta) -> None:
    assert policy(targets={"resolution": sent}).targets.resolution == duration


@each_row("sent", ["4h", "PT", "P", "", "P1M", "P1Y", "PT0S", "-PT1H", "P400D", "PT1.5H", 3600, "P1WT1H"])
def test_invalid_duration_is_refused(sent: object) -> None:
    """Months and years are too: their length varies."""
    with pytest.raises(ValidationError):
        policy(targets={"resolution": sent})


@each_row(
    "fields",
    [
        *({"targets": targets} for targets in ({}, {"firstAnswer": "PT1H"})),
        *({"match": match} for match in ({"priorities": ["high"]}, {"priority": []}, {"priority": ["critical"]})),
        *({"calendar": calendar(timeZone=zone)} for zone in ("Europe/Atlantis", "../etc/passwd", "Europe")),
        *({"calendar": calendar(spans=spans)} for spans in ({}, {"monday": [["09:00", "12:00"]]})),
        *({"calendar": calendar(spans={"mon": [span]})} for span in (["17:00", "09:00"], ["9:00", "12:00"])),
        {"calendar": calendar(spans={"mon": [["09:00", "12:00"], ["11:00", "17:00"]]})},
        {"calendar": calendar(holidays=["2026-02-30"])},
        # One minute of each week would need a hundred years.
        {"targets": {"resolution": "P4D"}, "calendar": calendar(spans={"mon": [["09:00", "09:01"]]})},
    ],
)
def test_invalid_policy_is_refused(fields: dict[str, Any]) -> None:
    """A condition that is ignored would match other cases."""
    with pytest.raises(ValidationError):
        policy(**fields)


@each_row(
    ("match", "case", "expected"),
    [
        ({}, SomeCase(), True),
        ({"priority": ["high", "urgent"]}, SomeCase(priority="urgent"), True),
        ({"priority": ["high", "urgent"]}, SomeCase(), False),
        ({"channel": ["email"], "team": ["returns"]}, SomeCase(team="returns"), True),
        ({"channel": ["email"], "team": ["returns"]}, SomeCase(), False),
        ({"tag": ["vip", "gold"]}, SomeCase(tags=["late", "gold"]), True),
        ({"tag": ["vip", "gold"]}, SomeCase(tags=["late"]), False),
    ],
)
def test_a_policy_matches_if_each_list_has_a_value_of_the_case(match, case, expected):
    """Of tags, one is enough."""
    assert policy(match=match).match.matches(case) is expected


def test_the_first_policy_in_order_applies() -> None:
    contents = [policy(match={"priority": ["urgent"]}), policy(match={"channel": ["email"]})]
    versions = [PolicyVersion(number, str(number), each, each.to_terms()) for number, each in enumerate(contents)]
    assert first_matching_policy(versions, SomeCase(priority="urgent")) == versions[0]
    assert first_matching_policy(versions, SomeCase()) == versions[1]
    assert first_matching_policy(versions, SomeCase(channel="chat")) is None


def test_durations_are_written_in_hours() -> None:
    """A day of working time is not a day, so no days are written."""
    written = {0: "PT0S", 59.9: "PT59S", 3600: "PT1H", 93_784: "PT26H3M4S", -5: "PT0S"}
    assert {each: format_duration(timedelta(seconds=each)) for each in written} == written


def test_holidays_count_against_the_time_of_a_target() -> None:
    """A clock is computed day by day, so its time must come within two years also if many dates are holidays."""
    first = date(2027, 1, 4)  # a Monday
    mondays = [(first + timedelta(weeks=week)).isoformat() for week in range(MAX_WEEKS + 50)]
    short = {"resolution": "PT7H"}  # the working time of one week
    for holidays, valid in ((mondays[: MAX_WEEKS - 1], True), (mondays[:MAX_WEEKS], False), (mondays[::2], True)):
        sent = calendar(holidays=[*holidays, *holidays, "2027-01-05"])
        with nullcontext() if valid else pytest.raises(ValidationError, match="without its holidays"):
            policy(targets=short, calendar=sent)
