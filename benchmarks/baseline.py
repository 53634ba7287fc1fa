"""The baseline server: answers the service's routes with as little work as the HTTP stack allows.

No validation, no schema, no telemetry. A create or a message is one insert, a read one primary-key lookup, a
cached timeline one Redis GET. A cold timeline is four concurrent calls and a SET, an upload one file written as it
arrives.
"""

import asyncio
import os
import sys
import uuid
from collections import deque
from pathlib import Path
from typing import Any, cast

import aiohttp
import hiredis
import uvloop
from aiohttp import web

from benchmarks.bare_server import READ_BUFFER, serve
from benchmarks.baseline_store import Store, open_store

CASES = "/support/cases"
SOURCES = ("/orders/101", "/orders/101/events", "/payments/501", "/fulfillment/shipments/301")
METRICS = "".join(f'baseline_requests_total{{route="/r{n}",status="2xx"}} {n}.0\n' for n in range(120)).encode()


class Redis(asyncio.Protocol):
    """One connection. Commands are written at once and answered in order."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport

    @classmethod
    async def connect(cls, port: int) -> "Redis":
        """Connect to database 2, which no service uses."""
        _, redis = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        await redis.command(b"SELECT", b"2")
        return redis

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        while self._waiting:
            self._waiting.popleft().set_exception(exc or ConnectionError("Redis closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)

    def command(self, *parts: bytes) -> asyncio.Future[Any]:
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._transport.write(hiredis.pack_command(parts))  # type: ignore[arg-type]  # its stub accepts only tuples of one
        return waiter


class BaselineHandler:
    """A handler that dispatches the routes without a router."""

    def __init__(self, directory: Path, store: Store, redis: Redis, http: aiohttp.ClientSession) -> None:
        self._files = directory / "files"
        self._files.mkdir(parents=True, exist_ok=True)  # a replica may have created it
        self._store = store
        self._redis = redis
        self._http = http
        self._fetches: dict[str, asyncio.Task[bytes]] = {}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        if path == "/metrics":
            return web.Response(body=METRICS, content_type="text/plain")
        case_id, _, action = path.removeprefix(CASES).strip("/").partition("/")
        if request.method == "GET":
            if "includeTimeline" in request.query_string:
                cached = await self._redis.command(b"GET", case_id.encode())
                return answer(cached if cached is not None else await self._cold(case_id))
            document = await self._store.case(case_id)
            return answer(document) if document is not None else answer(b"{}", 404)
        if action == "attachments":
            return await self._upload(request)
        if action == "timeline/refresh":
            return answer(await self._cold(case_id))
        return await self._insert(case_id, await request.read())

    async def _insert(self, case_id: str, body: bytes) -> web.Response:
        if case_id:
            await self._store.add_message(case_id, body)
            return answer(body)
        case_id = str(uuid.uuid4())
        body = b'{"id":"%s",%s' % (case_id.encode(), body[1:])
        await self._store.add_case(case_id, body)
        return answer(body, 201)

    async def _cold(self, case_id: str) -> bytes:
        """Return the timeline from its sources. Concurrent requests for a case share one fetch."""
        fetch = self._fetches.get(case_id)
        if fetch is None:
            fetch = self._fetches[case_id] = asyncio.ensure_future(self._collect(case_id))
            fetch.add_done_callback(lambda _: self._fetches.pop(case_id, None))
        return await asyncio.shield(fetch)

    async def _collect(self, case_id: str) -> bytes:
        parts = await asyncio.gather(*map(self._source, SOURCES))
        body = b'{"id":"%s","timeline":[%s]}' % (case_id.encode(), b",".join(parts))
        await self._redis.command(b"SET", case_id.encode(), body, b"EX", b"300")
        return body

    async def _source(self, path: str) -> bytes:
        async with self._http.get(path) as response:
            return await response.read()

    async def _upload(self, request: web.BaseRequest) -> web.Response:
        """Write the single part to a file. The last bytes are held back, because they may be the closing boundary."""
        tail = f"\r\n--{request.headers['Content-Type'].partition('boundary=')[2]}--\r\n".encode()
        name = uuid.uuid4().hex
        file = os.open(self._files / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        buffer, size, in_part = bytearray(), 0, False
        try:
            while chunk := await request.content.readany():
                buffer += chunk
                if not in_part:
                    start = buffer.find(b"\r\n\r\n") + 4
                    in_part = start > 3
                    del buffer[: start if in_part else 0]
                elif len(buffer) >= READ_BUFFER + len(tail):
                    size += os.write(file, memoryview(buffer)[: -len(tail)])
                    buffer = buffer[-len(tail) :]
            if not buffer.endswith(tail):
                return answer(b"{}", 400)
            size += os.write(file, memoryview(buffer)[: -len(tail)])
        finally:
            os.close(file)
        return answer(b'{"id":"%s","sizeBytes":%d}' % (name.encode(), size), 201)


def answer(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})


async def main(port: int, directory: Path, redis_port: int, stub_url: str, database_url: str) -> None:
    """Serve until SIGTERM."""
    redis = await Redis.connect(redis_port)
    store = await open_store(database_url)
    async with aiohttp.ClientSession(stub_url, connector=aiohttp.TCPConnector(limit=0)) as http:
        await serve(BaselineHandler(directory, store, redis, http), port=port)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
