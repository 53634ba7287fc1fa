"""The usual load: new cases that are read once, cases that are read again, and small files."""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp

from tests.support.calls import eventually

READ_BACK_WITHIN = 10.0  # seconds
RECENT = 10  # cases that are read again; few, since they are in no cache after an outage until each was read once
FROM = "127.0.0.2"  # the address of all clients; another one than the probe's, whose rate is limited on its own


@dataclass
class Traffic:
    """Rates per second; a fault may change them, and the token, while the load runs."""

    address: str
    token: str
    cases: float = 4.0
    reads: float = 8.0
    uploads: float = 1.0
    file_size: int = 100
    unread_cases: float = 0.0  # cases that are opened and never read
    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)  # hash by (case, file), "" for a case
    _recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    _session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Traffic"]:
        """Generate load for the length of a block; responses are not checked, since the alerts do that."""
        async with self.session() as self._session:
            calls = (
                (self._open, "cases"),
                (self._read, "reads"),
                (self._file, "uploads"),
                (self._open_unread, "unread_cases"),
            )
            tasks = [asyncio.create_task(self._repeat(call, rate)) for call, rate in calls]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def session(self, token: str = "", timeout: float = 8) -> aiohttp.ClientSession:
        """Return a client of its own, with the token of all clients, or another one."""

        async def authenticate(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            request.headers["Authorization"] = f"Bearer {token or self.token}"
            return await handler(request)

        return aiohttp.ClientSession(
            self.address,
            timeout=aiohttp.ClientTimeout(total=timeout),
            connector=aiohttp.TCPConnector(local_addr=(FROM, 0)),
            middlewares=(authenticate,),
        )

    async def promise_answers(self) -> None:
        """Make a service level policy for cases with the tag `promised`: an answer within a second."""
        policy = {"match": {"tag": ["promised"]}, "targets": {"firstResponse": "PT1S"}}
        async with self._session.put("/support/sla-policies/drill", json=policy):
            pass

    async def open_case(self, *, read: bool = True, tags: Sequence[str] = ()) -> str:
        """Open a case about its own order; `read` reads it once."""
        body: dict[str, object] = {"subject": "A parcel", "channel": "email", "tags": list(tags)}
        body["context"] = [{"type": "order", "orderId": f"ORD-{random.randrange(10**9)}"}]
        async with self._session.post("/support/cases", json=body) as response:
            case = str((await response.json())["id"])
        self.acknowledged[case, ""] = ""
        if read:
            await self._timeline(case)
            self._recent.append(case)
        return case

    async def upload(self, case: str, size: int) -> str:
        form, content = aiohttp.FormData(), random.randbytes(size)
        form.add_field("file", content, filename="photo.bin")
        async with self._session.post(f"/support/cases/{case}/attachments", data=form) as response:
            file = str((await response.json())["id"]) if response.status == 201 else ""
        if file:
            self.acknowledged[case, file] = hashlib.sha256(content).hexdigest()
        return file

    async def remove(self, case: str, attachment: str) -> None:
        self.acknowledged.pop((case, attachment), None)
        async with self._session.delete(f"/support/cases/{case}/attachments/{attachment}"):
            pass

    async def lost(self, at_most: int) -> list[str]:
        """Read back what was acknowledged, or a sample of `at_most` of it; return what is not there as it was sent."""
        kept = list(self.acknowledged.items())
        sample = random.sample(kept, min(at_most, len(kept)))
        async with self.session() as session:
            found = [await self._read_back(session, *key, expected) for key, expected in sample]
        return [problem for problem in found if problem]

    async def _read_back(self, session: aiohttp.ClientSession, case: str, file: str, expected: str) -> str:
        """Return what is wrong with an acknowledged case or file, or nothing; a refusal is not an answer."""
        path = f"/support/cases/{case}" + f"/attachments/{file}/photo.bin" * bool(file)
        answer = ""

        async def is_answered() -> bool:
            nonlocal answer
            try:
                async with session.get(path) as response:
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = repr(error)
                return False
            answer = f"{response.status} {content[:200]!r}"
            if response.status == 200 and (not file or hashlib.sha256(content).hexdigest() == expected):
                answer = ""
            return not answer or response.status in {200, 404, 410}

        with suppress(AssertionError):  # no answer in time
            await eventually(is_answered, READ_BACK_WITHIN)
        return f"{path}, which was acknowledged: {answer}" if answer else ""

    async def _repeat(self, call: Callable[[], Awaitable[object]], rate: str) -> None:
        """Make calls at the given rate, whether or not earlier calls have ended."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                per_second = getattr(self, rate)
                await asyncio.sleep(1 / per_second if per_second else 0.1)
                if per_second and len(running) < 100:
                    task = asyncio.create_task(self._once(call))
                    running.add(task)
                    task.add_done_callback(running.discard)
        finally:
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _once(self, call: Callable[[], Awaitable[object]]) -> None:
        with suppress(aiohttp.ClientError, TimeoutError, KeyError, ValueError):
            await call()

    async def _open(self) -> None:
        await self.open_case()

    async def _open_unread(self) -> None:
        await self.open_case(read=False)

    async def _read(self) -> None:
        if self._recent:
            await self._timeline(random.choice(self._recent))

    async def _file(self) -> None:
        if self._recent:
            await self.upload(random.choice(self._recent), self.file_size)

    async def _timeline(self, case: str) -> None:
        async with self._session.get(f"/support/cases/{case}", params={"includeTimeline": "true"}) as response:
            await response.read()
