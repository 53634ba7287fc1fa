"""Clients in a closed loop, each with one request at a time; prints JSON.

`python -m benchmarks.closed_loop PORT CASE CONNECTIONS SECONDS`
"""

import asyncio
import json
import resource
import sys
from time import perf_counter

import uvloop

ADDRESSES = 64
CONNECT_BATCH = 200  # connections opened concurrently
WARM_UP = 5.0  # seconds before answers count: the service has to detect the overload first


class Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, request: bytes, answers: list[tuple[float, int, float]]) -> None:
        self._request = request
        self._answers = answers
        self._transport: asyncio.Transport
        self._sent = 0.0
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport  # type: ignore[assignment]
        self._send_request()

    def data_received(self, data: bytes) -> None:
        """Record an answer once it is complete and send the next request, 1 s later after a 503."""
        if not self._left:
            self._head += data
            head, blank, body = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            data = body
        self._left -= len(data)
        if self._left > 0:
            return
        status = int(self._head[9:12])
        now = perf_counter()
        self._answers.append((now, status, now - self._sent))
        self._head, self._left = b"", 0
        if status == 503:
            asyncio.get_running_loop().call_later(1.0, self._send_request)
        else:
            self._send_request()

    def _send_request(self) -> None:
        if not self._transport.is_closing():
            self._sent = perf_counter()
            self._transport.write(self._request)


async def _run(port: int, case: str, connections: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    request = f"GET /support/cases/{case} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    answers: list[tuple[float, int, float]] = []
    for first in range(0, connections, CONNECT_BATCH):
        await asyncio.gather(
            *(
                loop.create_connection(
                    lambda: Client(request, answers),
                    "127.0.0.1",
                    port,
                    local_addr=(f"127.0.1.{1 + number % ADDRESSES}", 0),
                )
                for number in range(first, min(first + CONNECT_BATCH, connections))
            )
        )
    await asyncio.sleep(WARM_UP)
    since = perf_counter()
    await asyncio.sleep(seconds)
    counted = [(status, took) for at, status, took in answers if at >= since]
    good = sorted(took for status, took in counted if status == 200)
    refused = sum(status == 503 for status, _ in counted)
    p50, p99 = ((good[len(good) * each // 100] if good else 0.0) for each in (50, 99))
    print(json.dumps({"good": len(good), "refused": refused, "p50": p50, "p99": p99}))


if __name__ == "__main__":
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    uvloop.run(_run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
