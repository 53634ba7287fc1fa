"""The sweep repairs what is safe, reports the rest, and deletes nothing that is young or named."""

import os
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.reconcile import correct_ledger
from support_service.core.errors import Unavailable
from support_service.platform.database.tables import attachment_ledger
from tests.conftest import both_databases
from tests.support.attachments.harness import ALL_CLAIMS_EXPIRED
from tests.support.attachments.streams import stream

NOTHING = dict.fromkeys(("unfinished", "orphan", "leftover", "ledger", "missing", "damaged", "young"), 0)


@both_databases
async def test_inconsistencies_are_repaired_and_counted(harness, scrape):
    """Files without a row, unfinished uploads and a wrong ledger, by kind."""
    kept = await harness.add(b"hello")
    for storage in harness.storages.values():
        await storage.put(stream(b"orphan"))
    half = harness.folder / "tmp" / "half"
    half.write_bytes(b"half")
    async with harness.database.transaction() as tx:
        await tx.execute(attachment_ledger.update().values(files=7, bytes=7))
    old = (datetime.now(UTC) - timedelta(minutes=5)).timestamp()
    os.utime(half, (old, old))

    named = []
    assert await harness.reconciler.run(dry_run=True, report=named.append) == NOTHING | {"ledger": 2, "young": 2}
    kinds = {(kind, storage) for kind in ("ledger", "young") for storage in ("local", "s3")}
    assert {(each.kind, each.storage) for each in named} == kinds
    assert half.exists()
    harness.clock_offset = ALL_CLAIMS_EXPIRED
    assert await harness.reconciler.run(report=named.append) == NOTHING | {"orphan": 2, "unfinished": 1, "ledger": 2}
    (row,) = await harness.check_consistency()
    assert row.id == kept.id
    assert scrape.nonzero("support_attachment_sweep_repairs_total") == {"orphan": 2, "unfinished": 1, "ledger": 2}
    assert await harness.reconcile_later() == NOTHING


async def test_missing_and_damaged_files_are_reported_and_kept(harness):
    """A row without its file, and a file of another size. Nothing is deleted."""
    missing, damaged, whole = await harness.add(b"one"), await harness.add(b"two"), await harness.add(b"three")
    (harness.folder / missing.storage_key).unlink()
    (harness.folder / damaged.storage_key).write_bytes(b"tw")
    named = []
    assert harness.reconciler.unrepaired() == {}
    harness.clock_offset = ALL_CLAIMS_EXPIRED
    await harness.reconciler.run(report=named.append)
    found = {(finding.kind, finding.name.split()[0]) for finding in named}
    assert found == {("missing", missing.id), ("damaged", damaged.id)}
    assert harness.reconciler.unrepaired() == {"missing": 1, "damaged": 1}
    assert len(await harness.stored_keys("local")) == 2
    assert await harness.read_content(whole) == b"three"


async def test_recent_file_without_a_row_is_kept(harness):
    """For a day: its upload or import may be about to commit. A dry run lists it.

    A large object is as old as the beginning of its upload, which may have taken hours. An import stores the files of
    many cases before it commits.
    """
    near, far = await harness.local.put(stream(b"hello")), await harness.s3.put(stream(b"hello"))
    harness.clock_offset = timedelta(hours=23)
    assert await harness.reconciler.run() == NOTHING
    named = []
    assert await harness.reconciler.run(dry_run=True, report=named.append) == NOTHING | {"young": 2}
    assert {each.name for each in named} == {near.key, far.key}
    assert await harness.stored_keys("local") == {near.key}
    assert await harness.stored_keys("s3") == {far.key}
    harness.clock_offset = timedelta(hours=25)
    assert await harness.reconciler.run() == NOTHING | {"orphan": 2}


async def test_files_of_other_programs_are_kept(harness, s3):
    """Whatever their age and place."""
    for key in ("backup.tar", "ab/cd", "ab/" + "x" * 32, "zz/other"):
        s3.replace(harness.bucket, key, b"not ours")
    (harness.folder / "ab" / "README").write_text("not ours")
    assert await harness.reconcile_later() == NOTHING
    assert await harness.stored_keys("s3") == {"backup.tar", "ab/cd", "ab/" + "x" * 32, "zz/other"}
    assert await harness.stored_keys("local") == {"ab/README"}


async def test_reconcile_covers_the_disk_while_s3_is_down(harness, gateway):
    """No file on S3 counts as missing, and the failure is reported. The number of missing files is unknown then."""
    await gateway.kill()
    with pytest.raises(Unavailable):
        await harness.reconciler.run()
    assert harness.reconciler.unrepaired() == {}
    await gateway.start()
    await harness.add(b"hello")
    await harness.offload()
    await harness.reconcile_later()
    assert await harness.reconcile_later() == NOTHING
    assert harness.reconciler.unrepaired() == {"missing": 0, "damaged": 0}
    await harness.local.put(stream(b"orphan"))
    await gateway.kill()
    harness.clock_offset += ALL_CLAIMS_EXPIRED
    named = []
    with pytest.raises(Unavailable):
        await harness.reconciler.run(report=named.append)
    assert [finding.kind for finding in named] == ["orphan"]


@both_databases
async def test_ledger_is_corrected_during_uploads(harness):
    """It is corrected once, also by two sweeps; later uploads are added to the corrected value."""
    await harness.add(b"hello")
    async with harness.database.transaction() as tx:
        await tx.execute(sa.update(attachment_ledger).where(attachment_ledger.c.storage == "local").values(files=9))
    assert (await harness.reconciler.run())["ledger"] == 1
    async with harness.database.transaction() as tx:
        await correct_ledger(tx)  # by a sweep that had compared before
    await harness.add(b"world")
    await harness.check_consistency()
