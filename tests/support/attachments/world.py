"""Attachments with everything around them: rows, a disk, a bucket, and a clock that can be set."""

import hashlib
from datetime import UTC, datetime, timedelta

from support_service.attachments import ledger, store
from support_service.attachments.garbage_queries import list_garbage
from support_service.attachments.maintenance.file_mover import OffloadTimings
from support_service.attachments.maintenance.garbage import GarbageCollector
from support_service.attachments.maintenance.offload import Offloader
from support_service.attachments.maintenance.reconcile import Reconciler
from support_service.attachments.maintenance.retention import RetentionJob
from support_service.attachments.maintenance.scrub import Scrubber
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.attachments.storage.s3 import S3AttachmentStorage
from support_service.attachments.upload_validation import UploadLimits
from support_service.cases.requests import NewCase
from support_service.cases.service import CaseService
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT
from tests.support.attachments.streams import read, stream

LONG = timedelta(hours=30)  # after this every claim has run out, and everything unfinished is old


class World:
    """One database, one folder, one bucket, and the parts over them."""

    def __init__(self, database, folder, s3_url, bucket, instruments):
        self.database, self.folder, self.bucket, self.instruments = database, folder, bucket, instruments
        self.local = LocalAttachmentStorage(folder)
        self.s3 = S3AttachmentStorage(bucket, endpoint=s3_url)
        self.storages = {"local": self.local, "s3": self.s3}
        self.later = timedelta(0)
        self.service = AttachmentService(database, self.storages, instruments, UploadLimits(10_000_000))
        self.cases = CaseService(database, instruments)
        self.garbage_collector = GarbageCollector(database, self.storages, self.clock)
        self.reconciler = Reconciler(database, self.storages, self.garbage_collector, instruments, self.clock)
        self.scrubber = Scrubber(database, self.storages, instruments)
        self.retention = RetentionJob(database, instruments, self.clock)
        self.case_id = ""

    def clock(self):
        """The time, as it was set."""
        return datetime.now(UTC) + self.later

    async def open(self):
        """Make the folder, and a case."""
        await self.local.open()
        self.case_id = (await self.cases.open_case(SYSTEM_CONTEXT, NewCase(subject="A", channel="email"))).id

    def offloader(self, *, reverse=False, **timings):
        """An offloader of its own, as another process has one."""
        source, target = (self.s3, self.local) if reverse else (self.local, self.s3)
        return Offloader(self.database, source, target, self.instruments, self.clock, timings=OffloadTimings(**timings))

    async def add(self, data=b"hello", name="a.txt"):
        """Keep a file."""
        return await self.service.add(SYSTEM_CONTEXT, self.case_id, name, "text/plain", stream(data))

    async def move(self, offloader=None, **options):
        """Move all there is; gives what became of each."""
        moved = []
        await (offloader or self.offloader()).run(self.clock(), report=moved.append, **options)
        return moved

    async def reload(self, attachment):
        """An attachment as its row has it now."""
        return await store.get_by_id(self.database, attachment.id)

    async def bytes_of(self, attachment):
        """An attachment's bytes, wherever they are."""
        row = await self.reload(attachment)
        return b"".join([block async for block in self.service.read(row, 0, row.size_bytes)])

    async def stored_keys(self, name):
        """The keys on a storage."""
        return {found.key async for found in self.storages[name].list()}

    async def reconcile_later(self):
        """Let enough time pass, and sweep; gives what the sweep found."""
        self.later += LONG
        return await self.reconciler.run()

    async def check_consistency(self):
        """Fails where rows, files and ledger are not in step to the last byte."""
        for each in await ledger.compare(self.database):
            assert each.ledger == each.rows, each.storage
        rows = [each.attachment for each in await store.list_page(self.database, 0, 100_000)]
        for name, storage in self.storages.items():
            named = {row.storage_key: row for row in rows if row.storage == name}
            assert await self.stored_keys(name) == set(named)
            for key, row in named.items():
                data = await read(storage, key, 0, row.size_bytes)
                assert hashlib.sha256(data).hexdigest() == row.sha256
            assert await storage.delete_unfinished(datetime.now(UTC) + timedelta(days=365), dry_run=True) == 0
        assert await list_garbage(self.database) == []
        return rows
