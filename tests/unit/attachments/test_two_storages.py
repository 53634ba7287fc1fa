"""What moves, sweeps, scrubs and removes files, between two folders of one disk: no server is needed."""

import asyncio
import logging
import random
from datetime import timedelta

import pytest

from support_service.attachments import garbage
from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.maintenance import jobs
from support_service.attachments.maintenance.jobs import AttachmentMaintenance
from support_service.attachments.maintenance.reconcile import Finding
from support_service.attachments.maintenance.scrub import Scrubber
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.base import FileInfo
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.cases.case_files import STAGING_TIME
from support_service.cases.model.files import FileTotals
from support_service.cases.model.requests import Closing, NewCase
from support_service.cases.sql import attachment_rows
from support_service.core.errors import Unavailable
from support_service.platform.database.tables import attachment_ledger
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.attachments.harness import ALL_CLAIMS_EXPIRED, AttachmentHarness, add_file
from tests.support.attachments.streams import stream
from tests.support.scrape import Scrape

BACKLOG = "support_attachment_backlog_age_seconds"


class Elsewhere(LocalAttachmentStorage):
    name = "s3"


@pytest.fixture
async def disks(database, tmp_path, metrics_and_scrape):
    harness = AttachmentHarness(
        database, tmp_path / "files", "http://127.0.0.1:1", "bucket", Instruments(metrics_and_scrape[0].meter)
    )
    harness.s3 = harness.storages["s3"] = Elsewhere(tmp_path / "elsewhere")
    await harness.open()
    await harness.s3.open()
    yield harness
    await harness.local.close()
    await harness.s3.close()


def only_local(harness):
    """The storages of a process to which the second one is not set up."""
    return {"local": harness.local}


async def moved(harness, data=b"hello"):
    kept = await harness.add(data)
    assert [each.outcome for each in await harness.offload()] == ["moved"]
    return await harness.reload(kept)


async def test_copy_with_other_bytes_is_not_used(disks, monkeypatch):
    """It counts as a mismatch, and the row keeps the old file. A failing callback stops the offload with its error."""
    kept = await disks.add()

    def fail(_):
        raise LookupError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(disks.s3, "read", lambda *_, **__: stream(b"other"))
        (told,) = await disks.offload()
    assert told.outcome == "mismatch"
    assert told.reason.startswith("the copy: Its bytes have SHA-256 ")
    assert (await disks.reload(kept)).storage == "local"
    disks.clock_offset = ALL_CLAIMS_EXPIRED
    with pytest.raises(ExceptionGroup) as failures:
        await disks.offloader().run(disks.clock(), report=fail)
    assert failures.group_contains(LookupError, match="unforeseen")
    assert await disks.read_content(kept) == b"hello"


async def test_claims_are_renewed_during_a_run(disks, monkeypatch, caplog, constants):
    """Also after the database was unavailable for one renewal."""
    constants("attachments.maintenance.offload", CLAIM_RENEWAL_INTERVAL=0.0)
    await disks.add()
    offloader, renewals, renewed = disks.offloader(), [], asyncio.Event()
    renew_claims = offloader.files.renew_claims

    async def renew_after_a_failure(name):
        renewals.append(name)
        if len(renewals) == 1:
            raise Unavailable("database_unavailable", "It is out of reach.")
        await renew_claims(name)
        renewed.set()

    async def slow(*_, **__):
        await renewed.wait()
        yield b"hello"

    monkeypatch.setattr(offloader.files, "renew_claims", renew_after_a_failure)
    monkeypatch.setattr(disks.local, "read", slow)
    assert [each.outcome for each in await disks.offload(offloader)] == ["moved"]
    assert len(set(renewals)) == 1
    assert [record.message for record in caplog.records] == [
        "Renewing the claims of an offload run failed; retrying in 0 s"
    ]


