"""Rows, files and ledger stay in step, on either database."""

import asyncio
from contextlib import ExitStack

import pytest

from support_service.attachments import store
from support_service.attachments.model import FileTotals
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.attachments.upload_validation import UploadLimits
from support_service.cases.requests import NewCase
from support_service.cases.service import CaseService
from support_service.core.errors import Conflict, NotFound, RequestTooLarge, Unavailable, ValidationFailed
from support_service.core.principals import CURRENT_PRINCIPAL, Principal
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.conftest import both_databases
from tests.support.calls import files

pytestmark = both_databases


@pytest.fixture
async def service(database, instruments, tmp_path):
    """A service that takes files of up to 100 bytes."""
    storage = LocalAttachmentStorage(tmp_path / "files")
    await storage.open()
    return AttachmentService(database, {"local": storage}, instruments, UploadLimits(100))


@pytest.fixture
async def case_id(database, instruments):
    """A case."""
    return (
        await CaseService(database, instruments).open_case(SYSTEM_CONTEXT, NewCase(subject="A", channel="email"))
    ).id


async def stream(*chunks):
    """Bytes as an upload brings them."""
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("role", ["customer", "agent"])
async def test_one_person_has_a_share_of_the_uploads(database, instruments, role):
    """A customer's or an agent's uploads leave room for those of others; a service's may take all there is."""
    service = AttachmentService(database, {"local": None}, instruments, UploadLimits(100), uploads=8)
    with ExitStack() as uploads:

        def begin(role, name):
            token = CURRENT_PRINCIPAL.set(Principal(name, role, name))
            try:
                uploads.enter_context(service.uploading())
            finally:
                CURRENT_PRINCIPAL.reset(token)

        for name in ("one", "two"):
            for _ in range(2):
                begin(role, name)
            with pytest.raises(Unavailable, match="Too many"):
                begin(role, name)
        for _ in range(4):
            begin("service", "desk")
        with pytest.raises(Unavailable, match="Too many"):
            begin("service", "desk")
    assert not service._people
    begin(role, "one")


async def test_the_ledger_counts_what_is_kept_and_removed(service, database, case_id, tmp_path):
    """After each change the ledger is the sum of the rows, and the rows are the files."""
    kept = [await service.add(case_id, "a.txt", "text/plain", stream(b"x" * size)) for size in (1, 20, 100)]
    assert await store.ledger_totals(database, "local") == FileTotals(files=3, bytes=121)
    await service.remove(case_id, kept[1].id)
    assert await store.ledger_totals(database, "local") == FileTotals(files=2, bytes=101)
    assert await service.of_case(case_id) == [kept[0], kept[2]]
    assert {path.name for path in files(tmp_path / "files")} == {
        attachment.storage_key.rpartition("/")[2] for attachment in (kept[0], kept[2])
    }


async def test_a_file_is_found_in_its_own_case_alone(service, case_id):
    """An attachment is not found through another case."""
    kept = await service.add(case_id, "a.txt", "text/plain", stream(b"x"))
    assert await service.get(case_id, kept.id) == kept
    with pytest.raises(NotFound):
        await service.get("other", kept.id)
    with pytest.raises(NotFound):
        await service.remove("other", kept.id)


@pytest.mark.parametrize(
    ("case", "chunks", "error"),
    [
        (None, [], ValidationFailed),
        (None, [b"x" * 60, b"x" * 41], RequestTooLarge),
        ("other", [b"x"], NotFound),
    ],
)
async def test_what_is_refused_leaves_nothing(service, database, case_id, tmp_path, case, chunks, error):
    """A refused file is neither on the disk nor in the database."""
    with pytest.raises(error):
        await service.add(case or case_id, "a.txt", "text/plain", stream(*chunks))
    assert files(tmp_path / "files") == []
    assert await store.ledger_totals(database, "local") == FileTotals(files=0, bytes=0)


async def test_a_case_that_is_full(service, database, instruments, case_id, tmp_path, monkeypatch):
    """A file beyond those that a case may have is refused, beside others too, and kept nowhere; one less makes room."""
    monkeypatch.setattr(store, "MAX_FILES_PER_CASE", 3)
    monkeypatch.setattr("support_service.attachments.service.MAX_FILES_PER_CASE", 3)
    added = await asyncio.gather(
        *(service.add(case_id, "a", None, stream(b"x" * 10)) for _ in range(8)), return_exceptions=True
    )
    assert [each.code for each in added if isinstance(each, Conflict)] == ["case_full"] * 5
    kept = await service.of_case(case_id)
    assert len(kept) == len(files(tmp_path / "files")) == 3
    assert await store.ledger_totals(database, "local") == FileTotals(files=3, bytes=30)
    assert (await service.expect(case_id)).version == 4
    with pytest.raises(Conflict, match="open another case"):
        await service.expect_takes(case_id)
    other = await CaseService(database, instruments).open_case(SYSTEM_CONTEXT, NewCase(subject="B", channel="email"))
    await service.expect_takes(other.id)
    await service.remove(case_id, kept[0].id)
    await service.expect_takes(case_id)
    await service.add(case_id, "a", None, stream(b"x"))


async def test_many_at_once(service, database, case_id, tmp_path):
    """Uploads and removals at once leave a ledger that is right."""
    kept = await asyncio.gather(*(service.add(case_id, "a", None, stream(b"x" * 10)) for _ in range(20)))
    await asyncio.gather(*(service.remove(case_id, attachment.id) for attachment in kept[:15]))
    assert await store.ledger_totals(database, "local") == FileTotals(files=5, bytes=50)
    assert len(files(tmp_path / "files")) == 5


async def test_removed_twice_at_once_counts_once(service, database, case_id):
    """Two clients that remove one file at once take it off the ledger once."""
    kept = await service.add(case_id, "a", None, stream(b"x" * 10))
    await service.add(case_id, "b", None, stream(b"x" * 10))
    await asyncio.gather(*(service.remove(case_id, kept.id) for _ in range(4)), return_exceptions=True)
    assert await store.ledger_totals(database, "local") == FileTotals(files=1, bytes=10)
