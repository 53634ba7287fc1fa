"""A rebuild counts exactly what happened before the triggers, whatever happens meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.errors import SupportError
from support_service.platform.database.tables import audit_log, case_results, report_changes, report_state, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.reports import rebuild
from support_service.reports.counters import ReportCounters, ReportQuestion, ReportTimings
from support_service.reports.measures import Occurrence, day_number
from support_service.reports.rebuild import ReportRebuild
from tests.conftest import both_databases
from tests.support.reports import CHANNELS, Writer, check, check_results, read_whole

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def migrate(database):
    """Let the triggers begin now: forget what they have stored, as if a release without them had written."""
    async with database.transaction() as tx:
        await tx.execute(report_changes.delete())
        await tx.execute(case_results.delete())
        last = {
            name: (await tx.fetch_one(sa.select(sa.func.max(table.c.seq).label("last")))).last or 0
            for name, table in (("last_case", tickets), ("last_entry", audit_log))
        }
        await tx.execute(report_state.update().values(since=utc_now(), **last))


async def rebuild_all(database, start=LONG_AGO):
    run = ReportRebuild(database, CHANNELS)
    if await run.begin(start):
        await run.run(SYSTEM_ORIGIN)
    return run.totals.occurrences


async def check_report(database, writers):
    """Fail unless reports have all that the writers did, before and after the migration."""
    occurrences = [
        Occurrence(measure, at, since, team or "", agent or "", channel)
        for writer in writers
        for measure, _, at, since, team, agent, channel in writer.occurrences
    ]
    reports = ReportCounters(database, CHANNELS, ReportTimings(min_occurrences=1))
    today = day_number(utc_now().date())
    for by in (("team", "agent"), ("channel",), ("day", "agent")):
        question = ReportQuestion(by, today - 3, today + 1, {})
        check(await read_whole(reports, question), occurrences, question)


@both_databases
async def test_rebuild_counts_what_the_triggers_did_not(service, database, monkeypatch):
    """Cases change before the migration, after it, and while batches are counted."""
    monkeypatch.setattr(rebuild, "BATCH_CASES", 5)
    writers = [Writer(service, f"rebuild {number}") for number in range(3)]
    await asyncio.gather(*(writer.run() for writer in writers))
    await migrate(database)
    await asyncio.gather(*(writer.run() for writer in writers))
    await asyncio.gather(rebuild_all(database), *(writer.run() for writer in writers))
    await check_report(database, writers)
    await check_results(database, writers)
    assert await rebuild_all(database) == 0
    await check_report(database, writers)
    recorded = await database.fetch_all(sa.select(audit_log.c.changes).where(audit_log.c.action == "reports.rebuilt"))
    assert len(recorded) == 1


@both_databases
async def test_an_interrupted_rebuild_goes_on(service, database, monkeypatch):
    """Batches that were committed are not counted again; other batches are."""
    monkeypatch.setattr(rebuild, "BATCH_CASES", 2)
    writer = Writer(service, "interrupted")
    await writer.run()
    await migrate(database)
    failing = iter((False, True, True) * 50)
    add = rebuild.add_to_counters

    async def fail_every_other_time(tx, added):
        await add(tx, added)
        if next(failing):
            raise LookupError

    monkeypatch.setattr(rebuild, "add_to_counters", fail_every_other_time)
    interruptions = 0
    while True:
        try:
            await rebuild_all(database)
            break
        except LookupError:
            interruptions += 1
            with pytest.raises(SupportError, match="was interrupted"):
                await rebuild_all(database, LONG_AGO + timedelta(days=1))
    assert interruptions > 1
    await check_report(database, [writer])
    await check_results(database, [writer])


@both_databases
async def test_two_rebuilds_at_once_count_once(service, database, monkeypatch):
    """One of them ends with a conflict."""
    monkeypatch.setattr(rebuild, "BATCH_CASES", 2)
    writer = Writer(service, "twice")
    await writer.run()
    await migrate(database)
    ended = await asyncio.gather(*(rebuild_all(database) for _ in range(2)), return_exceptions=True)
    while any(isinstance(each, SupportError) for each in ended):
        ended = [await rebuild_all(database)]
    await check_report(database, [writer])
    await check_results(database, [writer])


@both_databases
async def test_a_second_rebuild_adds_only_what_is_older(service, database):
    """From a time in the middle on, and then from the beginning."""
    writer = Writer(service, "steps")
    await writer.run()
    times = sorted(at for _, _, at, *_ in writer.occurrences)
    middle = times[len(times) // 2]
    await migrate(database)
    later = await rebuild_all(database, middle)
    assert 0 < later < len(times)
    assert later + await rebuild_all(database) == len(times)
    await check_report(database, [writer])
    await check_results(database, [writer])
    state = await database.fetch_one(sa.select(report_state))
    assert (state.rebuilt_from, state.rebuilding_from) == (LONG_AGO, None)


async def test_nothing_is_missing_in_a_new_database(database):
    """Reports say so."""
    reports = ReportCounters(database, CHANNELS)
    assert (await reports.read(ReportQuestion(("day",), 0, 1, {}), 10)).since is None
    assert await ReportRebuild(database, CHANNELS).begin(LONG_AGO) == 0
