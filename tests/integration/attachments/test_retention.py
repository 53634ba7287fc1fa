"""Files of settled cases are deleted by age and status, and each deletion is recorded; the scrub reads files again."""

import asyncio
import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.jobs import AttachmentMaintenance, MaintenanceOptions
from support_service.attachments.maintenance.retention_queries import list_expired
from support_service.attachments.model import FileTotals, attachment_url
from support_service.cases.requests import Closing, NewCase
from support_service.database.tables import attachment_deletions, outbox
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.conftest import both_databases


async def close(world):
    """Close the world's case, and open another."""
    await world.cases.close_case(SYSTEM_CONTEXT, world.case_id, Closing())
    world.case_id = (await world.cases.open_case(SYSTEM_CONTEXT, NewCase(subject="B", channel="email"))).id


async def records(world):
    """Every recorded deletion."""
    columns = (attachment_deletions.c.attachment_id, attachment_deletions.c.reason, attachment_deletions.c.sha256)
    return [tuple(row) for row in await world.database.fetch_all(sa.select(*columns))]


async def heard(world, change):
    """The data of the events of a kind of change, in their order."""
    rows = await world.database.fetch_all(sa.select(outbox.c.event).order_by(outbox.c.seq))
    events = [json.loads(event)["data"] for (event,) in rows]
    return [data for data in events if data.get("changeType") == change]


@both_databases
async def test_files_of_closed_cases_go_when_they_are_old(world, scrape):
    """Only files of closed cases go, only old ones, wherever they lie; a dry run names them and deletes nothing."""
    gone = [await world.add(b"one"), await world.add(b"two")]
    await world.move(limit=1)
    await close(world)
    stays = await world.add(b"three")
    assert await world.retention.run(SYSTEM_CONTEXT, world.clock() - timedelta(days=1)) == FileTotals(0, 0)
    named = []
    assert await world.retention.run(SYSTEM_CONTEXT, world.clock(), dry_run=True, report=named.append) == FileTotals(
        2, 6
    )
    assert [attachment.id for attachment in named] == [attachment.id for attachment in gone]
    assert await records(world) == []
    assert await world.retention.run(SYSTEM_CONTEXT, world.clock()) == FileTotals(2, 6)
    assert sorted(await records(world)) == sorted((each.id, "retention", each.sha256) for each in gone)
    assert scrape.moved("support_attachment_deleted_total") == {"retention": 2}
    await world.reconcile_later()
    (row,) = await world.check_consistency()
    assert row.id == stays.id


@both_databases
async def test_a_limit_and_other_statuses(world):
    """A limit bounds what is deleted; a status that is not asked for is safe."""
    for data in (b"one", b"two", b"three"):
        await world.add(data)
    await close(world)
    assert await world.retention.run(SYSTEM_CONTEXT, world.clock(), ["resolved"]) == FileTotals(0, 0)
    assert (await world.retention.run(SYSTEM_CONTEXT, world.clock(), ["resolved", "closed"], limit=2)).files == 2
    await world.reconcile_later()
    assert len(await world.check_consistency()) == 1


@both_databases
async def test_who_hears_events_is_told_which_files_go(world):
    """Each file that goes by age or by request is an event, kept with its removal, as it was when it came."""
    told = [await world.add(data, f"{data.decode()}.txt") for data in (b"one", b"two", b"three")]
    await world.service.remove(SYSTEM_CONTEXT, world.case_id, told[2].id)
    case_id = world.case_id
    await close(world)
    await world.retention.run(SYSTEM_CONTEXT, world.clock(), dry_run=True)
    await world.retention.run(SYSTEM_CONTEXT, world.clock())
    come, gone = await heard(world, "attachment.added"), await heard(world, "attachment.removed")
    by_id = {data["attachment"]["id"]: data for data in gone}
    assert {data["attachment"]["id"]: data["attachment"] for data in come} == {
        name: data["attachment"] for name, data in by_id.items()
    }
    assert len(gone) == len(told)
    assert {data["ticket"]["id"] for data in gone} == {case_id}
    assert [by_id[file.id]["ticket"]["status"] for file in told] == ["closed", "closed", "open"]


@both_databases
async def test_no_one_is_told_of_files_that_stay_or_of_made_up_ones(world):
    """A removal that does not take place is no event, nor is one from a made-up case."""
    kept = await world.add(b"one")
    answers = await asyncio.gather(
        *(world.service.remove(SYSTEM_CONTEXT, world.case_id, kept.id) for _ in range(4)), return_exceptions=True
    )
    assert answers.count(None) == 1
    assert len(await heard(world, "attachment.removed")) == 1
    world.case_id = (await world.cases.open_case(SYSTEM_CONTEXT, NewCase(subject="C", channel="synthetic"))).id
    await world.add(b"two")
    await close(world)
    assert (await world.retention.run(SYSTEM_CONTEXT, world.clock())).files == 1
    assert len(await heard(world, "attachment.removed")) == 1


async def test_the_address_of_a_file_that_goes_by_its_age(world):
    """It is told with the service's public address, as when it came."""
    kept = await world.add(b"one")
    await close(world)
    options = MaintenanceOptions(public_url="https://support.example")
    maintenance = AttachmentMaintenance(world.database, world.storages, world.instruments, options)
    await maintenance.retention.run(SYSTEM_CONTEXT, world.clock())
    (data,) = await heard(world, "attachment.removed")
    assert data["attachment"]["uri"] == attachment_url(
        "https://support.example", kept.ticket_id, kept.id, kept.filename
    )


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_two_retentions_at_once(world):
    """What one has in hand the other leaves out, and neither waits for the other."""
    await world.add(b"one")
    await close(world)
    async with world.database.transaction() as tx:
        assert len(await list_expired(tx, world.clock(), ["closed"], 0, 10, lock=True)) == 1
        assert await world.retention.run(SYSTEM_CONTEXT, world.clock()) == FileTotals(0, 0)
        assert await world.retention.run(SYSTEM_CONTEXT, world.clock(), dry_run=True) == FileTotals(1, 3)
    assert await world.retention.run(SYSTEM_CONTEXT, world.clock()) == FileTotals(1, 3)


async def test_a_removal_by_request_is_recorded(world):
    """What a client deletes is recorded too."""
    kept = await world.add(b"one")
    await world.service.remove(SYSTEM_CONTEXT, world.case_id, kept.id)
    assert await records(world) == [(kept.id, "request", kept.sha256)]
    await world.check_consistency()


@both_databases
async def test_the_scrub_finds_every_wrong_byte(world, scrape):
    """A file of the right size with a wrong byte is found on either storage, named and counted; good ones are too."""
    files = [await world.add(bytes([number]) * 10) for number in range(4)]
    await world.move(limit=2)
    await world.reconcile_later()
    bad = files[3]
    (world.folder / bad.storage_key).write_bytes(b"\x03" * 9 + b"!")
    named = []
    assert await world.scrubber.run(1.0, named.append) == {"ok": 3, "mismatch": 1}
    assert [each.attachment.id for each in named if each.outcome == "mismatch"] == [bad.id]
    assert scrape.moved("support_attachment_scrubbed_total") == {"ok": 3, "mismatch": 1}
    assert await world.scrubber.run(0.0) == {"ok": 0, "mismatch": 0}
