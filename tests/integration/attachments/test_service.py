"""Rows, files and ledger stay in step, on either database."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.attachments import backlog
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.cases.model.files import FileTotals
from support_service.cases.model.requests import NewCase
from support_service.cases.service import CaseService
from support_service.cases.sql import attachment_rows, case_rows
from support_service.core.clock import utc_now
from support_service.core.domain.principals import SYSTEM, Principal
from support_service.core.errors import Conflict, NotFound, SupportError, Unavailable, ValidationFailed, VersionConflict
from support_service.core.problem_codes import STATUS_BY_CODE
from support_service.platform.database.tables import attachment_ledger as ledger
from support_service.platform.database.tables import attachments
from support_service.platform.idempotency_keys import IdempotencyClaim
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.conftest import both_databases
from tests.support.attachments.harness import add_file
from tests.support.calls import stored_files
from tests.support.cases import recorder

pytestmark = both_databases


@pytest.fixture
async def service(database, instruments, tmp_path):
    storage = LocalAttachmentStorage(tmp_path / "files")
    await storage.open()
    return AttachmentService(database, {"local": storage}, instruments, AttachmentSettings(max_bytes=100))


@pytest.fixture
def open_case(database, instruments):
    async def open_case():
        cases = CaseService(database, recorder(database, instruments))
        return (await cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))).id

    return open_case


@pytest.fixture
async def case_id(open_case):
    return await open_case()


async def stream(*chunks):
    for chunk in chunks:
        yield chunk


async def test_ledger_equals_the_stored_files(service, database, case_id, tmp_path):
    """After each change it is the sum of the rows, and the rows are the files. A file is found in its own case only."""
    kept = [await add_file(service, case_id, "a.txt", "text/plain", stream(b"x" * size)) for size in (1, 20, 100)]
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=3, bytes=121)
    assert await service.get(SYSTEM, case_id, kept[0].id) == kept[0]
    for refused in (service.get(SYSTEM, "other", kept[0].id), service.remove(SYSTEM_ORIGIN, "other", kept[0].id)):
        with pytest.raises(NotFound):
            await refused
    await service.remove(SYSTEM_ORIGIN, case_id, kept[1].id)
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=2, bytes=101)
    assert await service.list_by_case(SYSTEM, case_id) == [kept[0], kept[2]]
    keys = {attachment.storage_key.rpartition("/")[2] for attachment in (kept[0], kept[2])}
    assert {path.name for path in stored_files(tmp_path / "files")} == keys


async def test_readings_of_the_backlog_are_bounded(service, monkeypatch):
    """Each deletion of an attachment reads it, and an hour may have thousands: one is kept for each step."""
    begin = now = utc_now()
    monkeypatch.setattr(backlog, "utc_now", lambda: now)
    for seconds, kept in ((0, [0]), (9, [0]), (10, [0, 10]), (3609, [0, 10, 3609]), (3610, [10, 3609])):
        now = begin + timedelta(seconds=seconds)
        await service.backlog.refresh()
        assert [at - begin for at, _ in service.backlog.history] == [timedelta(seconds=each) for each in kept]


async def test_files_of_several_cases_are_the_newest_first(service, open_case, case_id):
    """Customers get the public ones."""
    other = await open_case()
    first, note, last = [
        await add_file(service, case, "a.txt", "text/plain", stream(b"x"), visibility=visibility)
        for case, visibility in ((case_id, "public"), (other, "internal"), (case_id, "public"))
    ]
    cases, customer = [case_id, other], Principal("ann", "customer", "customer-1")
    assert await service.list_by_cases(SYSTEM, cases, 9) == [last, note, first]
    assert await service.list_by_cases(SYSTEM, cases, 2) == [last, note]
    assert await service.list_by_cases(SYSTEM, [other], 9) == [note]
    assert await service.list_by_cases(customer, cases, 9) == [last, first]


@pytest.mark.parametrize("visibility", ["public", "internal"])
async def test_file_that_is_shown_or_hidden_while_it_is_deleted_stays(
    service, database, case_id, tmp_path, monkeypatch, visibility
):
    """Who deletes it has not seen it as it is now."""
    kept = await add_file(service, case_id, "a.txt", "text/plain", stream(b"x"), visibility=visibility)
    read, changed = service.get, "internal" if visibility == "public" else "public"

    async def read_before_a_change(*arguments):
        found = await read(*arguments)
        async with database.transaction() as tx:
            await tx.execute(attachments.update().values(visibility=changed))
        return found

    monkeypatch.setattr(service, "get", read_before_a_change)
    with pytest.raises(VersionConflict):
        await service.remove(SYSTEM_ORIGIN, case_id, kept.id)
    assert [each.visibility for each in await service.list_by_case(SYSTEM, case_id)] == [changed]
    assert len(stored_files(tmp_path / "files")) == 1


class UndeletableFiles(LocalAttachmentStorage):
    """A storage that fails before it deletes a file."""

    async def delete(self, key):
        raise Unavailable("storage_unavailable", f"{key} can't be deleted")


@pytest.mark.parametrize("error", [NotFound("case_not_found", "There is no such case."), asyncio.CancelledError()])
async def test_refusal_is_reported_even_if_the_file_cannot_be_deleted(database, instruments, case_id, tmp_path, error):
    """The caller learns why its file is refused, and a cancellation stays one; the sweep deletes the file."""
    storage = UndeletableFiles(tmp_path / "files")
    await storage.open()
    service = AttachmentService(database, {"local": storage}, instruments, AttachmentSettings(max_bytes=100))
    with pytest.raises(type(error)):
        async with service.uploader.store_bytes(case_id, "a.txt", "text/plain", stream(b"x")):
            raise error
    assert len(stored_files(tmp_path / "files")) == 1


@pytest.mark.parametrize("status", [409, 422])
async def test_bytes_of_an_upload_with_a_lost_claim_are_deleted(service, case_id, tmp_path, monkeypatch, status):
    """No row can name them. The code of the error says so, whatever its status is."""
    monkeypatch.setitem(STATUS_BY_CODE, "idempotency_key_in_use", status)
    lost = WriteOrigin(SYSTEM, claim=IdempotencyClaim("key", "owner", None))
    with pytest.raises(SupportError, match="in progress"):
        async with service.uploader.store_bytes(case_id, "a.txt", "text/plain", stream(b"x")) as new:
            await service.uploader.add_to_case(lost, new)
    assert stored_files(tmp_path / "files") == []


async def test_file_to_a_full_case_is_refused(service, database, instruments, open_case, case_id, tmp_path, constants):
    """Concurrent uploads included. After a removal there is room for one."""
    storages = {"local": LocalAttachmentStorage(tmp_path / "files")}
    constants("cases.case_files", MAX_FILES_PER_CASE=3)
    service = AttachmentService(database, storages, instruments, AttachmentSettings(max_bytes=100))
    added = await asyncio.gather(
        *(add_file(service, case_id, "a", None, stream(b"x" * 10)) for _ in range(8)), return_exceptions=True
    )
    assert [each.code for each in added if isinstance(each, Conflict)] == ["case_full"] * 5
    kept = await service.list_by_case(SYSTEM, case_id)
    assert len(kept) == len(stored_files(tmp_path / "files")) == 3
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=3, bytes=30)
    assert (await case_rows.read_state(database, case_id)).version == 4
    with pytest.raises(Conflict, match="open another case"):
        await service.files.check_upload(database, SYSTEM, case_id)
    await service.files.check_upload(database, SYSTEM, await open_case())
    await service.remove(SYSTEM_ORIGIN, case_id, kept[0].id)
    await service.files.check_upload(database, SYSTEM, case_id)
    await add_file(service, case_id, "a", None, stream(b"x"))


async def test_refused_file_is_not_stored(service, database, case_id, tmp_path):
    """One that is too large, or to an unknown case: also if its id is one that PostgreSQL can't compare."""
    with pytest.raises(ValidationFailed, match="at most 100 bytes"):
        await add_file(service, case_id, "a.txt", "text/plain", stream(b"x" * 60, b"x" * 41))
    for unknown in ("nobody", "\0", "x" * 5000):
        with pytest.raises(NotFound):
            await add_file(service, unknown, "a", None, stream(b"x"))
    assert stored_files(tmp_path / "files") == []
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=0, bytes=0)


