"""Files move between storages: each whole, each once, each where its row says, whatever happens on the way."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments import garbage
from support_service.attachments.garbage import BATCH_LEASE, RETRY_DELAY, GarbageCollector
from support_service.attachments.maintenance import file_mover
from support_service.attachments.maintenance.file_mover import CLAIM_LEASE, UNMOVABLE_RETRY_DELAY, Throttle
from support_service.attachments.maintenance.offload import DELETE_GRACE, RETRY_AFTER_TARGET_FAILURE
from support_service.cases.model.files import FileTotals
from support_service.cases.sql import attachment_rows
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import NotFound, Unavailable
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.attachments.streams import stream
from tests.support.calls import eventually

MOVED = "support_attachment_offloaded_total"


async def switch(tx, claimed, run_id, due_at):
    """Make the row of a claimed file name its copy on S3, for a run."""
    return await file_mover.switch_to_copy(tx, claimed.attachment, "s3", claimed.copy_key, mover=run_id, due_at=due_at)


@both_databases
async def test_files_are_offloaded(harness, scrape):
    """After the grace period they are on S3 only, where a reader with an older row finds them, too."""
    kept = [await harness.add(bytes([number]) * size) for number, size in enumerate((0, 1, 1000, 6_000_000))]
    total = 6_001_001
    assert await harness.offloader().pending_totals(harness.clock()) == FileTotals(4, total)
    assert {moved.outcome for moved in await harness.offload()} == {"moved"}
    assert len(await harness.stored_keys("local")) == 4  # for downloads that have just begun
    harness.clock_offset += DELETE_GRACE
    assert await harness.garbage_collector.run() == (FileTotals(4, total), 0)
    assert await harness.stored_keys("local") == set()
    assert b"".join([block async for block in harness.service.read(kept[2], 1, 3)]) == b"\2\2\2"
    assert [(await harness.reload(each)).storage for each in kept] == ["s3"] * 4
    assert await attachment_rows.read_ledger_totals(harness.database, "local") == FileTotals(0, 0)
    assert await attachment_rows.read_ledger_totals(harness.database, "s3") == FileTotals(4, total)
    await harness.check_consistency()
    assert scrape.value(MOVED, to="s3", outcome="moved") == 4
    assert scrape.value("support_attachment_offloaded_bytes_total", to="s3", outcome="moved") == total
    assert scrape.value("support_attachment_offload_seconds_count", to="s3") == 4


@both_databases
async def test_oldest_files_are_offloaded_first(harness):
    """A limit selects the oldest. Files younger than the given age stay."""
    first, second, third = [await harness.add(name=name) for name in "abc"]
    moved = []
    await harness.offloader().run(second.created_at, limit=1, report=moved.append)
    assert [each.attachment.id for each in moved] == [first.id]
    await harness.offloader().run(second.created_at)
    assert [(await harness.reload(each)).storage for each in (first, second, third)] == ["s3", "s3", "local"]


@both_databases
async def test_concurrent_offloads_move_each_file_once(harness, constants):
    constants("attachments.maintenance.offload", CLAIM_BATCH=8)
    kept = [await harness.add(bytes([number])) for number in range(24)]
    runs = await asyncio.gather(*(harness.offload() for _ in range(4)))  # each claims several times
    moved = [each.attachment.id for run in runs for each in run]
    assert sorted(moved) == sorted(each.id for each in kept)
    assert len(await harness.stored_keys("s3")) == 24
    await harness.reconcile_later()
    assert len(await harness.check_consistency()) == 24


async def test_damaged_file_is_not_offloaded(harness, scrape):
    """It is reported with the reason, counted, and skipped for a while. Its copy is deleted."""
    good, bad, short = await harness.add(b"good"), await harness.add(b"bad!"), await harness.add(b"short")
    (harness.folder / bad.storage_key).write_bytes(b"BAD!")
    (harness.folder / short.storage_key).write_bytes(b"sho")
    outcomes = {moved.attachment.id: moved.outcome for moved in await harness.offload()}
    assert outcomes == {good.id: "moved", bad.id: "mismatch", short.id: "unreadable"}
    assert (await harness.reload(bad)).storage == "local"
    assert await harness.offload() == []
    await harness.garbage_collector.run()
    assert await harness.stored_keys("s3") == {(await harness.reload(good)).storage_key}
    harness.clock_offset += UNMOVABLE_RETRY_DELAY + timedelta(seconds=1)
    assert {moved.outcome for moved in await harness.offload()} == {"mismatch", "unreadable"}
    assert scrape.value(MOVED, to="s3", outcome="mismatch") == 2


@both_databases
async def test_file_deleted_before_or_during_its_offload_is_removed(harness, scrape):
    """Neither the file nor its copy stays, and it is not reported as unreadable."""
    before, during = await harness.add(b"hello"), await harness.add(b"world")
    mover = harness.offloader().files
    claims = {each.attachment.id: each for each in await mover.claim(harness.clock(), "mover", 10)}
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, before.id)
    assert (await mover.move(claims[before.id], "mover", Throttle(None))).outcome == "gone"
    assert scrape.value(MOVED, to="s3", outcome="unreadable") == 0
    claimed = claims[during.id]
    await harness.s3.put(harness.local.read(claimed.attachment.storage_key, 0, 5), key=claimed.copy_key)
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, during.id)
    async with harness.database.transaction() as tx:
        assert not await switch(tx, claimed, "mover", harness.clock())
    await harness.reconcile_later()
    assert await harness.check_consistency() == []


@both_databases
async def test_expired_claim_of_an_offload_has_no_effect(harness):
    """Once another run has claimed the file, the first can't change its row. The file is moved once.

    A row never refers to a copy that is being deleted, from the moment at which the deletion starts.
    """
    kept = await harness.add(b"hello")
    slow = harness.offloader().files
    (claimed,) = await slow.claim(harness.clock(), "slow", 10)
    assert await harness.offload() == []
    await harness.s3.put(harness.local.read(claimed.attachment.storage_key, 0, 5), key=claimed.copy_key)
    harness.clock_offset += CLAIM_LEASE + timedelta(seconds=1)
    async with harness.database.transaction() as tx:
        assert len(await garbage.claim_due_garbage(tx, harness.clock(), 10, until=harness.clock())) == 1
        await file_mover.renew_claims(tx, "slow", harness.clock() + CLAIM_LEASE)
    async with harness.database.transaction() as tx:
        assert not await switch(tx, claimed, "slow", harness.clock())
    harness.clock_offset += CLAIM_LEASE + timedelta(seconds=1)
    assert [moved.outcome for moved in await harness.offload()] == ["moved"]
    async with harness.database.transaction() as tx:
        assert not await switch(tx, claimed, "slow", harness.clock())
    await harness.reconcile_later()
    (row,) = await harness.check_consistency()
    assert (row.id, row.storage) == (kept.id, "s3")


async def test_offload_stops_while_s3_is_down(harness, gateway, scrape):
    """The run ends with an error and loses nothing; the next run continues."""
    kept = [await harness.add(bytes([number])) for number in range(40)]
    await gateway.kill()
    moved = []
    with pytest.raises(Unavailable):
        await harness.offloader().run(harness.clock(), report=moved.append)
    assert {each.outcome for each in moved} == {"failed"}
    assert scrape.value(MOVED, to="s3", outcome="moved") == 0
    assert [await harness.read_content(each) for each in kept] == [bytes([number]) for number in range(40)]
    harness.clock_offset += RETRY_AFTER_TARGET_FAILURE + timedelta(seconds=1)
    assert await harness.offloader().pending_totals(harness.clock()) == FileTotals(40, 40)


async def test_offload_skips_a_file_that_s3_refuses(harness, monkeypatch, constants):
    """The file ends one run. The next run skips it for a while and moves the others."""
    await harness.add(b"poison")
    await harness.add(b"hello")
    put = harness.s3.put

    async def refuse(chunks, *, size_hint, **options):
        if size_hint == len(b"poison"):
            raise Unavailable("storage_unavailable", "The object storage refuses")
        return await put(chunks, size_hint=size_hint, **options)

    monkeypatch.setattr(harness.s3, "put", refuse)
    constants("attachments.maintenance.offload", WORKERS=1)
    with pytest.raises(Unavailable):
        await harness.offload()
    assert [moved.outcome for moved in await harness.offload()] == ["moved"]
    harness.clock_offset += RETRY_AFTER_TARGET_FAILURE + timedelta(seconds=1)
    with pytest.raises(Unavailable):
        await harness.offload()


async def test_deletions_continue_on_other_storages_while_one_is_down(harness, gateway, monkeypatch):
    """One failure ends the turn of its storage. The rest is deleted when it is back, by one collector."""
    asked, delete = [], harness.s3.delete

    async def noting(key):
        asked.append(key)
        await delete(key)

    far = [await harness.add(data) for data in (b"one", b"two", b"three")]
    await harness.offload()
    await harness.reconcile_later()
    near = await harness.add(b"near")
    monkeypatch.setattr(harness.s3, "delete", noting)
    remover = GarbageCollector(harness.database, harness.storages, harness.clock, batch_size=2)
    await gateway.kill()
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, far[0].id)
    with pytest.raises(NotFound):
        await harness.service.get(SYSTEM, harness.case_id, far[0].id)
    assert (len(await harness.garbage_keys()), len(asked)) == (1, 1)
    async with harness.database.transaction() as tx:
        ids = [each.id for each in (*far[1:], near)]
        removed = await attachment_rows.remove(tx, ids, "request", harness.clock())
        await attachment_rows.subtract_from_ledger(tx, removed)
    harness.clock_offset += 2 * RETRY_DELAY + timedelta(seconds=1)
    asked.clear()
    assert await remover.run() == (FileTotals(1, near.size_bytes), 3)
    assert len(asked) == 1
    await gateway.start()
    harness.clock_offset += 2 * RETRY_DELAY + timedelta(seconds=1)
    async with harness.database.transaction() as tx:  # as another collector, whose claim is respected for a while
        assert len(await garbage.claim_due_garbage(tx, harness.clock(), 10, until=harness.clock() + BATCH_LEASE)) == 3
    assert await remover.run() == (FileTotals(0, 0), 0)
    harness.clock_offset += BATCH_LEASE + timedelta(seconds=1)
    assert (await remover.run()).deleted.files == 3
    assert await harness.check_consistency() == []


async def test_offload_reports_an_unavailable_database(harness, database, monkeypatch):
    """The run ends with the error that clients get."""
    await harness.add(b"hello")

    async def gone(*_, **__):
        raise Unavailable("database_unavailable", "The database can't be reached; try again")

    for step in ("switch_to_copy", "claim_files"):
        with monkeypatch.context() as patch:
            patch.setattr(file_mover, step, gone)
            with pytest.raises(Unavailable):
                await harness.offload()
    await harness.reconcile_later()
    (row,) = await harness.check_consistency()
    assert row.storage == "local"


async def test_offload_rate_is_limited(monkeypatch):
    """The rate applies to all files together. Without one there is no pause."""
    slept = []

    async def note(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    monkeypatch.setattr(asyncio, "sleep", note)
    paced, free = Throttle(1000), Throttle(None)
    for data in (b"x" * 1000, b"y" * 500):
        for pace in (paced, free):
            assert b"".join([block async for block in pace.limit(stream(data))]) == data
    assert slept == [1.0, 1.5]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_renewing_and_releasing_claims_do_not_deadlock(harness):
    """Both lock the rows in the same order."""
    await harness.add(b"hello")
    mover = harness.offloader().files
    (claimed,) = await mover.claim(harness.clock(), "mover", 10)

    async def holder_waits():
        rows = await harness.database.fetch_all(
            sa.select(sa.text("1")).select_from(sa.text("pg_locks WHERE NOT granted"))
        )
        return len(rows) > 0

    async with harness.database.transaction() as tx:
        await file_mover.make_copy_due(tx, "s3", claimed.copy_key, harness.clock())
        holding = asyncio.create_task(mover.renew_claims("mover"))
        await eventually(holder_waits)
        await file_mover.release_claim(tx, claimed.attachment.id, "mover")
    await holding
    assert await harness.offloader().pending_totals(harness.clock()) == FileTotals(1, 5)
