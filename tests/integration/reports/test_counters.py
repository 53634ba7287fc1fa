"""Reports say what a model in memory counts one by one, on both databases."""

import asyncio
import random
import time
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import combinations, product

import pytest

from support_service.core.errors import ValidationFailed
from support_service.platform.database.tables import report_changes, report_state
from support_service.reports import counters
from support_service.reports.counters import ReportCounters, ReportQuestion
from support_service.reports.measures import (
    DIMENSIONS,
    RELATIVE_ERROR,
    Occurrence,
    blocks_of,
    bucket_of,
    counters_of,
    day_number,
    seconds_of,
    start_of,
)
from tests.conftest import both_databases
from tests.support.reports import CHANNELS, MEASURES, check, is_near, read_whole

FIRST, DAYS = date(2025, 11, 20), 150
AGENTS, TEAMS = ("", "ann", "bob", "eve"), ("", "returns", "billing")


def new_occurrence(draw):
    at = start_of(FIRST) + timedelta(seconds=draw.randrange(DAYS * 86_400))
    since = at - timedelta(seconds=10 ** draw.uniform(-1, 6))
    return Occurrence(
        draw.choice(MEASURES), at, since, draw.choice(TEAMS), draw.choice(AGENTS), draw.choice((*CHANNELS, "fax"))
    )


async def store(database, occurrences):
    rows = [
        {**occurrence._asdict(), "case_id": "case", "team": occurrence.team or None, "agent": occurrence.agent or None}
        for occurrence in occurrences
    ]
    async with database.transaction() as tx:
        await tx.execute(report_changes.insert(), rows)


def questions(draw):
    """Yield a question for each selection, with random days and values of its filters."""
    names = [pair for size in (1, 2) for pair in combinations(DIMENSIONS, size)]
    values = {"team": TEAMS, "agent": AGENTS, "channel": (*CHANNELS, "other")}
    for by, filtered in product(names, [each for size in range(4) for each in combinations(values, size)]):
        first = day_number(FIRST) + draw.randrange(-5, DAYS)
        last = first + draw.choice((0, 1, 30, DAYS))
        yield ReportQuestion(by, first, last, {name: draw.choice(values[name]) for name in filtered})


@both_databases
@pytest.mark.parametrize("seed", range(2))
async def test_every_report_is_what_the_model_counts(database, seed, constants):
    """With counters, with occurrences that wait, and with both."""
    draw = random.Random(seed)
    occurrences = [new_occurrence(draw) for _ in range(900)]
    constants("reports.counters", MIN_OCCURRENCES=100, BATCH_SIZE=170)
    reports = ReportCounters(database, CHANNELS)
    for start in range(0, 900, 300):
        await store(database, occurrences[start : start + 300])
        if start < 600:
            await reports.add_occurrences()
        for question in questions(draw):
            check(await read_whole(reports, question), occurrences[: start + 300], question)


@both_databases
async def test_pages_by_days_have_whole_days(database, constants):
    """Also a day with more rows than the limit."""
    draw = random.Random(7)
    occurrences = [
        new_occurrence(draw)._replace(at=start_of(FIRST) + timedelta(days=number % 5, hours=1)) for number in range(200)
    ]
    occurrences = [occurrence._replace(since=occurrence.at - timedelta(seconds=5)) for occurrence in occurrences]
    await store(database, occurrences)
    constants("reports.counters", MIN_OCCURRENCES=1)
    reports = ReportCounters(database, CHANNELS)
    await reports.add_occurrences()
    first = day_number(FIRST)
    for by in (("day", "agent"), ("team", "day"), ("day",), ("day", "channel")):
        question = ReportQuestion(by, first - 2, first + 9, {})
        for limit in (1, 3, 7):
            check(await read_whole(reports, question, limit), occurrences, question)


