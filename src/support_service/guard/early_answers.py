"""Answers that are sent before the body of their request has arrived as a whole.

A client uses its connection again unless the answer says `Connection: close`. A connection that is closed while the
client still sends is reset, and the client may lose the answer. So there are two ways to end such a request:

- A short rest of the body is read before the answer, and the connection stays open.
- Otherwise the answer says that the connection closes. After the answer the service discards what arrives, until the
  client has left.
"""

import asyncio
from contextlib import suppress

from aiohttp import web

from support_service.guard.guard import Guard
from support_service.guard.overload import Readiness

MAX_REST_BYTES = 64 * 1024  # bytes of a body that are read before its answer


async def read_short_rest(request: web.BaseRequest, seconds: float) -> bool:
    """Read and discard the rest of a body if it is short and arrives in time. Return whether the body has ended."""
    body, left = request.content, MAX_REST_BYTES
    length = request.content_length
    if (body.total_bytes if length is None else length - body.total_bytes) > left:
        return False
    with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):  # the answer is the same
        async with asyncio.timeout(seconds):
            while left >= 0 and (chunk := await body.readany()):
                left -= len(chunk)
    return body.is_eof()


class LingeringClose(asyncio.Protocol):
    """The end of a connection: it discards what arrives until the client has read the last answer, and left."""

    def __init__(self, connection: asyncio.Protocol, transport: asyncio.Transport, guard: Guard) -> None:
        """Take a connection over, and tell its client that the last answer is complete."""
        timings = guard.connections.timings
        self._connection = connection
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._left = timings.lingering_bytes
        self._pause = timings.lingering_pause
        self._received_at = self._loop.time()
        self._until = self._received_at + timings.lingering_time
        transport.set_protocol(self)
        transport.resume_reading()  # aiohttp may have paused it because nobody read the body
        transport.write_eof()
        self._task = self._loop.create_task(self._wait(guard.readiness))

    def data_received(self, data: bytes) -> None:
        """Discard data. Too much of it ends the connection."""
        self._received_at = self._loop.time()
        self._left -= len(data)
        if self._left < 0:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the connection."""
        self._lost.set_result(None)
        self._connection.connection_lost(exc)

    async def _wait(self, readiness: Readiness) -> None:
        """Close the connection when its client has left, has sent nothing for a while, or has sent for too long."""
        with readiness.count_unfinished_body():
            while not self._lost.done():
                left = min(self._received_at + self._pause, self._until) - self._loop.time()
                if left <= 0:
                    break
                await asyncio.wait((self._lost,), timeout=left)
        self._transport.close()
