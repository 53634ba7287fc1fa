"""One service behind the timeline over bare TCP, which can break every rule of HTTP, and the ways in which it does."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.servers import free_port

Fault = Callable[["Exchange"], Awaitable[None]]
MEBIBYTE = 1024 * 1024
KEPT_OPEN = 30.0  # seconds for which a service that says nothing holds a connection at most


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, target: str, writer: asyncio.StreamWriter, service: "Service") -> None:
        self.target = target  # percent-encoded as it came
        self._writer = writer
        self._service = service

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; raises where the client takes no more."""
        self._writer.write(data)
        await self._writer.drain()
        self._service.sent += len(data)

    async def answer(self, status: int, body: bytes = b"", *headers: str) -> None:
        """Send a whole answer of JSON, or of what calls itself so."""
        lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        """Send away the client with a TCP reset."""
        option = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._writer.transport.abort()


class Service:
    """Answers the targets that it knows, 404 for others; with a `fault` it does that instead.

    Every answer ends its connection, so that no call finds one that an earlier fault left behind.
    """

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.targets: list[str] = []
        self.sent = 0  # bytes
        self.documents: dict[str, bytes] = {}  # by target
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.url = f"http://127.0.0.1:{self._port}"

    async def open(self) -> None:
        """Listen, at the same port each time."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def close(self) -> None:
        """Refuse connections, and drop those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def know(self, target: str, document: Any) -> None:
        """Answer a target with a document."""
        self.documents[target] = json.dumps(document).encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            # A task that asyncio's streams began and that ends cancelled is complained of at length.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1].decode()
                self.targets.append(target)
                await (self.fault or self._answer)(Exchange(target, writer, self))
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        known = self.documents.get(exchange.target)
        await exchange.answer(404 if known is None else 200, known or b"", "Connection: close")


def status(number: int, *headers: str) -> Fault:
    """Answer with a status."""
    return lambda exchange: exchange.answer(number, b"{}", "Connection: close", *headers)


def body(data: bytes | str, *headers: str) -> Fault:
    """Answer 200 with these bytes."""
    data = data if isinstance(data, bytes) else data.encode()
    return lambda exchange: exchange.answer(200, data, "Connection: close", *headers)


def document(known: Any) -> Fault:
    """Answer 200 with a document, whatever its shape."""
    return body(json.dumps(known))


def raw(data: bytes) -> Fault:
    """Send these bytes instead of an answer, and hang up."""
    return lambda exchange: exchange.send(data)


async def reset_before_headers(exchange: Exchange) -> None:
    """Reset the connection once the request is there."""
    exchange.reset()


async def hang_up_before_headers(_: Exchange) -> None:
    """End the connection in an orderly way, without an answer."""


async def reset_in_body(exchange: Exchange) -> None:
    """Begin the answer, and reset the connection in the middle."""
    await exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items": [')
    await asyncio.sleep(0.05)  # a reset overtakes what the client has not read yet
    exchange.reset()


async def hang_before_headers(_: Exchange) -> None:
    """Say nothing."""
    await asyncio.sleep(KEPT_OPEN)


async def one_byte_a_second(exchange: Exchange) -> None:
    """Send the headers, and then a byte of white space every second, which is JSON so far."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(round(KEPT_OPEN)):
        await exchange.send(b" ")
        await asyncio.sleep(1)


async def slow_headers(exchange: Exchange) -> None:
    """Send a byte of the first line every second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Le":
        await exchange.send(bytes([byte]))
        await asyncio.sleep(1)


async def please_continue(exchange: Exchange) -> None:
    """Send interim answers without an end, and never the answer."""
    for _ in range(round(KEPT_OPEN / 0.01)):
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


def huge(*, size: int, chunked: bool = False) -> Fault:
    """Send a JSON string of so many bytes, if the client takes them."""

    async def send(exchange: Exchange) -> None:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        await exchange.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        piece = b"x" * 65_536
        framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
        for _ in range(size // len(piece)):
            await exchange.send(framed)

    return send


def bomb(mebibytes: int) -> bytes:
    """Gzip that unpacks to so many MiB of zeros, at a thousandth of their size."""
    return gzip.compress(bytes(MEBIBYTE)) * mebibytes  # members may follow one another
