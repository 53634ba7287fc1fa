"""Attachments with a database, a local folder, a bucket, and a clock that a test can advance."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.maintenance.offload import Offloader
from support_service.attachments.maintenance.reconcile import Reconciler, compare_ledger
from support_service.attachments.maintenance.retention import RetentionJob
from support_service.attachments.maintenance.scrub import Scrubber, list_attachment_page
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.attachments.storage.s3 import S3AttachmentStorage
from support_service.cases.model.files import StoredAttachment
from support_service.cases.model.requests import NewCase
from support_service.cases.service import CaseService
from support_service.cases.sql import attachment_rows
from support_service.platform.database.tables import garbage, staged_attachments
from support_service.platform.settings.resources import AttachmentSettings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.attachments.streams import read, stream
from tests.support.cases import recorder

ALL_CLAIMS_EXPIRED = timedelta(hours=30)  # by then every claim has expired, and all unfinished files are old


async def add_file(
    service: AttachmentService,
    case_id: str,
    name: str,
    content_type: str | None,
    chunks: AsyncIterator[bytes],
    *,
    visibility: str = "public",
    staged: bool = False,
) -> StoredAttachment:
    """Add a file to a case, as an upload does, and return its attachment."""
    async with service.uploader.store_bytes(case_id, name, content_type, chunks, visibility=visibility) as new:
        return await service.uploader.add_to_case(SYSTEM_ORIGIN, new, staged=staged)


class AttachmentHarness:
    """The parts of attachments over one database, one local folder and one bucket."""

    def __init__(self, database, folder, s3_url, bucket, instruments):
        self.database, self.folder, self.bucket, self.instruments = database, folder, bucket, instruments
        self.local = LocalAttachmentStorage(folder)
        self.s3 = S3AttachmentStorage(bucket, endpoint=s3_url, instruments=instruments)
        self.storages = {"local": self.local, "s3": self.s3}
        self.clock_offset = timedelta(0)
        self.service = AttachmentService(database, self.storages, instruments, AttachmentSettings(max_bytes=10_000_000))
        self.cases = CaseService(database, recorder(database, instruments))
        self.garbage_collector = GarbageCollector(database, self.storages, self.clock)
        self.reconciler = Reconciler(database, self.storages, self.garbage_collector, instruments, self.clock)
        self.scrubber = Scrubber(database, self.storages, instruments)
        self.retention = RetentionJob(database, instruments, self.clock)
        self.case_id = ""

    def clock(self):
        """Return the current time plus `clock_offset`."""
        return datetime.now(UTC) + self.clock_offset

    async def open(self):
        await self.local.open()
        self.case_id = (await self.cases.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))).id

    def offloader(self):
        """Return a separate offloader, as another process has."""
        return Offloader(self.database, self.local, self.s3, self.instruments, self.clock)

    async def add(self, data=b"hello", name="a.txt"):
        return await add_file(self.service, self.case_id, name, "text/plain", stream(data))

    async def offload(self, offloader=None, **options):
        """Move all files that are due; return the outcome of each."""
        moved = []
        await (offloader or self.offloader()).run(self.clock(), report=moved.append, **options)
        return moved

    async def reload(self, attachment):
        return await attachment_rows.get_by_id(self.database, attachment.id)

    async def read_content(self, attachment):
        row = await self.reload(attachment)
        return b"".join([block async for block in self.service.read(row, 0, row.size_bytes)])

    async def stored_keys(self, name):
        return {found.key async for found in self.storages[name].list()}

    async def garbage_keys(self):
        return [row.storage_key for row in await self.database.fetch_all(sa.select(garbage.c.storage_key))]

    async def reconcile_later(self):
        """Advance the clock until all claims have expired, and reconcile; return the report."""
        self.clock_offset += ALL_CLAIMS_EXPIRED
        return await self.reconciler.run()

    async def check_consistency(self):
        """Fail unless rows, files and ledger agree to the last byte; return the rows."""
        for each in await compare_ledger(self.database):
            assert each.ledger == each.rows, each.storage
        found = [each.attachment for each in await list_attachment_page(self.database, 0, 100_000)]
        for name, storage in self.storages.items():
            rows_by_key = {row.storage_key: row for row in found if row.storage == name}
            assert await self.stored_keys(name) == set(rows_by_key)
            for key, row in rows_by_key.items():
                data = await read(storage, key, 0, row.size_bytes)
                assert hashlib.sha256(data).hexdigest() == row.sha256
            assert await storage.delete_unfinished(datetime.now(UTC) + timedelta(days=365), dry_run=True) == 0
        assert await self.garbage_keys() == []
        assert await self.database.fetch_all(sa.select(staged_attachments.c.id)) == []
        return found
