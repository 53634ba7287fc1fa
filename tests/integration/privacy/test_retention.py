"""Retention of cases: old closed cases are deleted as a whole, after they are stored in a sealed file."""

import asyncio
import hashlib
import json
import subprocess
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import pytest
import sqlalchemy as sa

from support_service.attachments.maintenance.reconcile import compare_ledger
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.commands import retention as retention_command
from support_service.commands.runtime import open_maintenance
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, Unavailable
from support_service.importing.archive import CaseArchive
from support_service.platform.audit import entry_rows
from support_service.platform.audit.verify import verify_chain
from support_service.platform.database.tables import attachments, customers, garbage, metadata, tickets
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.privacy import erasure, retention
from support_service.privacy.retention import CaseRetention, ExpiredCases
from support_service.timeline.snapshots import cache_key
from tests.conftest import both_databases
from tests.support.calls import (
    add_message,
    eventually,
    expect_json,
    expect_problem,
    list_cases,
    open_case,
    read_case,
    read_detail,
    stored_files,
    upload,
)
from tests.support.events.fixtures import hold_publications, read_published
from tests.support.importing import ImportRunner
from tests.support.links import add_link
from tests.support.privacy.erasing import PATIENT_ERASURE
from tests.support.privacy.stored import wait_until_published

WORD = "zaphod"  # is in everything of the old case
YEAR = timedelta(days=365)
FILE = f"a file of {WORD}".encode()
MOVED = "-moved"  # end of the key of a moved file
# Tables that name a deleted case. Its events say no more, and reports still count what happened to it. Outcomes of bulk
# changes stay for an hour.
KEPT = ("audit_log", "bulk_changes", "bulk_items", "outbox", "published_events", "report_changes")


@pytest.fixture
def environment(environment, request):
    """The variables of a service whose files are in S3 if a test asks for `s3`."""
    if "s3" not in request.fixturenames:
        return environment
    s3 = request.getfixturevalue("s3")
    bucket = {"SUPPORT_S3_BUCKET": s3.create_bucket(), "SUPPORT_S3_ENDPOINT": s3.url}
    return environment | bucket | {"SUPPORT_ATTACHMENT_STORE": "s3"}


@pytest.fixture
def close(client, database):
    """Close a case; it was changed last some days ago."""

    async def close(case, days=730):
        await expect_json(client.post(f"/support/cases/{case['id']}/close"))
        changed = {"updated_at": utc_now() - timedelta(days=days), "internal_updated_at": None}
        async with database.transaction() as tx:
            await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(changed))
        return case

    return close


@pytest.fixture
def old_case(client, close):
    """Return a closed case with texts, files, a note and a reference."""

    async def old_case(**fields):
        case = await open_case(
            client,
            **{"subject": f"{WORD}'s parcel", "description": f"I am {WORD}", "customerId": f"{WORD}-1"} | fields,
            context=[{"type": "order", "orderId": f"ORD-{WORD}"}],
            initialMessage={"authorType": "customer", "message": f"{WORD} speaking", "metadata": {"name": WORD}},
        )
        file = await upload(client, case, FILE, filename=f"{WORD}.txt")
        await add_message(client, case, f"Dear {WORD}", attachmentIds=[file["id"]], sentiment=WORD)
        await add_message(client, case, f"{WORD} called", visibility="internal")
        for change in ({"addTags": [WORD]}, {"removeTags": [WORD]}):  # the tag is a former value of the second one
            done = await expect_json(client.post("/support/cases/bulk", json={"ids": [case["id"]], "change": change}))
            assert done["counts"]["changed"] == 1
        return await close(case)

    return old_case


@pytest.fixture
def retain(environment, database):
    async def retain(
        folder=None,
        *,
        erase=True,
        archive=None,
        limit=None,
        variables=MappingProxyType({}),
        report=lambda _: None,
        timings=PATIENT_ERASURE,
        unreached=0,
        **selection,
    ):
        settings, refused = Settings.load(environment | dict(variables)), {}
        async with open_maintenance(settings) as maintenance:
            if folder is not None:
                stored = CaseArchive(folder, maintenance.database, maintenance.storages, refused.__setitem__)
                archive = stored.store if archive is None else archive(stored)
            parts = maintenance.database, maintenance.garbage_collector, maintenance.instruments
            run = CaseRetention(settings, *parts, archive=archive, timings=timings)
            expired = ExpiredCases(utc_now() - YEAR, **selection)
            with stored.opened() if folder is not None else nullcontext():
                await run.run(SYSTEM_ORIGIN, expired, erase=erase, page_size=10, limit=limit, report=report)
            assert len(run.unreached) == unreached, run.unreached
            return run.totals, run.unreached if unreached else refused

    return retain


