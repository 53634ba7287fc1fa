"""Files of settled cases are deleted by age and status, and each deletion is recorded; the scrub reads files again."""

import asyncio
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.jobs import AttachmentMaintenance
from support_service.attachments.maintenance.retention import list_expired
from support_service.cases.links import LinkService
from support_service.cases.model.files import FileTotals, attachment_url
from support_service.cases.model.requests import Closing, NewCase
from support_service.platform.database.tables import attachment_deletions, outbox
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import recorder


async def close(harness):
    await harness.cases.close_case(SYSTEM_ORIGIN, harness.case_id, Closing())
    harness.case_id = (await harness.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="B", channel="email"))).id


async def records(harness):
    columns = (attachment_deletions.c.attachment_id, attachment_deletions.c.reason, attachment_deletions.c.sha256)
    return [tuple(row) for row in await harness.database.fetch_all(sa.select(*columns))]


async def heard(harness, change):
    rows = await harness.database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))
    events = [json.loads(event)["data"] for (event,) in rows]
    return [data for data in events if data.get("changeType") == change]


@both_databases
async def test_old_files_of_closed_cases_are_deleted(harness, scrape):
    """On any storage, up to a limit. A dry run lists them and deletes nothing. Cases with other statuses keep theirs.

    A deletion by a client is recorded, too.
    """
    by_client = await harness.add(b"four")
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, by_client.id)
    recorded = [(by_client.id, "request", by_client.sha256)]
    gone = [await harness.add(b"one"), await harness.add(b"two")]
    await harness.offload(limit=1)
    await close(harness)
    stays = await harness.add(b"three")
    run, clock = harness.retention.run, harness.clock
    assert await run(SYSTEM_ORIGIN, clock() - timedelta(days=1)) == FileTotals(0, 0)
    assert await run(SYSTEM_ORIGIN, clock(), ["resolved"]) == FileTotals(0, 0)
    named = []
    assert await run(SYSTEM_ORIGIN, clock(), dry_run=True, report=named.append) == FileTotals(2, 6)
    assert [attachment.id for attachment in named] == [attachment.id for attachment in gone]
    assert await records(harness) == recorded
    assert await run(SYSTEM_ORIGIN, clock(), ["resolved", "closed"], limit=1) == FileTotals(1, 3)
    assert await run(SYSTEM_ORIGIN, clock()) == FileTotals(1, 3)
    recorded += [(each.id, "retention", each.sha256) for each in gone]
    assert sorted(await records(harness)) == sorted(recorded)
    assert scrape.nonzero("support_attachment_deleted_total") == {"retention": 2, "request": 1}
    await harness.reconcile_later()
    (row,) = await harness.check_consistency()
    assert row.id == stays.id


@both_databases
async def test_files_of_a_duplicate_stay_while_its_original_is_worked_on(harness):
    """They are read with it, also by way of another duplicate. They are deleted once its own are."""
    links = LinkService(harness.database, recorder(harness.database, harness.instruments))
    chain = [harness.case_id]
    await harness.add()
    for subject in ("B", "C"):
        chain.append((await harness.cases.open_case(SYSTEM_ORIGIN, NewCase(subject=subject, channel="email"))).id)
        await links.merge(SYSTEM_ORIGIN, *chain[-2:])
    assert await harness.retention.run(SYSTEM_ORIGIN, harness.clock()) == FileTotals(0, 0)
    before = harness.clock()
    await harness.cases.close_case(SYSTEM_ORIGIN, chain[-1], Closing())
    assert await harness.retention.run(SYSTEM_ORIGIN, before) == FileTotals(0, 0)
    assert await harness.retention.run(SYSTEM_ORIGIN, harness.clock()) == FileTotals(1, 5)


async def test_each_deleted_file_is_an_event(harness):
    """Whether deleted by age or by request. The event has the file as it was and is stored with its deletion.

    Its address is the public one.
    """
    told = [await harness.add(data, f"{data.decode()}.txt") for data in (b"one", b"two", b"three")]
    await harness.service.remove(SYSTEM_ORIGIN, harness.case_id, told[2].id)
    case_id = harness.case_id
    await close(harness)
    await harness.retention.run(SYSTEM_ORIGIN, harness.clock(), dry_run=True)
    await harness.retention.run(SYSTEM_ORIGIN, harness.clock())
    come, gone = await heard(harness, "attachment.added"), await heard(harness, "attachment.removed")
    by_id = {data["attachment"]["id"]: data for data in gone}
    removed = {name: data["attachment"] for name, data in by_id.items()}
    assert {data["attachment"]["id"]: data["attachment"] for data in come} == removed
    assert len(gone) == len(told)
    assert {data["ticket"]["id"] for data in gone} == {case_id}
    assert [by_id[file.id]["ticket"]["status"] for file in told] == ["closed", "closed", "open"]
    kept = await harness.add(b"one")
    await close(harness)
    settings = Settings.load({"SUPPORT_PUBLIC_URL": "https://support.example"})
    maintenance = AttachmentMaintenance(harness.database, harness.storages, harness.instruments, settings)
    await maintenance.retention.run(SYSTEM_ORIGIN, harness.clock())
    url = attachment_url("https://support.example", kept.ticket_id, kept.id, kept.filename)
    assert (await heard(harness, "attachment.removed"))[-1]["attachment"]["uri"] == url


async def test_no_event_for_kept_files_and_synthetic_cases(harness):
    """A deletion that is rolled back is no event."""
    kept = await harness.add(b"one")
    answers = await asyncio.gather(
        *(harness.service.remove(SYSTEM_ORIGIN, harness.case_id, kept.id) for _ in range(4)), return_exceptions=True
    )
    assert answers.count(None) == 1
    assert len(await heard(harness, "attachment.removed")) == 1
    harness.case_id = (await harness.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="C", channel="synthetic"))).id
    await harness.add(b"two")
    await close(harness)
    assert (await harness.retention.run(SYSTEM_ORIGIN, harness.clock())).files == 1
    assert len(await heard(harness, "attachment.removed")) == 1


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_concurrent_retentions_share_the_files(harness):
    """Each skips what the other has claimed, and neither waits."""
    await harness.add(b"one")
    await close(harness)
    async with harness.database.transaction() as tx:
        assert len(await list_expired(tx, harness.clock(), ["closed"], None, 10, lock=True)) == 1
        assert await harness.retention.run(SYSTEM_ORIGIN, harness.clock()) == FileTotals(0, 0)
        assert await harness.retention.run(SYSTEM_ORIGIN, harness.clock(), dry_run=True) == FileTotals(1, 3)
    assert await harness.retention.run(SYSTEM_ORIGIN, harness.clock()) == FileTotals(1, 3)


async def test_scrub_finds_every_changed_byte(harness, scrape):
    """A file of the right size with a changed byte is found on either storage, reported and counted."""
    files = [await harness.add(bytes([number]) * 10) for number in range(4)]
    await harness.offload(limit=2)
    await harness.reconcile_later()
    bad = files[3]
    (harness.folder / bad.storage_key).write_bytes(b"\x03" * 9 + b"!")
    named = []
    assert await harness.scrubber.run(1.0, named.append) == {"ok": 3, "mismatch": 1}
    assert [each.attachment.id for each in named if each.outcome == "mismatch"] == [bad.id]
    assert scrape.nonzero("support_attachment_scrubbed_total") == {"ok": 3, "mismatch": 1}
    assert await harness.scrubber.run(0.0) == {"ok": 0, "mismatch": 0}
