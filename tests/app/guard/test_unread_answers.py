"""Answers that clients do not read: they are bounded, and freed when the connection ends."""

import asyncio
import gc
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from support_service.guard.connection import HttpConnection
from support_service.guard.connection_limits import ConnectionTimings
from support_service.guard.guard import GuardTimings
from support_service.guard.server import SLICE_BYTES, SlicedBody
from support_service.guard.unread_answers import STREAM_BYTES
from support_service.timings import Timings
from tests.support.calls import add_message, eventually, expect_problem, open_case, upload
from tests.support.each import each_row
from tests.support.raw_requests import narrow
from tests.support.scrape import Changes
from tests.support.service import service_of
from tests.support.timings import patient_timings

ABORTED = 10
TURNED_AWAY = "support_request_turned_away_total"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what was not read, and resets the connection


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """No test looks at the objects of the tests before, which takes seconds."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def without_collector():
    """No garbage collection during the block; at its end, no request, answer or connection of it is in memory."""
    gc.collect()
    gc.disable()
    try:
        before = in_memory()
        yield
        with suppress(AssertionError):  # the next line says what is there
            await eventually(lambda: not in_memory() - before)
        assert in_memory() - before == Counter()
    finally:
        gc.enable()


def in_memory():
    """The requests, answers and connections of the service that are in memory."""
    kinds = web.BaseRequest | web.StreamResponse | web.RequestHandler
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


async def request_and_leave(client, raw, *, ready, by_service=False):
    """Send a request, wait until `ready`, and end the connection: the client resets it, or the service cuts it."""
    limits, readiness = service_of(client).guard.connections, service_of(client).readiness
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
    return any(connection.unread_bytes() for connection in service_of(client).guard.connections.connections)


async def large_answers(client):
    """Return the paths of large answers: a JSON answer and a download."""
    case = await open_case(client)
    for _ in range(6):
        await add_message(client, case, "é" * 65_000)
    file = await upload(client, case, bytes(3_000_000))
    return {"json": f"/support/cases/{case['id']}", "download": file["uri"]}


@pytest.fixture
async def paths(client):
    """Paths of large answers."""
    return await large_answers(client)


@pytest.mark.parametrize("by_service", [False, True], ids=["client", "service"])
@pytest.mark.parametrize("kind", ["json", "download"])
async def test_unread_response_is_freed_with_its_connection(client, paths, kind, by_service):
    """When the client has gone, the response is freed at once, without a garbage collection."""
    limits = service_of(client).guard.connections
    raw = request_of(paths[kind])
    await client.session.close()
    await eventually(lambda: not limits.connections)
    async with without_collector():
        for _ in range(ABORTED):
            await request_and_leave(client, raw, ready=lambda: has_unread_answer(client), by_service=by_service)


async def test_body_of_an_aborted_request_is_freed_at_once(client):
    """The received part of the body is freed without a garbage collection."""
    readiness = service_of(client).readiness
    head = "POST /support/cases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    raw = f"{head}Content-Length: 900000\r\n\r\n{'x' * 800_000}".encode()
    async with without_collector():
        for _ in range(ABORTED):
            await request_and_leave(client, raw, ready=lambda: readiness.waiting_for_client)


CALLER_LIMIT = 3_000_000  # bytes; less than the eight answers of `request_of`


def request_of(path, *headers):
    """Eight pipelined requests: their answers do not fit into the kernel's buffers."""
    head = "".join(f"{header}\r\n" for header in ("Host: localhost", *headers))
    return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode() * 8


@asynccontextmanager
async def unread(client, path, *headers, source="127.0.0.1"):
    """Connections that do not read their answers, so many that the service refuses some of their requests."""
    metrics, made = Changes(service_of(client).metrics), []
    try:
        for _ in range(8):
            made.append(await narrow(client, 4096, source))
            await asyncio.get_running_loop().sock_sendall(made[-1], request_of(path, *headers))
        await eventually(lambda: metrics.nonzero(TURNED_AWAY).keys() == {"unread"})
        yield
    finally:
        for each in made:
            each.close()
        await eventually(lambda: not service_of(client).guard.unread_answers.callers)