async def rows_naming(database, case):
    text = case["id"]
    found = {table.name: await database.fetch_all(sa.select(table)) for table in metadata.tables.values()}
    return {name for name, rows in found.items() if text in str([tuple(row) for row in rows])}


@both_databases
async def test_deleted_case_leaves_only_audit_entries(client, old_case, close, retain, database, server, stored):
    """Its files, words, events and counts are gone. The audit log says who did what, and when, without contents."""
    case, other = await old_case(), await open_case(client, subject="Another parcel")
    await add_link(client, case, other)
    await close(case)
    await read_detail(client, case)  # its timeline is cached
    await wait_until_published(database)
    async with client.get(f"/support/cases/{other['id']}") as response:
        tag = response.headers["ETag"]
    totals, _ = await retain()
    assert (totals.due, totals.deleted, totals.files, totals.bytes) == (1, 1, 1, len(FILE))
    assert WORD not in await stored()
    assert await rows_naming(database, case) <= {*KEPT}
    await expect_problem(await client.get(f"/support/cases/{case['id']}"), 404, "case_not_found")
    assert (await list_cases(client, q=WORD))["items"] == []
    assert (await expect_json(client.get("/support/cases/count")))["count"] == 1
    async with client.get(f"/support/cases/{other['id']}", headers={"If-None-Match": tag}) as response:
        assert (response.status, (await response.json())["links"]) == (200, [])
    subjects = [event["subject"] for event in await read_published(server)]
    assert subjects
    assert case["id"] not in subjects
    (ledger,) = [each for each in await compare_ledger(database) if each.storage == "local"]
    assert ledger.ledger == ledger.rows
    entries = (await expect_json(client.get(f"/support/cases/{case['id']}/audit")))["items"]
    assert (entries[0]["action"], entries[0]["changes"]["reason"]) == ("case.erased", [None, "retention"])
    assert {entry["changes"] is None for entry in entries[1:]} == {True}
    assert {"case.opened", "case.closed", "message.added", "link.added"} <= {entry["action"] for entry in entries}
    (run,) = (await expect_json(client.get("/support/audit?action=retention.run")))["items"]
    assert (run["changes"]["deletedCases"], run["changes"]["files"]) == ([None, 1], [None, 1])
    assert (await verify_chain(database)).flaw is None


@both_databases
async def test_only_closed_old_cases_of_the_selection_are_deleted(client, close, old_case, retain, database):
    """A case with a tag that is kept stays, whatever else it has."""
    kept = {
        "open": await open_case(client),
        "young": await close(await open_case(client), days=364),
        "another channel": await close(await open_case(client, channel="chat", tags=["old"])),
        "another tag": await close(await open_case(client, tags=["new"])),
        "legal hold": await close(await open_case(client, tags=["old", "legal-hold"])),
        "synthetic": await close(await open_case(client, channel="synthetic", tags=["old"])),
    }
    due = [await close(await open_case(client, tags=["old"])) for _ in range(3)]
    selection = {"channels": ["email"], "tags": ["old", "older"], "kept": ["legal-hold"]}
    totals, _ = await retain(erase=False, **selection)
    assert (totals.due, totals.deleted) == (3, 0)
    assert await read_case(client, due[0])
    totals, _ = await retain(limit=2, **selection)
    assert (totals.due, totals.deleted) == (2, 2)
    totals, _ = await retain(**selection)
    assert (totals.due, totals.deleted) == (1, 1)
    left = {row.id for row in await database.fetch_all(sa.select(tickets.c.id))}
    assert left == {case["id"] for case in kept.values()}
    assert len((await expect_json(client.get("/support/audit?action=retention.run")))["items"]) == 2


