"""Calendars and instants for property tests, around the moments at which local time changes."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from support_service.cases.clocks.calendar import Calendar
from tests.support.clocks.minute_walk import NaiveCalendar

# With daylight saving in both directions, by 30 minutes too, and with offsets of half and quarter hours.
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"),
    *("Asia/Kathmandu", "Pacific/Chatham", "Africa/Casablanca"),
)
# Days before changes of local time in one of the zones, and an ordinary one.
STARTS = [
    date(2026, month, day)
    for month, days in {2: (16,), 3: (6, 27), 4: (3,), 6: (10,), 9: (25,), 10: (2, 23, 30)}.items()
    for day in days
]


@st.composite
def spans_of_day(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Draw up to three spans of a day, as minutes; they may touch."""
    borders = sorted(draw(st.lists(st.integers(0, 1440), min_size=2, max_size=6, unique=True)))
    return list(zip(borders[::2], borders[1::2], strict=False))


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, NaiveCalendar]:
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    spans = draw(st.dictionaries(st.integers(0, 6), spans_of_day(), min_size=3))
    start = draw(st.sampled_from(STARTS))
    holidays = frozenset(start + timedelta(days=each) for each in draw(st.sets(st.integers(0, 6), max_size=2)))
    in_minutes = {
        day: [(timedelta(minutes=begin), timedelta(minutes=end)) for begin, end in of_day]
        for day, of_day in spans.items()
    }
    return Calendar(zone, in_minutes, holidays), NaiveCalendar(zone, spans, holidays)


@st.composite
def instants(draw: st.DrawFn) -> datetime:
    """Draw an instant in the days around a change of local time."""
    day = draw(st.sampled_from(STARTS))
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 4 * 1440)))
