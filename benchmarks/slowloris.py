"""Holds idle and slow connections open: `python -m benchmarks.slowloris HOST PORT IDLE SLOW`.

Connections come from 64 loopback addresses. It prints "open" once all are open, and reopens a connection that the
service ends.
"""

import asyncio
import contextlib
import random
import resource
import sys
from itertools import count

import uvloop

ADDRESSES = 64
CONNECT_CONCURRENCY = 100  # connections opened concurrently
SLOW_WRITE_INTERVAL = 1.0  # seconds between writes of a slow connection
HOST_HEADER = b"Host: localhost\r\n"
REQUEST = b"GET /livez HTTP/1.1\r\n" + HOST_HEADER + b"\r\n"
SLOW_REQUESTS = (  # slow connections: incomplete headers, an incomplete body, and responses that are never read
    b"GET /support/cases HTTP/1.1\r\n" + HOST_HEADER + b"X-Slow: ",
    b"POST /support/cases HTTP/1.1\r\n"
    + HOST_HEADER
    + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
    b"GET /openapi.json HTTP/1.1\r\n" + HOST_HEADER + b"\r\n",
)
connection_numbers = count()


class SlowConnection(asyncio.Protocol):
    """Discards what it receives, and signals the first answer and the end of the connection."""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.answered = asyncio.get_running_loop().create_future()

    def data_received(self, _: bytes) -> None:
        """Signal that an answer has arrived."""
        if not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """Signal that the connection has ended."""
        for each in (self.closed, self.answered):
            if not each.done():
                each.set_result(None)


async def _hold(
    address: tuple[str, int], opening: asyncio.Semaphore, open_connections: asyncio.Semaphore, start: bytes | None
) -> None:
    """Keep one connection open indefinitely. Without `start` it is idle after one request."""
    loop = asyncio.get_running_loop()
    counted = False
    while True:
        try:
            async with opening:
                source = (f"127.0.1.{1 + next(connection_numbers) % ADDRESSES}", 0)
                transport, protocol = await loop.create_connection(SlowConnection, *address, local_addr=source)
                transport.write(start or REQUEST)
                if start is None:
                    await protocol.answered
                elif start == SLOW_REQUESTS[2]:
                    transport.pause_reading()
        except OSError:
            await asyncio.sleep(SLOW_WRITE_INTERVAL)
            continue
        if not counted:
            open_connections.release()
            counted = True
        if start:
            await asyncio.sleep(random.uniform(0, SLOW_WRITE_INTERVAL))  # spread the writes, as real clients do
        while start and not protocol.closed.done():
            await asyncio.sleep(SLOW_WRITE_INTERVAL)
            with contextlib.suppress(RuntimeError):
                transport.write(REQUEST.replace(b"/livez", b"/openapi.json") if start == SLOW_REQUESTS[2] else b"x")
        await protocol.closed


async def _open_all(address: tuple[str, int], idle: int, slow: int) -> None:
    opening, open_connections = asyncio.Semaphore(CONNECT_CONCURRENCY), asyncio.Semaphore(0)
    starts = [None] * idle + [SLOW_REQUESTS[number % len(SLOW_REQUESTS)] for number in range(slow)]
    tasks = [asyncio.create_task(_hold(address, opening, open_connections, start)) for start in starts]
    for _ in tasks:
        await open_connections.acquire()
    print("open", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    uvloop.run(_open_all((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])))