@both_databases
async def test_records_of_customers_without_a_case_are_deleted(client, retain, database, monkeypatch):
    """They have no case that could be deleted with them. A run for some cases, and one that lists, leave them."""
    monkeypatch.setattr("support_service.privacy.retention.IDS_PER_QUERY", 2)
    await open_case(client, customerId="with-case")
    old = [*(f"old-{number}" for number in range(5)), "with-case", "merged"]
    for each in [*old, "young"]:
        await expect_json(client.put(f"/support/customers/{each}", json={"name": each}), 201)
    await expect_json(client.post("/support/customers/merged/merge", json={"into": "with-case"}))
    async with database.transaction() as tx:
        await tx.execute(customers.update().where(customers.c.id.in_(old)).values(updated_at=utc_now() - 2 * YEAR))

    async def left():
        return {row.id for row in await database.fetch_all(sa.select(customers.c.id))}

    await retain(erase=False)
    await retain(tags=["old"])
    assert await left() == {*old, "young"}
    assert [(await retain())[0].customers for _ in range(2)] == [5, 0]
    assert await left() == {"with-case", "merged", "young"}
    (run,) = (await expect_json(client.get("/support/audit?action=retention.run")))["items"]
    assert run["changes"]["customers"] == [None, 5]


async def test_sealed_file_restores_the_case(client, old_case, retain, database, attachment_dir, tmp_path):
    """`import` reads it, and the case has its id, texts, times and files again. Each hash is right."""
    case = await read_case(client, await old_case(externalId="4711", tags=["vip"], priority="high"))
    contact = {"kind": "email", "value": "anna@example.org", "label": "work"}
    record = {"name": "Anna", "contacts": [contact], "notes": "Call her."}
    page = f"/support/customers/{case['customerId']}"
    await expect_json(client.put(page, json=record), 201)
    async with database.transaction() as tx:  # nobody has changed it for long
        await tx.execute(customers.update().values(updated_at=utc_now() - 2 * YEAR))
    totals, refused = await retain(tmp_path / "archive")
    await expect_problem(await client.get(page), 404, "customer_not_found")
    assert (totals.archived, totals.deleted, refused) == (1, 1, {})
    (lines,) = (tmp_path / "archive").glob("*.jsonl")
    sums = lines.with_suffix(".sha256")
    command = ["sha256sum", "-c", sums.name]
    checked = await asyncio.to_thread(subprocess.run, command, cwd=sums.parent, check=False, capture_output=True)
    assert (checked.returncode, checked.stdout.count(b": OK")) == (0, 2), checked.stderr
    (_, head) = sums.read_text().splitlines()[:2]
    seal = hashlib.sha256(sums.read_bytes()).hexdigest()
    entries = (await entry_rows.read_case_entries(database, case["id"], None, 1)).entries
    assert json.loads(entries[0].changes)["archive"] == [None, seal]
    position, digest = head.removeprefix("# audit head: ").split()
    assert (await verify_chain(database, bytes.fromhex(digest))).flaw is None
    assert int(position) < entries[0].position
    assert {each.stat().st_mode & 0o077 for each in sums.parent.rglob("*")} == {0}
    runner = ImportRunner(database, sums.parent, attachment_dir)
    assert (await runner.run_lines(map(json.loads, lines.read_text().splitlines()))).imported == 1
    restored = await read_case(client, case)
    assert restored["customerName"] == "Anna"
    assert record.items() <= (await expect_json(client.get(page))).items()
    fields = ("id", "externalId", "subject", "description", "customerId", "status", "priority", "channel", "tags")
    of_message = ("authorType", "authorId", "message", "sentiment", "metadata", "visibility", "createdAt")
    for name in (*fields, "context", "createdAt"):
        assert restored[name] == case[name], name
    for before, after in zip(case["messages"], restored["messages"], strict=True):
        assert {name: after[name] for name in of_message} == {name: before[name] for name in of_message}
    (file,) = restored["attachments"]
    assert restored["messages"][1]["attachmentIds"] == [file["id"]]
    assert (file["filename"], file["sha256"]) == (f"{WORD}.txt", hashlib.sha256(FILE).hexdigest())
    async with client.get(file["uri"]) as response:
        assert await response.read() == FILE


