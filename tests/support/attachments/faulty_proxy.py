"""An HTTP proxy in front of an S3 server, which changes requests and responses as a test says."""

import asyncio
import io

import aiohttp
from aiohttp import web

HOP_HEADERS = {"connection", "content-length", "host", "transfer-encoding"}


class FaultyProxy:
    """Forwards requests.

    `send` changes a request's body, `give` a response's body; `answer` answers in place of the server. `cut` is the
    number of bytes after which the response to a GET breaks off. `delay` is a time in seconds before each request.
    """

    def __init__(self, target):
        self._target = target
        self.send = self.give = lambda _method, body: body
        self.answer = lambda _request: None
        self.cut = None
        self.delay = 0.0
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app)
        self.url = ""

    async def start(self):
        self._session = aiohttp.ClientSession(auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self):
        await self._session.close()
        await self._runner.cleanup()

    async def _forward(self, request):
        body = await request.read()
        await asyncio.sleep(self.delay)
        if (answer := self.answer(request)) is not None:
            return answer
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
        sent = self.send(request.method, body)
        async with self._session.request(
            request.method, self._target + request.raw_path, data=io.BytesIO(sent), headers=headers
        ) as response:
            data = await response.read()
            headers = {name: value for name, value in response.headers.items() if name.lower() not in HOP_HEADERS}
            if request.method == "HEAD":
                headers["Content-Length"] = response.headers.get("Content-Length", "0")
                return web.Response(status=response.status, headers=headers)
            if request.method == "GET" and self.cut is not None:
                return await self._cut_off(request, response.status, headers, data)
            return web.Response(status=response.status, headers=headers, body=self.give(request.method, data))

    async def _cut_off(self, request, status, headers, data):
        broken = web.StreamResponse(status=status, headers=headers)
        broken.content_length = len(data)
        await broken.prepare(request)
        await broken.write(data[: self.cut])
        request.transport.abort()
        return broken


def with_last_bit_flipped(method, body, *, methods):
    """Return a body with another last bit, for the requests of these methods."""
    return body[:-1] + bytes([body[-1] ^ 1]) if body and method in methods else body