async def test_expired_staged_files_are_deleted_in_batches(disks, monkeypatch):
    """Each is one transaction, which blocks other writers."""
    for _ in range(5):
        await add_file(disks.service, disks.case_id, "a", None, stream(b"x"), staged=True)
    delete, deleted = garbage.delete_expired_staged, []

    async def noting(*arguments):
        deleted.append(await delete(*arguments))
        return deleted[-1]

    monkeypatch.setattr(garbage, "delete_expired_staged", noting)
    disks.clock_offset = STAGING_TIME + timedelta(seconds=1)
    await GarbageCollector(disks.database, disks.storages, disks.clock, batch_size=2).run()
    assert deleted == [2, 2, 1]


async def test_file_that_always_fails_blocks_no_others(disks, monkeypatch):
    """A run ends with the first failure of a storage. The next one deletes the others, the one after it tries again."""
    now, delete, tried = disks.clock(), disks.local.delete, []
    entries = [attachment_rows.garbage_entry_of(await disks.add()) for _ in range(3)]
    async with disks.database.transaction() as tx:
        await attachment_rows.add_garbage(tx, entries, now)

    async def fail_for_the_first(key):
        tried.append(key)
        if key == tried[0]:
            raise Unavailable("storage_unavailable", "It is out of reach.")
        await delete(key)

    monkeypatch.setattr(disks.local, "delete", fail_for_the_first)
    collector = GarbageCollector(disks.database, disks.storages, lambda: now)
    for found in ((FileTotals(0, 0), 3), (FileTotals(2, 10), 0), (FileTotals(0, 0), 1)):
        assert await collector.run() == found
        now += garbage.RETRY_DELAY


async def test_garbage_on_an_unconfigured_storage_waits(disks, caplog):
    """This is logged, and files there are not scrubbed."""
    kept = await moved(disks)
    assert await Scrubber(disks.database, only_local(disks), disks.instruments).run(1.0) == {"ok": 0, "mismatch": 0}
    service = AttachmentService(disks.database, only_local(disks), disks.instruments, AttachmentSettings(max_bytes=100))
    await service.remove(SYSTEM_ORIGIN, disks.case_id, kept.id)
    disks.clock_offset = ALL_CLAIMS_EXPIRED
    caplog.clear()
    assert await GarbageCollector(disks.database, only_local(disks), disks.clock).run() == (
        FileTotals(1, 5),  # what the move left
        1,
    )
    assert [record.message for record in caplog.records] == [
        f"Can't delete {kept.storage_key}: its storage s3 is not configured"
    ]
    assert await disks.garbage_keys() == [kept.storage_key]
    assert await disks.stored_keys("s3") == {kept.storage_key}


async def test_scrub_reads_a_random_sample(disks, monkeypatch):
    """It fails if a storage is unavailable, and a file that is removed meanwhile is no mismatch."""
    kept, _ = await disks.add(), await disks.add()
    away = disks.folder.with_name("away")
    disks.folder.rename(away)
    with pytest.raises(Unavailable):
        await disks.scrubber.run(1.0)
    away.rename(disks.folder)
    draws = iter(2 * [0.2, 0.7])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    assert await disks.scrubber.run(0.5) == {"ok": 1, "mismatch": 0}

    async def meanwhile(*_, **__):
        await disks.service.remove(SYSTEM_ORIGIN, disks.case_id, kept.id)
        yield b"other"

    monkeypatch.setattr(disks.local, "read", meanwhile)
    assert await disks.scrubber.run(0.5) == {"ok": 0, "mismatch": 0}


@pytest.mark.parametrize("listed", [0, 2, None], ids=["empty", "part", "absent"])
async def test_file_listed_while_it_was_written_is_not_damaged(disks, monkeypatch, listed):
    """A small file is written under its final name, and its row is stored once it is complete.

    A file that is deleted meanwhile is not missing. A dry run reports an orphan, and deletes nothing.
    """
    kept, orphan = await disks.add(b"hello"), await disks.local.put(stream(b"orphan"))
    disks.clock_offset, found = ALL_CLAIMS_EXPIRED, []
    await disks.reconciler.run(dry_run=True, report=found.append)
    assert found == [Finding("orphan", "local", orphan.key)]
    assert await disks.stored_keys("local") == {kept.storage_key, orphan.key}

    async def listing():
        if listed is not None:
            yield FileInfo(kept.storage_key, listed, disks.clock())

    async def meanwhile(_):
        await disks.service.remove(SYSTEM_ORIGIN, disks.case_id, kept.id)

    monkeypatch.setattr(disks.local, "list", listing)
    counted = await disks.reconciler.run()
    assert (counted["damaged"], counted["missing"]) == (0, 0)
    monkeypatch.setattr(disks.local, "list", lambda: stream(b""))
    monkeypatch.setattr(disks.local, "stat", meanwhile)
    assert (await disks.reconciler.run())["missing"] == 0