async def test_sealed_files_restore_links(client, close, retain, database, attachment_dir, tmp_path):
    """Once both cases exist, whichever is imported last. A duplicate is deleted after its original, in another file."""
    original, duplicate, kept = [await open_case(client) for _ in range(3)]
    await add_link(client, duplicate, original, "duplicate-of")
    await add_link(client, kept, original, "parent-of")
    linked = {each["id"]: (await read_case(client, each))["links"] for each in (original, duplicate, kept)}
    for case in (duplicate, original):
        await close(case)
    for _ in range(2):
        assert (await retain(tmp_path))[0].deleted == 1
    before = (await client.get(f"/support/cases/{kept['id']}")).headers["ETag"]
    runner = ImportRunner(database, tmp_path, attachment_dir)
    for lines in sorted(tmp_path.glob("*.jsonl"), reverse=True):
        for _ in range(2):
            totals = await runner.run_lines(map(json.loads, lines.read_text().splitlines()))
    assert (totals.imported, totals.already_stored) == (0, 1)
    for case_id, links in linked.items():
        restored = await read_case(client, {"id": case_id})
        seen = [{name: value for name, value in each.items() if name != "id"} for each in links]
        assert [{name: value for name, value in each.items() if name != "id"} for each in restored["links"]] == seen
    after = await client.get(f"/support/cases/{kept['id']}")
    assert after.headers["ETag"] != before


async def test_links_that_are_not_allowed_any_more_are_left_out(client, database, attachment_dir, tmp_path):
    """The case is imported without a link to a case that is gone or a duplicate of another one, and without a cycle."""
    first, second, other = [await open_case(client) for _ in range(3)]
    await add_link(client, first, second, "parent-of")
    await add_link(client, other, second, "duplicate-of")
    links = [
        {"kind": "child-of", "caseId": second["id"]},
        {"kind": "parent-of", "caseId": first["id"]},
        {"kind": "duplicated-by", "caseId": other["id"]},
        {"kind": "related", "caseId": "gone"},
    ]
    line = {"id": "restored", "externalId": "1", "subject": "A", "channel": "email", "links": links}
    await ImportRunner(database, tmp_path, attachment_dir).run_lines([line])
    restored = await read_case(client, {"id": "restored"})
    assert [(each["kind"], each["caseId"]) for each in restored["links"]] == [("child-of", second["id"])]


async def test_case_that_changes_after_it_was_stored_stays(client, close, retain, tmp_path):
    """A message that is added in between is lost neither in the case nor in the next sealed file."""
    case, other = await close(await open_case(client)), await close(await open_case(client))

    def archive(stored):
        async def store(case_ids):
            sealed = await stored.store(case_ids)
            await add_message(client, case, "One more")
            return sealed

        return store

    totals, _ = await retain(tmp_path / "archive", archive=archive)
    assert (totals.due, totals.archived, totals.deleted) == (2, 2, 1)
    assert [each["message"] for each in (await read_case(client, case))["messages"]] == ["One more"]
    await expect_problem(await client.get(f"/support/cases/{other['id']}"), 404, "case_not_found")


async def test_linked_cases_of_two_transactions_are_both_deleted(client, close, retain, tmp_path, monkeypatch):
    """The deletion of the first one gives the second one a new version, which is no change by others."""
    monkeypatch.setattr(retention, "BATCH_CASES", 1)
    first, second, third = [await open_case(client) for _ in range(3)]
    await add_link(client, first, second)
    await add_link(client, second, third)
    for case in (first, second, third):
        await close(case)
    totals, _ = await retain(tmp_path / "archive")
    assert (totals.due, totals.archived, totals.deleted) == (3, 3, 3)


@both_databases
async def test_duplicate_stays_as_long_as_its_original(client, close, retain):
    """What the original is read with is deleted after it, by the next run."""
    original, duplicate = await open_case(client), await open_case(client)
    await add_link(client, duplicate, original, "duplicate-of")
    await close(duplicate)
    assert (await retain())[0].due == 0
    await close(original)
    assert [(await retain())[0].deleted for _ in range(3)] == [1, 1, 0]


