"""Answers that clients do not read: they are freed when the connection ends."""

import asyncio
import gc
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from support_service.http.component import CONNECTION_LIMITS, READINESS
from tests.app.http.test_connection_limits import narrow
from tests.support.calls import eventually, open_case, upload

ABORTED = 10
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what was not read, and resets the connection
SECRET = "unread-answer-"


@asynccontextmanager
async def without_collector():
    """No garbage collection during the block; at its end, no request, answer or connection of it is in memory."""
    gc.collect()
    gc.disable()
    try:
        before = in_memory()
        yield
        await eventually(lambda: not in_memory() - before)
    finally:
        gc.enable()


def in_memory():
    """The requests, answers and connections of the service that are in memory."""
    kinds = web.BaseRequest | web.StreamResponse | web.RequestHandler
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


async def request_and_leave(client, raw, *, ready, by_service=False):
    """Send a request, wait until `ready`, and end the connection: the client resets it, or the service cuts it."""
    limits, readiness = client.app[CONNECTION_LIMITS], client.app[READINESS]
    connection = await narrow(client, 4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    await asyncio.get_running_loop().sock_sendall(connection, raw)
    await eventually(ready)
    if by_service:
        for each in limits.connections:
            each.abort()
    else:
        connection.close()
    await eventually(lambda: not limits.connections and not readiness.in_progress)
    connection.close()


def has_unread_answer(client):
    """Whether the service keeps bytes that the client has not read."""
    return any(connection.unread_bytes() for connection in client.app[CONNECTION_LIMITS].connections)


@pytest.fixture
async def paths(client):
    """Paths of large answers: a JSON answer and a download."""
    case = await open_case(client)
    for _ in range(20):
        async with client.post(
            f"/support/cases/{case['id']}/messages", json={"authorType": "agent", "message": "é" * 20_000}
        ) as response:
            assert response.status == 200
    file = await upload(client, case, bytes(20_000_000))
    return {"json": f"/support/cases/{case['id']}", "download": file["uri"]}


@pytest.mark.parametrize("by_service", [False, True], ids=["client", "service"])
@pytest.mark.parametrize("kind", ["json", "download"])
async def test_unread_answer_is_freed_with_its_connection_and_without_the_collector(client, paths, kind, by_service):
    """An answer whose client has gone is freed at once: nothing of it waits for a garbage collection."""
    limits = client.app[CONNECTION_LIMITS]
    raw = f"GET {paths[kind]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 8
    await client.session.close()
    await eventually(lambda: not limits.connections)
    async with without_collector():
        for _ in range(ABORTED):
            await request_and_leave(client, raw, ready=lambda: has_unread_answer(client), by_service=by_service)


async def test_body_of_an_aborted_request_is_freed_without_the_collector(client):
    """A request whose client has gone before its end is freed at once, with the part of its body that arrived."""
    readiness = client.app[READINESS]
    head = "POST /support/cases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    raw = f"{head}Content-Length: 900000\r\n\r\n{'x' * 800_000}".encode()
    async with without_collector():
        for _ in range(ABORTED):
            await request_and_leave(client, raw, ready=lambda: readiness.waiting_for_client)