async def test_file_is_kept_if_the_result_of_its_commit_is_unknown(disks, monkeypatch):
    """The row may exist; the reconcile decides."""
    transaction = disks.database.transaction

    class Lost:
        def __init__(self, *rows, **options):
            self._real = transaction(*rows, **options)

        async def __aenter__(self):
            return await self._real.__aenter__()

        async def __aexit__(self, *failure):
            await self._real.__aexit__(*failure)
            raise Unavailable("database_unavailable", "The answer was lost.")

    monkeypatch.setattr(disks.database, "transaction", Lost)
    with pytest.raises(Unavailable):
        await disks.add()
    monkeypatch.undo()
    assert len(await disks.check_consistency()) == 1


async def test_backlog_is_unknown_without_local_storage(disks):
    """It is unknown before the first query too, and there is no free space to report."""
    metrics = Metrics(("prometheus",), build_resource())
    scrape, instruments = Scrape(metrics), Instruments(metrics.meter)
    service = AttachmentService(disks.database, {"s3": disks.s3}, instruments, AttachmentSettings(max_bytes=100))
    assert scrape.label_sets(BACKLOG) == []
    await service.backlog.refresh()
    assert scrape.value(BACKLOG) == 0.0
    assert scrape.label_sets("support_attachment_disk_free_bytes") == []
    assert scrape.label_sets("support_attachment_volume") == []
    metrics.close()


async def test_missing_ledger_row_is_an_error(disks):
    async with disks.database.transaction() as tx:
        await tx.execute(attachment_ledger.delete())
    with pytest.raises(LookupError, match="has no row for a storage"):
        await attachment_rows.read_ledger_totals(disks.database, "local")


async def test_background_jobs_log_their_findings(disks, monkeypatch, caplog):
    """Files that can't be moved, damaged files, and what a retention deleted."""
    monkeypatch.setattr(jobs, "utc_now", lambda: disks.clock() + ALL_CLAIMS_EXPIRED)

    def in_charge(retention=None):
        chosen = AttachmentSettings(scrub="100%", retention=retention)
        settings = Settings.load({}).model_copy(update={"attachments": chosen})
        return AttachmentMaintenance(disks.database, disks.storages, disks.instruments, settings)

    def told():
        lines = [record.message for record in caplog.records if record.name == jobs.__name__]
        caplog.clear()
        return lines

    old = await disks.add(b"old")
    await disks.cases.close_case(SYSTEM_ORIGIN, disks.case_id, Closing())
    disks.case_id = (await disks.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="B", channel="email"))).id
    good, bad = await disks.add(b"good"), await disks.add(b"hello")
    (disks.folder / bad.storage_key).write_bytes(b"jello")
    with caplog.at_level(logging.INFO, jobs.__name__):
        await in_charge().run_hourly_jobs()
        assert [line.partition(":")[0] for line in told()] == [f"Attachment {bad.id} does not match its recorded hash"]
        assert await disks.reload(old) == old
        await in_charge(retention="1d").run_hourly_jobs()
        assert told()[0] == "Retention deleted 1 files of 3 bytes"
        assert await disks.reload(old) is None
        await in_charge(retention="1d").run_hourly_jobs()
        assert [line.partition(":")[0] for line in told()] == [f"Attachment {bad.id} does not match its recorded hash"]
        await in_charge().offload()
        assert [line.partition(": ")[0] for line in told()] == [f"Attachment {bad.id} was not moved"]
        assert (await disks.reload(good)).storage == "s3"