async def test_case_with_a_damaged_file_stays(client, old_case, close, retain, attachment_dir, tmp_path):
    """The case is reported, and others are stored and deleted."""
    case = await old_case()
    (stored,) = stored_files(attachment_dir)
    stored.write_bytes(b"x" * len(FILE))
    await close(await open_case(client))
    totals, refused = await retain(tmp_path / "archive")
    assert (totals.due, totals.archived, totals.deleted) == (2, 1, 1)
    assert [*refused] == [case["id"]]
    assert "SHA-256" in str(refused[case["id"]])
    assert len((await read_case(client, case))["attachments"]) == 1
    kept = sorted((tmp_path / "archive").iterdir())
    assert [each.suffix for each in kept] == [".jsonl", ".sha256"]  # and no folder, as no file is stored
    totals, refused = await retain(tmp_path / "archive")
    assert (totals.archived, [*refused]) == (0, [case["id"]])
    assert sorted((tmp_path / "archive").iterdir()) == kept


async def test_files_in_s3_are_stored_and_deleted(client, old_case, retain, s3, environment, attachment_dir, tmp_path):
    """The bucket is empty afterwards, and the sealed file has their bytes."""
    case = await old_case()
    bucket = environment["SUPPORT_S3_BUCKET"]
    assert len(s3.keys(bucket)) == 1
    assert stored_files(attachment_dir) == []
    totals, refused = await retain(tmp_path / "archive")
    assert (totals.archived, totals.deleted, totals.files, refused) == (1, 1, 1, {})
    assert s3.keys(bucket) == []
    (file,) = (tmp_path / "archive").glob(f"*/{case['id']}/*")
    assert file.read_bytes() == FILE


async def test_s3_that_is_not_reached_leaves_no_case_without_its_files(
    client, old_case, retain, s3, environment, database, tmp_path
):
    """With an archive nothing is deleted. Without one, what is left of files is reported, and deleted later."""
    case, away = await old_case(), {"SUPPORT_S3_ENDPOINT": "http://127.0.0.1:1"}
    with pytest.raises(Unavailable):
        await retain(tmp_path / "archive", variables=away)
    assert [*(tmp_path / "archive").iterdir()] == []
    async with client.get((await read_case(client, case))["attachments"][0]["uri"]) as response:
        assert await response.read() == FILE
    totals, unreached = await retain(variables=away, unreached=1)
    assert totals.deleted == 1
    assert unreached == {"1 files are not deleted yet: the service deletes them"}
    async with database.transaction() as tx:
        await tx.execute(garbage.update().values(due_at=utc_now()))
    await retain()
    assert s3.keys(environment["SUPPORT_S3_BUCKET"]) == []


async def is_cached(client, server, case):
    """Read a timeline; return whether it is cached. A busy machine may leave out a write."""
    await read_detail(client, case)
    return await server.exists(cache_key(case["id"]))


async def test_redis_that_fails_in_the_middle_of_a_run_is_cleaned_by_the_next_one(
    upstream_services, orders, client, old_case, retain, redis, server, monkeypatch, stored
):
    """The cases are deleted all the same, and the run says what still has data of them."""
    monkeypatch.setattr(retention, "BATCH_CASES", 1)
    orders.add(f"ORD-{WORD}")
    cases = [await old_case() for _ in range(3)]
    for case in cases:
        await eventually(lambda case=case: is_cached(client, server, case))
    reported, short = [], replace(PATIENT_ERASURE, redis_timeout=0.3)

    def report(case_id):
        reported.append(case_id)
        if len(reported) == 1:
            redis.freeze()

    try:
        totals, unreached = await retain(report=report, timings=short, unreached=2)
    finally:
        redis.thaw()
    assert (totals.due, totals.deleted) == (3, 3)
    named = {each.partition(" was not reached: ")[0] for each in unreached}
    assert named == {"the timeline cache", "the stream of events"}
    assert len(await server.keys(cache_key("*"))) == 3
    await retain()
    assert await server.keys(cache_key("*")) == []
    assert WORD not in await stored()


async def test_what_is_published_or_collected_during_a_run_is_deleted_too(
    old_case, retain, database, server, monkeypatch
):
    """The relay read the event, with its contents, before the run and publishes it afterwards.

    A timeline is stored after the timelines were deleted. They are deleted again after the deadline of the collection.
    """
    publishing, resume = hold_publications(monkeypatch)
    case = await old_case()
    await publishing.wait()
    wait, stored = erasure.sleep, []

    async def store(seconds):
        if seconds == 0.125:
            stored.append(await server.set(cache_key(case["id"]), WORD))
        else:
            await wait(seconds)

    monkeypatch.setattr(erasure, "sleep", store)
    retaining = asyncio.create_task(retain(timings=replace(PATIENT_ERASURE, collecting=0.125)))
    await asyncio.wait([retaining], timeout=1)  # a run that does not wait for the relay ends within this time
    resume.set()
    assert (await retaining)[0].deleted == 1
    await wait_until_published(database)
    assert case["id"] not in str(await server.xrange("support.events"))
    assert (bool(stored), await server.exists(cache_key(case["id"]))) == (True, 0)