@both_databases
async def test_replicas_count_each_occurrence_once(database, constants):
    """Some add occurrences to counters, while others store occurrences."""
    draw = random.Random(3)
    batches = [[new_occurrence(draw) for _ in range(40)] for _ in range(8)]
    constants("reports.counters", MIN_OCCURRENCES=1, BATCH_SIZE=30)
    replicas = [ReportCounters(database, CHANNELS) for _ in range(3)]
    await asyncio.gather(
        *(store(database, batch) for batch in batches), *(each.add_occurrences() for each in replicas * 2)
    )
    occurrences = [occurrence for batch in batches for occurrence in batch]
    question = ReportQuestion(("team", "agent"), day_number(FIRST), day_number(FIRST) + DAYS, {})
    check(await read_whole(replicas[0], question), occurrences, question)
    await replicas[0].add_occurrences()
    check(await read_whole(replicas[0], question), occurrences, question)
    assert not await database.fetch_all(report_changes.select())


async def test_occurrences_stay_where_counting_them_fails(database, monkeypatch, constants):
    """The next run counts them, once."""
    occurrences = [new_occurrence(random.Random(5)) for _ in range(5)]
    await store(database, occurrences)
    constants("reports.counters", MIN_OCCURRENCES=1)
    reports = ReportCounters(database, CHANNELS)

    async def fail(*_):
        raise LookupError

    with monkeypatch.context() as patch:
        patch.setattr(counters, "add_to_counters", fail)
        with pytest.raises(LookupError):
            await reports.add_occurrences()
    question = ReportQuestion(("agent",), day_number(FIRST), day_number(FIRST) + DAYS, {})
    check(await read_whole(reports, question), occurrences, question)
    await reports.add_occurrences()
    check(await read_whole(reports, question), occurrences, question)


async def test_a_report_of_too_many_counters_is_refused(database, monkeypatch, constants):
    """The answer says what to ask for instead."""
    draw = random.Random(2)
    await store(database, [new_occurrence(draw) for _ in range(50)])
    constants("reports.counters", MIN_OCCURRENCES=1)
    reports = ReportCounters(database, CHANNELS)
    await reports.add_occurrences()
    monkeypatch.setattr(counters, "MAX_COUNTERS", 3)
    with pytest.raises(ValidationFailed) as refusal:
        await reports.read(ReportQuestion(("team", "agent"), day_number(FIRST), day_number(FIRST) + DAYS, {}), 10)
    assert "fewer days" in refusal.value.errors[0].message


def test_blocks_make_up_exactly_their_days():
    """In at most 14 blocks of one day, and 14 of eight."""
    draw = random.Random(1)
    for _ in range(200):
        first = draw.randrange(20_000)
        last = first + draw.randrange(800)
        blocks = blocks_of(first, last)
        days = sorted(day + offset for span, starts in blocks.items() for day in starts for offset in range(span))
        assert days == list(range(first, last + 1))
        assert len(blocks[1]) <= 14
        assert len(blocks[8]) <= 14


def test_a_bucket_stands_for_its_durations():
    """Within the stated error, up to a hundred years."""
    draw = random.Random(4)
    assert (bucket_of(0), seconds_of(0)) == (0, 1)
    assert RELATIVE_ERROR < 0.044
    for _ in range(2000):
        seconds = 10 ** draw.uniform(0, 9.5)
        assert is_near(seconds_of(bucket_of(seconds)), seconds)


async def test_a_report_says_from_when_on_it_is_complete(database):
    """From the migration that made the counters on, or the time from which 0.2.0 has counted what was before."""
    migrated, counted = datetime(2026, 5, 12, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    for values, since in (({}, None), ({"since": migrated}, migrated), ({"rebuilt_from": counted}, counted)):
        if values:
            await database.execute(report_state.update().values(values))
        assert (await ReportCounters(database, CHANNELS).read(ReportQuestion(("day",), 0, 1, {}), 10)).since == since


@pytest.fixture
def far_east(monkeypatch):
    """A process whose local time is 7 hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Ho_Chi_Minh")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_days_are_in_utc_whatever_the_local_time():
    """An occurrence counts on the day in UTC, also if its time has another offset."""
    last_moment = datetime(2025, 11, 20, 23, 59, tzinfo=UTC)
    counted = [
        counters_of([Occurrence("opened", at, at, "", "", "email")])
        for at in (last_moment, last_moment.astimezone(timezone(timedelta(hours=14))))
    ]
    assert counted[0] == counted[1]
    assert day_number(date(2025, 11, 20)) in {key.day for key in counted[0]}
    assert day_number(date(2025, 11, 21)) not in {key.day for key in counted[0]}
