"""Writes through a proxy that fails at random take effect exactly once."""

import asyncio
import hashlib
import os
import random
import sys
from collections import Counter

import pytest

from support_service.client import Case, ClientTimings, SupportClient
from support_service.core.clock import Backoff
from tests.conftest import both_databases
from tests.support.client.random_faults import FAULTS, RandomFaults
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

WORKERS = int(os.environ.get("CLIENT_WORKERS", "4"))
WRITES = int(os.environ.get("CLIENT_WRITES", "8"))  # of each worker, besides the case that it opens
SHARE, SEED = 0.4, 32  # of the requests fail; the first 34 draws of this seed have each kind of fault
# An attempt is shorter than the delay of the proxy, and a call may have as many as it needs.
TIMINGS = ClientTimings(attempt=1.5, deadline=300.0, attempts=1000, backoff=Backoff(0.01, 0.2))
DELAY = 1.8  # seconds


class Worker:
    """Writes at random to a case of its own and to one that all share; keeps what it has written."""

    def __init__(self, client: SupportClient, shared: Case, number: int) -> None:
        self._client = client
        self._shared = shared
        self._draw = random.Random(number)
        self.number = number
        self.case_id = ""
        self.messages: list[str] = []
        self.files: dict[str, str] = {}
        self.counted = 0
        self.views: list[str] = []
        self.calls: Counter[str] = Counter()

    async def run(self) -> None:
        """Open a case and write to it."""
        self.case_id = (await self._client.open_case(subject=f"Case of {self.number}", channel="email")).id
        writes = [self._say, self._say, self._attach, self._count, self._view]
        for turn in range(WRITES):
            write = self._draw.choice(writes)
            await write(f"{self.number}-{turn}")
            self.calls[write.__name__] += 1

    async def _say(self, name: str) -> None:
        await self._client.add_message(self.case_id, author_type="agent", message=name)
        self.messages.append(name)

    async def _attach(self, name: str) -> None:
        data = self._draw.randbytes(self._draw.choice((0, 1_000, 60_000, 300_000)))
        await self._client.upload(self.case_id, data, filename=name)
        self.files[name] = hashlib.sha256(data).hexdigest()

    async def _count(self, _name: str) -> None:
        """Add one to the number in the description of the shared case."""
        await self._client.update_case(self._shared.id, lambda now: {"description": str(int(now.description or 0) + 1)})
        self.counted += 1

    async def _view(self, name: str) -> None:
        view = await self._client.create_view(name, {"status": "open"})
        if self.views:  # a user has at most 100
            await self._client.delete_view(view.id)
        else:
            self.views.append(name)


@both_databases
async def test_every_write_takes_effect_exactly_once(environment, tmp_path, backend):
    address = f"http://127.0.0.1:{(port := free_port())}"
    variables = environment | {"SUPPORT_PORT": str(port), "SUPPORT_LOG_LEVEL": "warning"}
    async with running("serve", cwd=tmp_path, **variables) as service, SupportClient(address) as direct:
        await service.wait_until_ready(address)
        shared = await direct.open_case(subject="Shared", channel="email", description="0")
        async with (
            RandomFaults(address, share=SHARE, delay=DELAY, seed=SEED) as proxy,
            SupportClient(proxy.url, timings=TIMINGS) as client,
        ):
            workers = [Worker(client, shared, number) for number in range(WORKERS)]
            await asyncio.gather(*(worker.run() for worker in workers))
        await _expect_once(direct, shared, workers)
    writes = sum((worker.calls for worker in workers), Counter({"open": WORKERS}))
    faults = {name: proxy.counts[name] for name in FAULTS}
    sent = proxy.counts.total()
    line = f"{backend}: {writes.total()} calls in {sent} requests, each with one effect; faults: {faults}"
    sys.stdout.write(f"\n{line}\n")
    assert all(faults.values())


async def _expect_once(client: SupportClient, shared: Case, workers: list[Worker]) -> None:
    """Compare what the service has with what the workers have written: nothing is missing, nothing is there twice."""
    opened = Counter([case.subject async for case in client.list_cases()])
    assert opened == Counter(["Shared", *(f"Case of {worker.number}" for worker in workers)])
    for worker in workers:
        case = await client.get_case(worker.case_id)
        assert [message.message for message in case.messages] == worker.messages
        assert {file.filename: file.sha256 for file in case.attachments} == worker.files
        assert len(case.attachments) == len(worker.files)
        recorded = Counter([entry.action async for entry in client.list_audit(case.id)])
        added = {"message.added": len(worker.messages), "attachment.added": len(worker.files)}
        assert recorded == Counter({"case.opened": 1} | {name: number for name, number in added.items() if number})
        assert case.version == recorded.total()
    counted = sum(worker.counted for worker in workers)
    case = await client.get_case(shared.id)
    assert (case.description, case.version) == (str(counted), counted + 1)
    views = sorted([view.name async for view in client.list_views()])
    assert views == sorted(name for worker in workers for name in worker.views)
