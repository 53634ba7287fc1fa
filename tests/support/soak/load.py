"""The load of a soak: agents, downloads that end early, streams that come back, imports and retention."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import aiohttp

from tests.support.calls import form
from tests.support.importing import write_lines

AGENTS, FOLLOWERS = 6, 6
IMPORTED = 20  # cases of each import
FILE_BYTES = 400_000
ATTEMPTS = 20  # of a request, on a machine that is far too busy
TURNED_AWAY = {429, 503}
FIRST_BYTES = 1000  # that a client reads of a download before it goes away
CLOSED_FOR = "2s"  # until retention deletes a closed case
# What retention says, with status 1, if a storage or Redis did not answer in time.
LEFT_FOR_LATER = ("files are not deleted yet", "was not reached")
NO_REUSE = {"Connection": "close"}  # of a request that the client ends in the middle
FEWEST = ("cases", "downloads", "ended downloads", "streams", "imports", "retentions")  # each must have happened

Run = Callable[..., Awaitable[tuple[int, str]]]  # runs a command; returns its status and what it printed


class Load:
    """Clients of some replicas, and an operator who imports and deletes cases with commands."""

    def __init__(self, addresses: Sequence[str], folder: Path, run: Run, *, seed: int, pause: float) -> None:
        self.counts: Counter[str] = Counter()
        self._addresses = addresses
        self._folder = folder
        self._run = run
        self._random = random.Random(seed)
        self._pause = pause
        self._numbers = count()

    @property
    def is_complete(self) -> bool:
        """Whether everything has happened at least once."""
        return all(self.counts[name] for name in FEWEST)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all clients for the length of a block, which ends early if one of them fails."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as group,
        ):
            work = [*[self._work_on_case] * AGENTS, *[self._follow] * FOLLOWERS, self._import_and_delete]
            tasks = [group.create_task(self._repeat(each, session)) for each in work]
            yield
            for task in tasks:
                task.cancel()

    async def _repeat(self, work: Callable[[aiohttp.ClientSession], Awaitable[None]], session) -> None:
        while True:
            await work(session)
            await asyncio.sleep(self._random.uniform(0, 2 * self._pause))

    async def _call(self, session, method: str, path: str, **options):
        """Send a request; again if its connection was closed, or if the service is too busy."""
        url = self._random.choice(self._addresses) + path
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                response, body = await self._send(session, method, url, **options)
            except aiohttp.ClientConnectionError:
                if not left:
                    raise
                self.counts["closed connections"] += 1
                continue
            if left and await self._is_turned_away(response):
                continue
            assert response.status < 400, f"{method} {url}: {response.status} {body[:300]!r}"
            self.counts["requests"] += 1
            return json.loads(body) if response.content_type == "application/json" else body

    @staticmethod
    async def _send(session, method: str, url: str, **options):
        if "file" in options:
            options["data"] = form(options.pop("file"))  # a form can be sent once
        async with session.request(method, url, **options) as response:
            return response, await response.read()

    async def _is_turned_away(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the service is too busy; then wait for as long as it asks for, as clients do."""
        if response.status not in TURNED_AWAY or "Retry-After" not in response.headers:
            return False
        self.counts["turned away"] += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))
        return True

    async def _work_on_case(self, session) -> None:
        """Open a case, converse, search, send files and read them, and close it."""
        number = next(self._numbers)
        context = {"type": "order", "orderId": "ORD-1"}
        body = {"subject": f"Parcel {number}", "channel": "email", "context": context}
        case = await self._call(session, "POST", "/support/cases", json=body)
        path = f"/support/cases/{case['id']}"
        for author in ("customer", "agent"):
            message = {"authorType": author, "message": f"Where is parcel {number}?"}
            await self._call(session, "POST", f"{path}/messages", json=message)
        await self._call(session, "GET", path, params={"includeTimeline": "true"})
        await self._call(session, "GET", "/support/cases", params={"q": f"parcel {number}"})
        file = await self._call(session, "POST", f"{path}/attachments", file=b"x" * FILE_BYTES)
        for _ in range(3):
            await self._download(session, file["uri"])
        for status in ("resolved", "closed"):
            await self._call(session, "POST", f"{path}/status", params={"status": status})
        self.counts["cases"] += 1

    async def _download(self, session, path: str) -> None:
        """Read a file, or go away after its first bytes."""
        if self._random.random() < 0.5:
            await self._call(session, "GET", path)
            self.counts["downloads"] += 1
            return
        async with session.get(self._random.choice(self._addresses) + path, headers=NO_REUSE) as response:
            if await self._is_turned_away(response):
                return
            assert response.status == 200, await response.text()
            await response.content.readexactly(FIRST_BYTES)
            response.close()
        self.counts["ended downloads"] += 1

    async def _follow(self, session) -> None:
        """Follow the stream of changes for a while, go away without a word, and come back with the last position."""
        position = ""
        for _ in range(3):
            headers = NO_REUSE | ({"Last-Event-ID": position} if position else {})
            url = f"{self._random.choice(self._addresses)}/support/stream"
            async with session.get(url, headers=headers, timeout=aiohttp.ClientTimeout()) as response:
                if await self._is_turned_away(response):
                    continue
                assert response.status == 200, await response.text()
                self.counts["streams"] += 1
                try:
                    async with asyncio.timeout(self._random.uniform(0.1, 10 * self._pause)):
                        async for line in response.content:
                            if line.startswith(b"id:"):
                                position = line[3:].strip().decode()
                except TimeoutError:
                    response.close()

    async def _import_and_delete(self, _session) -> None:
        (self._folder / "label.txt").write_bytes(b"y" * 2000)
        at = "2024-01-01T08:00:00Z"
        cases = [
            {
                "externalId": f"import-{next(self._numbers)}",
                "subject": "Imported",
                "channel": "email",
                "status": "closed",
                "sentAt": at,
                "closedAt": at,
                "messages": [{"authorType": "customer", "message": "Hello", "sentAt": at}],
                "attachments": [{"path": "label.txt", "sentAt": at}],
            }
            for _ in range(IMPORTED)
        ]
        await self._command("imports", "import", str(write_lines(self._folder / "cases.jsonl", cases)))
        await self._command("retentions", "retention", "--closed-for", CLOSED_FOR, "--erase")

    async def _command(self, name: str, *arguments: str) -> None:
        status, printed = await self._run(*arguments)
        if status == 1 and any(each in printed for each in LEFT_FOR_LATER):
            self.counts[f"incomplete {name}"] += 1
            return
        assert status == 0, f"{arguments}: {status} {printed}"
        self.counts[name] += 1