async def test_ledger_is_right_after_concurrent_changes(service, database, case_id, tmp_path):
    """Removals of one file count once."""
    kept = await asyncio.gather(*(add_file(service, case_id, "a", None, stream(b"x" * 10)) for _ in range(20)))
    removals = (service.remove(SYSTEM_ORIGIN, case_id, each.id) for each in (*kept[:15], *[kept[0]] * 3))
    await asyncio.gather(*removals, return_exceptions=True)
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=5, bytes=50)
    assert len(stored_files(tmp_path / "files")) == 5


async def test_changes_of_the_ledger_are_merged_into_its_totals(service, database, case_id):
    """Each counts once, whichever replica merges, also while a replica of the previous release changes the totals."""
    kept = [await add_file(service, case_id, "a.txt", "text/plain", stream(b"x" * size)) for size in (1, 20)]
    await service.backlog.refresh()
    await service.remove(SYSTEM_ORIGIN, case_id, kept[0].id)
    async with database.transaction() as tx:
        old_upload = {"of": "local", "more_files": 1, "more_bytes": 300}
        await tx.execute(attachment_rows.UPDATE_LEDGER, old_upload)
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=2, bytes=320)
    await asyncio.gather(*(service.backlog.refresh_and_merge() for _ in range(2)))
    (row,) = await database.fetch_all(sa.select(ledger.c.files, ledger.c.bytes).where(ledger.c.storage == "local"))
    assert (row.files, row.bytes) == (2, 320)
    assert await attachment_rows.read_ledger_totals(database, "local") == FileTotals(files=2, bytes=320)
