"""Working time is what a walk minute by minute counts, in every time zone and at every change of local time."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from support_service.cases.clocks.calendar import AllHours, Calendar
from tests.support.clocks.strategies import calendars, instants
from tests.support.each import each_row

HOUR = timedelta(hours=1)
NINE_TO_FIVE = {key: [(9 * HOUR, 12 * HOUR), (13 * HOUR, 17 * HOUR)] for key in range(5)}
NIGHT = {key: [(HOUR, 4 * HOUR)] for key in range(7)}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(calendars(), instants(), st.integers(0, 5 * 1440), st.integers(1, 100_000))
def test_the_time_between_two_instants_is_what_a_walk_counts(pair, start, minutes, seconds):
    """Added time is found again between both instants, also for parts of minutes, and over weeks."""
    calendar, naive = pair
    end = start + timedelta(minutes=minutes)
    assert calendar.between(start, end) == timedelta(minutes=naive.between(start, end))
    amount = timedelta(seconds=seconds, microseconds=seconds)
    if any(end > begin for spans in naive.spans.values() for begin, end in spans):
        assert calendar.between(start, calendar.add(start, amount)) == amount


@given(calendars(), instants(), st.integers(0, 2000))
def test_adding_working_time_ends_where_a_walk_ends(pair, start, minutes):
    calendar, naive = pair
    end = naive.add(start, minutes, start + timedelta(days=6))
    if end is not None:
        assert calendar.add(start, timedelta(minutes=minutes)) == end


@each_row(
    ("zone", "spans", "start", "hours", "end"),
    [
        # Friday afternoon, with the lunch break and the weekend.
        ("Europe/Berlin", NINE_TO_FIVE, "2026-06-12T14:00", 2, "2026-06-15T08:00"),
        ("Asia/Kolkata", NINE_TO_FIVE, "2026-06-12T03:30", 4, "2026-06-12T08:30"),
        # The hour from 2 to 3 does not exist on 29 March, and occurs twice on 25 October.
        ("Europe/Berlin", NIGHT, "2026-03-29T00:00", 2, "2026-03-29T02:00"),
        ("Europe/Berlin", NIGHT, "2026-03-29T00:00", 3, "2026-03-30T00:00"),
        ("Europe/Berlin", NIGHT, "2026-10-24T23:00", 4, "2026-10-25T03:00"),
        # Lord Howe changes by half an hour: from 2:00 to 1:30 on 5 April.
        ("Australia/Lord_Howe", NIGHT, "2026-04-04T14:00", 3, "2026-04-04T17:00"),
    ],
)
def test_working_time_of_known_days(zone: str, spans: dict[int, list], start: str, hours: float, end: str) -> None:
    assert Calendar(ZoneInfo(zone), spans).add(utc(start), hours * HOUR) == utc(end)


def test_a_holiday_is_one_of_local_time() -> None:
    """The first of May in Auckland begins when it is still April in UTC."""
    all_day = {key: [(0 * HOUR, 24 * HOUR)] for key in range(7)}
    calendar = Calendar(ZoneInfo("Pacific/Auckland"), all_day, frozenset({date(2026, 5, 1)}))
    assert calendar.add(utc("2026-04-30T11:00"), 2 * HOUR) == utc("2026-05-01T13:00")


def test_a_skipped_day_has_no_working_time() -> None:
    """Samoa had no 30 December 2011, so that the 29th, the 31st and the 1st count."""
    calendar = Calendar(ZoneInfo("Pacific/Apia"), {key: [(9 * HOUR, 17 * HOUR)] for key in range(7)})
    assert calendar.between(utc("2011-12-29T10:00"), utc("2012-01-01T10:00")) == 24 * HOUR


def test_without_a_calendar_all_of_the_time_counts() -> None:
    """And nothing is counted backwards."""
    at = utc("2026-03-28T12:00")
    assert AllHours().add(at, 48 * HOUR) == at + 48 * HOUR
    assert AllHours().between(at, at + HOUR) == HOUR
    assert AllHours().between(at, at - HOUR) == timedelta(0)
