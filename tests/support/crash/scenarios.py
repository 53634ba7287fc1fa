"""Scenarios that run until the service is killed, and what must hold afterwards."""

import asyncio
import hashlib
import os
import signal
from datetime import UTC, datetime, timedelta

import aiohttp

from support_service.core.domain.principals import SYSTEM
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.attachments.streams import stream
from tests.support.calls import eventually, expect_json, form
from tests.support.crash.victim import before
from tests.support.process import START_TIMEOUT
from tests.support.servers import free_port

SMALL, BLOCKS, PARTS = b"small" * 100, bytes(range(256)) * 2400, bytes(range(256)) * 22_000
SENT, DROPPED = b"sent" * 100, b"dropped" * 100


class Scenario:
    """A command that runs on a prepared harness. The short form of the test kills it at `steps`."""

    arguments = ()
    variables = {}  # noqa: RUF012 - each scenario's own constant
    steps = ()

    def __init__(self):
        self.acknowledged = {}  # id -> hash of each acknowledged upload that no request deletes
        self.deleted = set()  # ids of acknowledged deletions
        self.case_id = ""
        self.unacknowledged = set()  # hashes of uploads and deletions without a response

    async def prepare(self, harness):
        self.case_id = harness.case_id
        for data in (SMALL, b"1", b"22", BLOCKS, PARTS):
            attachment = await harness.add(data)
            self.acknowledged[attachment.id] = attachment.sha256

    async def drive(self, process):
        await asyncio.to_thread(process.join)

    async def finish(self, harness):
        """Complete what was interrupted."""


class Serve(Scenario):
    """Clients upload, stage, send, read and delete files."""

    arguments = ("serve",)
    steps = (
        before("attachments/storage/durable_write.py", "view = memoryview("),  # a small file is empty in its folder
        before("attachments/storage/durable_write.py", "_sync_and_close(self._descriptor)"),  # its bytes may be lost
        before("attachments/storage/durable_write.py", "os.rename("),  # a large file is written, in no folder of files
        before("attachments/uploader.py", "new.is_committing = True"),  # it is in its folder, its row not committed
        before("api/attachments.py", "attachment = present_attachment("),  # the row is committed, the client not told
        before("attachments/service.py", "await storage.delete(attachment.storage_key)"),  # the row is deleted
        before("attachments/service.py", "await delete_garbage_entries("),  # the bytes are deleted
    )

    def __init__(self):
        super().__init__()
        self.port = free_port()
        self.variables = self.variables | {"SUPPORT_PORT": str(self.port)}

    async def prepare(self, harness):
        self.case_id = harness.case_id

    async def drive(self, process):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            try:
                await self._talk(session, process)
            except (aiohttp.ClientError, ConnectionError):
                pass
            else:
                os.kill(process.pid, signal.SIGTERM)
        await super().drive(process)

    async def _talk(self, session, process):
        await eventually(lambda: self._answers(session, process), START_TIMEOUT)
        address = f"/support/cases/{self.case_id}/attachments"
        first = None
        for data in (SMALL, BLOCKS, PARTS):
            digest = hashlib.sha256(data).hexdigest()
            self.unacknowledged.add(digest)
            answer = await expect_json(session.post(address, data=form(data)), 201)
            self.unacknowledged.discard(digest)
            self.acknowledged[answer["id"]] = digest
            first = first or answer
        async with session.get(first["uri"]) as response:
            assert await response.read() == SMALL
        self.unacknowledged.add(self.acknowledged.pop(first["id"]))
        await expect_json(session.delete(f"{address}/{first['id']}"), 204)
        self.unacknowledged.discard(first["sha256"])
        self.deleted.add(first["id"])
        await self._send_staged(session)

    async def _send_staged(self, session):
        """Stage two files, send one with a message, and delete the other, which never becomes a file of the case."""
        address = f"/support/cases/{self.case_id}"
        staged = []
        for data in (SENT, DROPPED):
            async with session.post(f"{address}/attachments?staged=true", data=form(data)) as response:
                assert response.status == 201, await response.text()
                staged.append(await response.json())
        sent, dropped = staged
        self.unacknowledged.add(sent["sha256"])
        message = {"authorType": "agent", "message": "See the file.", "attachmentIds": [sent["id"]]}
        await expect_json(session.post(f"{address}/messages", json=message))
        self.unacknowledged.discard(sent["sha256"])
        self.acknowledged[sent["id"]] = sent["sha256"]
        await expect_json(session.delete(f"{address}/attachments/{dropped['id']}"), 204)
        self.deleted.add(dropped["id"])

    async def _answers(self, session, process):
        try:
            async with session.get("/livez"):
                return True
        except aiohttp.ClientError:
            if not process.is_alive():
                raise
            return False


class ServeToS3(Serve):
    """Clients of a service that stores new files on S3."""

    variables = {"SUPPORT_ATTACHMENT_STORE": "s3"}  # noqa: RUF012
    steps = ()


class Offload(Scenario):
    arguments = ("offload", "--older-than", "0s")
    steps = (
        before("attachments/maintenance/file_mover.py", "stored = await self._target.put("),  # the file is claimed
        before("attachments/maintenance/file_mover.py", "return await switch_to_copy("),  # it is copied
        before("attachments/garbage.py", "await storage.delete(entry.key)"),  # its row names the copy
    )

    async def finish(self, harness):
        assert {moved.outcome for moved in await harness.offload()} <= {"moved"}
        rows = [await harness.service.get(SYSTEM, harness.case_id, name) for name in self.acknowledged]
        assert {row.storage for row in rows} == {"s3"}


class Retention(Scenario):
    """Files of a closed case are deleted from both storages."""

    arguments = ("retention", "--older-than", "0s")

    async def prepare(self, harness):
        await super().prepare(harness)
        await harness.offload(limit=3)
        await harness.close_case()
        self.unacknowledged = set(self.acknowledged.values())
        self.acknowledged.clear()
        recent = await harness.add(b"young")
        self.acknowledged[recent.id] = recent.sha256

    async def finish(self, harness):
        await harness.retention.run(SYSTEM_ORIGIN, harness.clock())


class Sweep(Scenario):
    """Differences between rows, files and the ledger are repaired."""

    arguments = ("sweep",)

    async def prepare(self, harness):
        await super().prepare(harness)
        await harness.offload(limit=2)
        old = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
        stored = await harness.local.put(stream(b"orphan"))
        (harness.folder / "tmp" / "half").write_bytes(b"half")
        for path in (harness.folder / stored.key, harness.folder / "tmp" / "half"):
            os.utime(path, (old, old))


SCENARIOS = (Serve, ServeToS3, Offload, Retention, Sweep)
