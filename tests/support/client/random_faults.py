"""An HTTP proxy that fails at random, as networks and load balancers do, with the number of each fault."""

import asyncio
import random
import socket
import struct
from collections import Counter

import aiohttp
from aiohttp import web

HOP_HEADERS = {"connection", "content-length", "host", "transfer-encoding", "keep-alive"}
PASS = "pass"
FAULTS = (
    "drop request",  # the connection closes before the service gets the request
    "reset in body",  # a reset after a part of the body was read
    "busy",  # 503 in place of the service
    "drop answer",  # the service made the change, and the connection closes without an answer
    "reset answer",  # the same with a reset
    "cut answer",  # half of the answer
    "gateway error",  # 502 or 504, though the service made the change
    "slow answer",  # the service made the change, and the answer comes after the client gave up
    "slow request",  # the request arrives late, after the client gave up on it
)


class RandomFaults:
    """A proxy before `target`. `share` is the share of the requests that fail; `delay` the seconds of a slow one.

    The faults follow from the seed alone, in the order of the requests.
    """

    def __init__(self, target: str, *, share: float, delay: float, seed: int) -> None:
        self._target = target
        self._share = share
        self._delay = delay
        self._draw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.url = ""

    async def __aenter__(self):
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()
        await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        fault = self._draw.choice(FAULTS) if self._draw.random() < self._share else PASS
        self.counts[fault] += 1
        if fault in {"drop request", "reset in body"}:
            await request.content.read(1024 if fault == "reset in body" else 0)
            return self._break(request, reset=fault == "reset in body")
        body = await request.read()
        if fault == "busy":
            return web.Response(status=503, text="no server is available", headers={"Retry-After": "0"})
        if fault == "slow request":
            await asyncio.sleep(self._delay)
        answer = await self._forward(request, body)
        if fault == "slow answer":
            await asyncio.sleep(self._delay)
        return await self._answer(request, fault, *answer)

    async def _answer(
        self, request: web.Request, fault: str, status: int, headers: dict[str, str], answer: bytes
    ) -> web.StreamResponse:
        if fault == "gateway error":
            return web.Response(status=(502, 504)[self.counts[fault] % 2], text="the service did not answer")
        if fault in {"drop answer", "reset answer"}:
            return self._break(request, reset=fault == "reset answer")
        if fault == "cut answer":
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = len(answer) + 1
            await response.prepare(request)
            await response.write(answer[: len(answer) // 2])
            return self._break(request, response)
        return web.Response(status=status, headers=headers, body=answer)

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
        async with self._session.request(
            request.method, self._target + request.raw_path, data=body, headers=headers
        ) as response:
            kept = {name: value for name, value in response.headers.items() if name.lower() not in HOP_HEADERS}
            return response.status, kept, await response.read()

    @staticmethod
    def _break(request: web.Request, response: web.StreamResponse | None = None, *, reset: bool = False):
        """Close the connection of a request; with `reset`, so that the client gets a RST."""
        if request.transport is not None:
            if reset:
                linger = struct.pack("ii", 1, 0)
                request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.transport.abort()
        return response or web.Response()