async def test_run_that_fails_in_the_middle_completes_what_it_has_begun(
    upstream_services, orders, client, old_case, environment, server, tmp_path, monkeypatch, capsys
):
    """No cached timeline of a deleted case stays, and the totals are printed."""
    orders.add(f"ORD-{WORD}")
    cases = [await old_case() for _ in range(2)]
    for case in cases:
        await eventually(lambda case=case: is_cached(client, server, case))
    store, stored = CaseArchive.store, []

    async def store_one(self, case_ids):
        if stored:
            raise Unavailable("storage_unavailable", "It is out of reach.")
        stored.extend(case_ids)
        return await store(self, case_ids)

    monkeypatch.setattr(CaseArchive, "store", store_one)
    monkeypatch.setattr(retention_command, "CASES_PER_FILE", 1)
    options = {"closed_for": YEAR, "export": tmp_path / "archive", "erase": True, "dry_run": False, "limit": None}
    names = ("older_than", "status", "channel", "tag", "keep_tag")
    capsys.readouterr()
    # A run waits as long as the collection of a timeline may take.
    settings = Settings.load(environment | {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": "0.4"})
    with pytest.raises(Unavailable, match="out of reach"):
        await retention_command.retention(settings, Namespace(**options, **dict.fromkeys(names)))
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary.items() >= {"due": 2, "stored": 1, "deleted": 1, "changed": 0}.items()
    assert summary["unreached"] == []
    (left,) = {case["id"] for case in cases} - {*stored}
    assert await server.keys(cache_key("*")) == [cache_key(left).encode()]


async def test_file_that_is_moved_while_its_case_is_stored_is_read_where_it_is(
    client, old_case, database, attachment_dir, tmp_path
):
    """The row names the new place before the former one is deleted, so the case is not refused."""
    case, refused = await old_case(), {}

    class LeavingFiles(LocalAttachmentStorage):
        async def read(self, key, *arguments, **options):
            if not key.endswith(MOVED):
                (attachment_dir / key).rename(attachment_dir / f"{key}{MOVED}")
                async with database.transaction() as tx:
                    await tx.execute(attachments.update().values(storage_key=f"{key}{MOVED}"))
            async for block in super().read(key, *arguments, **options):
                yield block

    disk = LeavingFiles(attachment_dir)
    await disk.open()
    archive = CaseArchive(tmp_path / "archive", database, {disk.name: disk}, refused.__setitem__)
    with archive.opened():
        _, stored = await archive.store([case["id"]])
    assert (list(stored), refused) == ([case["id"]], {})
    assert [path.read_bytes() for path in (tmp_path / "archive").glob("*/*/1")] == [FILE]


async def test_archive_has_one_writer_and_forgets_unfinished_files(database, retain, tmp_path):
    """A killed run has not deleted the cases of a file without a seal. What others have in the folder stays.

    That is an unfinished export of the audit log, or a download, also with a folder of the same name.
    """
    sealed, left = ["cases-2.jsonl", "cases-2.sha256"], "cases-20260101T120000-000001"
    foreign = ["audit.jsonl.part", "audit.jsonl.sha256", "photos.part", "photos.sha256"]
    for name in ("photos", left):
        (tmp_path / name).mkdir()
    for name in (f"{left}.jsonl.part", f"{left}.sha256", f"{left}/1", *sealed, *foreign):
        (tmp_path / name).touch()
    archive = CaseArchive(tmp_path, database, {}, lambda *_: None)
    with archive.opened():
        found = {each.name for each in tmp_path.iterdir()}
        assert found & {*sealed, *foreign, "photos"} == {*sealed, *foreign, "photos"}
        assert not [name for name in found if left in name]
        with pytest.raises(SupportError, match="Another process"), archive.opened():
            pass
