"""Holds idle and slow connections open: `python -m benchmarks.besieger HOST PORT IDLE SLOW`.

Connections come from 64 loopback addresses. It prints "standing" once all are open, and reopens a connection that the
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
AT_ONCE = 100  # connections opened concurrently
DRIP = 1.0  # seconds between writes of a slow connection
HEAD = b"Host: localhost\r\n"
ONE = b"GET /livez HTTP/1.1\r\n" + HEAD + b"\r\n"
STARTS = (  # of slow connections: a head, a body, and requests whose answers are never read
    b"GET /support/cases HTTP/1.1\r\n" + HEAD + b"X-Slow: ",
    b"POST /support/cases HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
    b"GET /openapi.json HTTP/1.1\r\n" + HEAD + b"\r\n",
)
numbers = count()


class Sink(asyncio.Protocol):
    """Discards what it receives, and signals the first answer and the end of the connection."""

    def __init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self.served = asyncio.get_running_loop().create_future()

    def data_received(self, _: bytes) -> None:
        """Signal that an answer has arrived."""
        if not self.served.done():
            self.served.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """Signal that the connection has ended."""
        for each in (self.over, self.served):
            if not each.done():
                each.set_result(None)


async def _hold(
    address: tuple[str, int], opening: asyncio.Semaphore, standing: asyncio.Semaphore, start: bytes | None
) -> None:
    """Keep one connection open indefinitely. Without `start` it is idle after one request."""
    loop = asyncio.get_running_loop()
    counted = False
    while True:
        try:
            async with opening:
                source = (f"127.0.1.{1 + next(numbers) % ADDRESSES}", 0)
                transport, sink = await loop.create_connection(Sink, *address, local_addr=source)
                transport.write(start or ONE)
                if start is None:
                    await sink.served
                elif start == STARTS[2]:
                    transport.pause_reading()
        except OSError:
            await asyncio.sleep(DRIP)
            continue
        if not counted:
            standing.release()
            counted = True
        if start:
            await asyncio.sleep(random.uniform(0, DRIP))  # spread the writes, as real clients do
        while start and not sink.over.done():
            await asyncio.sleep(DRIP)
            with contextlib.suppress(RuntimeError):
                transport.write(ONE.replace(b"/livez", b"/openapi.json") if start == STARTS[2] else b"x")
        await sink.over


async def _besiege(address: tuple[str, int], idle: int, slow: int) -> None:
    opening, standing = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(0)
    starts = [None] * idle + [STARTS[number % len(STARTS)] for number in range(slow)]
    tasks = [asyncio.create_task(_hold(address, opening, standing, start)) for start in starts]
    for _ in tasks:
        await standing.acquire()
    print("standing", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_besiege((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])))
