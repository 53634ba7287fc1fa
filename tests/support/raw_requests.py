"""Requests as bytes: what can't be read as HTTP or is too large, and connections that read slowly."""

import asyncio
import socket

SECRET = "s3cr3t-that-must-not-be-logged"
MALFORMED = {
    "a header without a colon": f"GET / HTTP/1.1\r\nAuthorization Bearer {SECRET}\r\n\r\n".encode(),
    "a control character": f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {SECRET}\x01\r\n\r\n".encode(),
    "no HTTP at all": f"{SECRET} this is no HTTP\r\n\r\n".encode(),
}
TOO_LARGE = {
    "an address too long": (f"GET /{SECRET * 600} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
    "a header too long": (f"GET / HTTP/1.1\r\nHost: a\r\nCookie: {SECRET * 600}\r\n\r\n", 431, "headers_too_large"),
    "a name too long": (f"GET / HTTP/1.1\r\nHost: a\r\n{'x' * 9000}: {SECRET}\r\n\r\n", 431, "headers_too_large"),
    "too many headers": ("GET / HTTP/1.1\r\nHost: a\r\n" + "a: b\r\n" * 200 + "\r\n", 431, "headers_too_large"),
    "too much of them": (
        "GET / HTTP/1.1\r\nHost: a\r\n" + f"a: {SECRET * 200}\r\n" * 6 + "\r\n",
        431,
        "headers_too_large",
    ),
    "too much, and no end": ("GET / HTTP/1.1\r\n" + f"a: {SECRET * 200}\r\n" * 6, 431, "headers_too_large"),
}


async def send_raw(host, port, raw):
    """Send bytes; gives the answer's status and its headers and body as they come until the connection ends."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(raw)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


async def narrow(client, size, source="127.0.0.1"):
    """A socket with room for few bytes: what it does not take waits in the service, not out of sight in the kernel."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    made.bind((source, 0))
    made.setblocking(False)  # noqa: FBT003 - a function of the standard library
    await asyncio.get_running_loop().sock_connect(made, (client.host, client.port))
    return made
