"""A closed loop over raw keep-alive connections, which use a fraction of the CPU of a client library."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

PATIENCE = 60.0  # s after its planned end at which a loop counts as stuck


class Failed(Exception):
    """The measurement can't continue. The message is one sentence with the reason."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request in wire format. A body too large for memory follows in blocks."""

    head: bytes
    blocks: Iterable[bytes] = ()


@dataclass(slots=True)
class Sample:
    """The results of one loop."""

    started: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    database_cpu_seconds: float = 0.0  # of PostgreSQL
    resident_mib: float = 0.0  # memory of the server at the end
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def cpu_ms(self) -> float:
        """Return the server's CPU time per request, in ms."""
        return self.cpu_seconds * 1000 / max(1, self.started)

    @property
    def database_cpu_ms(self) -> float:
        """Return PostgreSQL's CPU time per request, in ms."""
        return self.database_cpu_seconds * 1000 / max(1, self.started)

    def percentile_ms(self, share: float) -> float:
        """Return the latency in ms that `share` of the successful requests did not exceed, or NaN without any."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else math.nan


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that carries one request at a time."""

    def __init__(self, header: bytes = b"") -> None:
        self._header = header
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = False

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Send a request and return the status and body of its answer. Raises ConnectionError if no answer comes."""
        self._answer = asyncio.get_running_loop().create_future()
        head = request.head.replace(b"\r\n", b"\r\n" + self._header, 1) if self._header else request.head
        self._transport.write(head)
        for block in request.blocks:
            if self._answer.done():
                break  # an answer before the end of the body is a refusal
            self._transport.write(block)
            await self._writable.wait()
        return await self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._writable.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(str(exc or "closed by the server")))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        body = _body(bytes(self._buffer[:end]).lower(), self._buffer, end + 4)
        if body is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result((int(self._buffer[9:12]), body))
            self._buffer.clear()


def _body(head: bytes, buffer: bytearray, start: int) -> bytes | None:
    """Return the body, or None if it is not yet complete."""
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        end = start + int(head[at + 17 :].partition(b"\r\n")[0])
        return bytes(buffer[start:end]) if len(buffer) >= end else None
    if b"\r\ntransfer-encoding: chunked" not in head:
        return b""
    if not buffer.endswith(b"\r\n0\r\n\r\n"):
        return None
    body, rest = b"", bytes(buffer[start:])
    while size := int((parts := rest.partition(b"\r\n"))[0], 16):
        body += parts[2][:size]
        rest = parts[2][size + 2 :]
    return body


class Client:
    """A set of connections to one server on loopback. `header` is a line sent with each request."""

    def __init__(self, port: int, connections: int, header: bytes = b"") -> None:
        self._port = port
        self._header = header
        self._connections: list[Connection] = []
        self._wanted = connections

    async def __aenter__(self) -> Self:
        self._connections = [await self._connect() for _ in range(self._wanted)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()

    async def drive(self, requests: Iterator[Request], *, seconds: float, limit: float = math.inf) -> Sample:
        """Send requests on all connections at once, each after the previous answer, for `seconds` or `limit` requests.

        Raises Failed if requests are unanswered PATIENCE seconds after the planned end.
        """
        sample = Sample()
        begin = time.perf_counter()
        loops = (self._loop(slot, requests, sample, begin + seconds, limit) for slot in range(self._wanted))
        try:
            async with asyncio.timeout(seconds + PATIENCE if math.isfinite(seconds) else None):
                await asyncio.gather(*loops)
        except TimeoutError:
            raise Failed(f"The server on port {self._port} left requests unanswered for {PATIENCE:.0f} s") from None
        sample.seconds = time.perf_counter() - begin
        return sample

    async def bodies(self, requests: Iterable[Request]) -> list[bytes]:
        """Send every request and return the bodies in no particular order.

        Raises Failed for an answer that is not 2xx and for a connection that breaks off.
        """
        remaining = iter(requests)
        found: list[bytes] = []

        async def take(connection: Connection) -> None:
            for request in remaining:
                status, body = await connection.send(request)
                if status // 100 != 2:
                    raise Failed(f"The server on port {self._port} answered {status}: {body[:200]!r}")
                found.append(body)

        try:
            await asyncio.gather(*map(take, self._connections))
        except OSError as failure:
            raise Failed(f"The server on port {self._port} broke off: {failure}") from failure
        return found

    async def _loop(self, slot: int, requests: Iterator[Request], sample: Sample, end: float, limit: float) -> None:
        while (started := time.perf_counter()) < end and sample.started < limit:
            sample.started += 1
            try:
                if self._connections[slot].closed:
                    self._connections[slot] = await self._connect()
                status, _ = await self._connections[slot].send(next(requests))
            except OSError as failure:
                sample.errors[type(failure).__name__] += 1
                await asyncio.sleep(0.01)  # don't hammer a server that refuses connections
                continue
            if status // 100 == 2:
                sample.latencies.append(time.perf_counter() - started)
            else:
                sample.errors[str(status)] += 1

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: Connection(self._header), "127.0.0.1", self._port))[1]
