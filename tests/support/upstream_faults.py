"""A request to a fake upstream service, and the ways in which the service can fail to answer it."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

Fault = Callable[["Exchange"], Awaitable[None]]
MEBIBYTE = 1024 * 1024
# Seconds for which a silent service holds a connection: longer than any test waits, so that a caller without a timeout
# fails its test.
HOLD_FOR = 120.0


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(
        self, target: str, writer: asyncio.StreamWriter, record_sent: Callable[[int], None], *, keep_alive: bool
    ) -> None:
        self.target = target  # percent-encoded as received
        self.keep_alive = keep_alive
        self.reusable = False  # set once a complete response keeps the connection open
        self._writer = writer
        self._record_sent = record_sent

    async def send(self, data: bytes) -> None:
        """Send raw bytes. Raises OSError once the client has closed the connection."""
        self._writer.write(data)
        await self._writer.drain()
        self._record_sent(len(data))

    async def respond(self, status: int, body: bytes = b"", *headers: str) -> None:
        """Send a complete response with a JSON content type."""
        if not self.keep_alive:
            headers = (*headers, "Connection: close")
        await self.send(response(status, body, *headers))
        self.reusable = self.keep_alive

    def reset(self) -> None:
        option = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._writer.transport.abort()


def response(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def status(number: int, *headers: str) -> Fault:
    return lambda exchange: exchange.respond(number, b"{}", *headers)


def body(data: bytes | str, *headers: str) -> Fault:
    data = data if isinstance(data, bytes) else data.encode()
    return lambda exchange: exchange.respond(200, data, *headers)


def document(value: Any) -> Fault:
    """Respond with status 200 and a value as JSON, whatever its shape."""
    return body(json.dumps(value))


def raw(data: bytes) -> Fault:
    """Send these bytes instead of a response, and close the connection."""
    return lambda exchange: exchange.send(data)


async def reset_before_headers(exchange: Exchange) -> None:
    exchange.reset()


async def close_before_headers(_: Exchange) -> None:
    """Close the connection without a response."""


async def close_in_body(exchange: Exchange) -> None:
    """Start the response, and close the connection in the middle of the body."""
    await exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"id":')


async def reset_in_body(exchange: Exchange) -> None:
    """Start the response, and reset the connection in the middle of the body."""
    await exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items": [')
    await asyncio.sleep(0.05)  # a reset discards what the client has not read yet
    exchange.reset()


async def hang_before_headers(_: Exchange) -> None:
    await asyncio.sleep(HOLD_FOR)


async def one_byte_a_second(exchange: Exchange) -> None:
    """Send the headers, then one blank a second, which is valid JSON so far."""
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(round(HOLD_FOR)):
        await exchange.send(b" ")
        await asyncio.sleep(1)


async def slow_headers(exchange: Exchange) -> None:
    """Send one byte of the headers a second."""
    for byte in b"HTTP/1.1 200 OK\r\nX: ".ljust(round(HOLD_FOR), b"x"):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(1)


async def endless_interim_responses(exchange: Exchange) -> None:
    """Send interim responses, and never the final one."""
    for _ in range(round(HOLD_FOR / 0.01)):
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.01)


def huge(*, size: int, chunked: bool = False) -> Fault:
    """Send a body of this many bytes, as far as the client reads it."""

    async def send(exchange: Exchange) -> None:
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        await exchange.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        piece = b" " * 65_536
        framed = b"10000\r\n" + piece + b"\r\n" if chunked else piece
        for _ in range(size // len(piece)):
            await exchange.send(framed)

    return send


def gzip_bomb(mebibytes: int) -> bytes:
    """Return gzip data a thousandth of the size of the zeros that it unpacks to."""
    return gzip.compress(bytes(MEBIBYTE)) * mebibytes  # members may follow one another