def session_from(source):
    """A client session with another source address."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(source, 0)))


async def status(session, path, **options):
    """Send a GET request and read the answer; return its status."""
    async with session.get(path, **options) as response:
        await response.read()
        return response.status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limited(make_shared_client):
    """A service with a small bound for each caller, and the paths of large answers."""
    timings = patient_timings(guard=GuardTimings(unread_bytes_per_caller=CALLER_LIMIT))
    client = await make_shared_client(timings=timings, SUPPORT_TRUSTED_PROXIES="127.0.0.9")
    return client, await large_answers(client)


async def test_caller_with_too_many_unread_responses_is_refused(limited):
    """At its limit an address gets 429 until it reads or disconnects. Other addresses and health are served."""
    client, paths = limited
    async with unread(client, paths["json"]), session_from("127.0.0.2") as other:
        refusal = await client.get(paths["json"])
        await expect_problem(refusal, 429, "answers_unread")
        assert refusal.headers["Retry-After"] == "1"
        assert await status(client, "/livez") == 200
        assert await status(other, client.make_url(paths["json"])) == 200
    assert await status(client, paths["json"]) == 200


async def test_client_behind_a_proxy_has_its_own_limit(limited):
    """The connections of a proxy carry many clients."""
    client, paths = limited
    url, proxied = client.make_url(paths["json"]), "X-Forwarded-For: 192.0.2.1"
    async with unread(client, paths["json"], proxied, source="127.0.0.9"), session_from("127.0.0.9") as proxy:
        await expect_problem(await proxy.get(url, headers={"X-Forwarded-For": "192.0.2.1"}), 429, "answers_unread")
        assert await status(proxy, url, headers={"X-Forwarded-For": "192.0.2.2"}) == 200


async def test_unread_responses_of_all_clients_are_limited(make_client):
    """At this limit any address gets 503. Health and metrics are served."""
    client = await make_client(timings=patient_timings(guard=GuardTimings(unread_bytes=CALLER_LIMIT)))
    paths = await large_answers(client)
    async with unread(client, paths["json"]), session_from("127.0.0.2") as other:
        await expect_problem(await other.get(client.make_url(paths["json"])), 503, "overloaded")
        for path in ("/livez", "/metrics"):
            assert await status(other, client.make_url(path)) == 200


async def test_unread_downloads_are_limited(make_client):
    """They are refused before the first byte once their buffers reach the limit, whatever their size."""
    timings = patient_timings(guard=GuardTimings(unread_bytes_per_caller=4 * STREAM_BYTES))
    client = await make_client(timings=timings)
    paths = await large_answers(client)
    async with unread(client, paths["download"]):
        await expect_problem(await client.get(paths["download"]), 429, "answers_unread")
        assert service_of(client).guard.unread_answers.callers == {"address 127.0.0.1"}


async def test_client_that_reads_below_the_minimum_rate_is_disconnected(make_client):
    """A client that reads a little now and then loses its connection, which is counted."""
    # The test itself checks.
    connection_timings = ConnectionTimings(check_interval=3600, send_timeout=14_400, send_rate=1000)
    client = await make_client(timings=Timings(guard=GuardTimings(connections=connection_timings)))
    paths = await large_answers(client)
    await client.session.close()
    limits = service_of(client).guard.connections
    await eventually(lambda: not limits.connections)
    slow = await narrow(client, 4096)
    await asyncio.get_running_loop().sock_sendall(slow, request_of(paths["json"]) * 3)
    await eventually(lambda: has_unread_answer(client))
    (connection,) = limits.connections
    start = asyncio.get_running_loop().time()
    assert connection.exceeded_timeout(start, limits.timings) is None
    seen, received = connection.unread_bytes(), 0
    while connection.unread_bytes() in (0, seen):
        received += len(await asyncio.get_running_loop().sock_recv(slow, 65536))
        await asyncio.sleep(0)
    assert received < 14_000_000
    assert connection.exceeded_timeout(start + 14_000, limits.timings) is None
    assert connection.exceeded_timeout(start + 14_500, limits.timings) == "slow"
    slow.close()


def bytes_held():
    """Bytes of answers that are in memory: their bodies, and what is left in transports."""
    objects = gc.get_objects()
    bodies = [each.body for each in objects if isinstance(each, web.Response) and each.body]
    connections = [each for each in objects if isinstance(each, HttpConnection)]
    sizes = [body.size if isinstance(body, SlicedBody) else len(body) for body in bodies]
    return sum(sizes) + sum(connection.unread_bytes() for connection in connections)


@each_row("request_line", ["GET {}", "GET {}?includeTimeline=true", "POST {}/timeline/refresh"])
async def test_unread_responses_use_no_more_memory_than_is_counted(limited, request_line):
    """This holds whichever request asks for them."""
    client, paths = limited
    line = request_line.format(paths["json"])
    raw = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode() * 4
    metrics = Changes(service_of(client).metrics)
    gc.collect()
    made = [await narrow(client, 4096) for _ in range(8)]
    for each in made:
        await asyncio.get_running_loop().sock_sendall(each, raw)
    await eventually(lambda: metrics.nonzero(TURNED_AWAY).keys() == {"unread"} and has_unread_answer(client))
    assert bytes_held() <= CALLER_LIMIT + len(made) * STREAM_BYTES
    assert max(each.unread_bytes() for each in service_of(client).guard.connections.connections) <= STREAM_BYTES
    for each in made:
        each.close()
    await eventually(lambda: not service_of(client).guard.unread_answers.callers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_response_is_freed_when_it_was_sent(client, paths, method):
    """It does not wait for the next request of its connection."""
    async with client.request(method, paths["json"], params={"includeTimeline": "true"}) as response:
        await response.read()
        assert response.status == 200
    assert service_of(client).guard.connections.connections
    gc.collect()
    await eventually(lambda: bytes_held() < SLICE_BYTES)
