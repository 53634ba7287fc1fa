"""Connections: how many there may be, and how long each may keep the service waiting."""

import asyncio
import gc
import socket
import struct
import weakref
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import make_mocked_request

from support_service.guard.addresses import TrustedProxies
from support_service.guard.connection_limits import (
    EVICTION_RETRY_INTERVAL,
    FREEZE_THRESHOLD,
    ConnectionLimits,
    ConnectionTimings,
)
from support_service.guard.guard import GuardTimings
from support_service.platform.background import run_in_background
from support_service.platform.settings.process import LimitSettings
from support_service.timings import Timings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case, upload
from tests.support.raw_requests import narrow
from tests.support.scrape import Scrape
from tests.support.service import service_of

CUT = "support_connection_cut_total"
OPEN = "support_connection_open"
GOOD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNFINISHED = (
    b"POST /support/cases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
)
BODY = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


async def connect(client, address="127.0.0.1"):
    """A connection from an address of loopback's."""
    return await asyncio.open_connection(client.host, client.port, local_addr=(address, 0))


async def ask(reader, writer, raw=GOOD):
    """Send a request; gives the status."""
    writer.write(raw)
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
    return int(head.split()[1])


async def ends(reader):
    """Wait until the service ends a connection, cleanly or not; gives what it said before."""
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def connections(client, number, address="127.0.0.1"):
    """So many connections that have all been served once."""
    made = []
    try:
        for _ in range(number):
            made.append(await connect(client, address))
            assert await ask(*made[-1]) == 200
        yield made
    finally:
        for _, writer in made:
            writer.close()


def within_times(**times):
    """Timings of a service with these of its connections."""
    return Timings(guard=GuardTimings(connections=ConnectionTimings(**times)))


HEADS = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n\r\n",
    "half a line": b"GET /li",
    "half a head": b"GET /livez HTTP/1.1\r\nHost: loc",
    "half of the next": GOOD + b"GET /livez HTTP/1.1\r\n",
}


@pytest.mark.parametrize("name", HEADS)
async def test_connection_is_closed_when_its_headers_do_not_arrive_in_time(make_client, name):
    """A connection that does not send all headers in time is closed and counted, however slowly it sends them."""
    raw = HEADS[name]
    whole = raw.startswith(GOOD)
    within = 5 if whole else 0.4  # the first request is to be answered in that time
    client = await make_client(timings=within_times(head_timeout=within))
    metrics = Scrape(service_of(client).metrics)
    reader, writer = await connect(client)
    if whole:
        assert await ask(reader, writer) == 200
        raw = raw.removeprefix(GOOD)
    ended = asyncio.create_task(ends(reader))
    writer.write(raw)
    while not ended.done():
        await asyncio.sleep(0.05)  # the pace of the client
        if b"livez" in raw:
            writer.write(b"x")
    assert ended.result() == b""
    assert metrics.nonzero(CUT) == {"head": 1}
    writer.close()


async def test_idle_connection_between_complete_requests_stays_open(client):
    """The header timeout applies to incomplete headers only; the idle timeout applies between requests."""
    limits, now = service_of(client).guard.connections, asyncio.get_running_loop().time
    async with connections(client, 1) as ((_, writer),):
        (connection,) = limits.connections
        await eventually(lambda: connection.idle_since() is not None)
        assert connection.exceeded_timeout(now() + 3600, limits.timings) is None
        writer.write(b"GET /li")
        await eventually(lambda: connection.exceeded_timeout(now() + 3600, limits.timings) == "head")
        assert connection.exceeded_timeout(now(), limits.timings) is None


async def test_idle_connection_is_closed_after_the_keep_alive_timeout(make_client):
    """It is closed without an error."""
    client = await make_client(timings=within_times(idle_timeout=0.3))
    async with connections(client, 1) as ((reader, _),):
        assert await ends(reader) == b""
    await eventually(lambda: Scrape(service_of(client).metrics).value(OPEN) == 0)


async def test_client_that_does_not_read_its_response_is_disconnected(make_client):
    """Its connection is closed, and the buffered response is freed."""
    client = await make_client(timings=within_times(send_timeout=0.4))
    file = (await upload(client, await open_case(client), bytes(20_000_000)))["uri"]
    metrics = Scrape(service_of(client).metrics)
    deaf = await narrow(client, 4096)
    await asyncio.get_running_loop().sock_sendall(deaf, f"GET {file} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    for number in (1, 0):  # what is looked at costs nothing: a look at metrics holds up the service in this process
        await eventually(lambda number=number: service_of(client).readiness.in_progress == number)
    assert metrics.nonzero(CUT) == {"unread": 1}
    deaf.close()


async def test_client_that_reads_slowly_gets_the_whole_response(make_client):
    """A client that reads something within each timeout gets the whole response, however long it takes."""
    # The test itself checks.
    timings = within_times(check_interval=3600, send_timeout=14_400, send_rate=0, head_timeout=14_400)
    client = await make_client(timings=timings)
    file = (await upload(client, await open_case(client), bytes(20_000_000)))["uri"]
    await client.session.close()
    limits = service_of(client).guard.connections
    await eventually(lambda: not limits.connections)
    slow, writer = await asyncio.open_connection(sock=await narrow(client, 65_536))
    writer.write(f"GET {file} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    with closing(writer):
        await eventually(lambda: any(connection.unread_bytes() for connection in limits.connections))
        (connection,) = limits.connections
        now, got, looks, seen = 1e6, 0, 0, 0
        while chunk := await slow.read(1_000_000):
            got += len(chunk)
            await asyncio.sleep(0.005)  # for the service to hand on as much as there is room for
            if (unread := connection.unread_bytes()) not in (0, seen):
                assert connection.exceeded_timeout(now, limits.timings) is None
                assert connection.exceeded_timeout(now + 14400, limits.timings) is None
                assert connection.exceeded_timeout(now + 14401, limits.timings) == "unread"
                now, looks, seen = now + 1e6, looks + 1, unread
    assert got > 20_000_000
    assert looks > 1


async def test_longest_idle_connection_is_closed_at_the_limit(make_client):
    """At the limit a new connection replaces the connection that was idle for longest. Connections in use stay."""
    client = await make_client(SUPPORT_CONNECTIONS="8")
    metrics = Scrape(service_of(client).metrics)
    made = []
    for number in range(8):
        made.append(await connect(client, f"127.0.0.{2 + number // 2}"))
        assert await ask(*made[-1]) == 200
    assert await ask(*made[0]) == 200  # now the second is the one that waited longest
    made.append(await connect(client, "127.0.0.9"))
    assert await ask(*made[-1]) == 200
    assert await ends(made[1][0]) == b""
    assert await ask(*made[0]) == 200
    assert metrics.nonzero(CUT) == {"idle": 1}
    assert metrics.value(OPEN) == 8
    for _, writer in made:
        writer.close()


async def test_new_connection_is_refused_if_none_is_idle(make_client):
    """If every connection is in use, a new one is closed at once and counted. It is accepted once another ends."""
    client = await make_client(SUPPORT_CONNECTIONS="8")
    metrics = Scrape(service_of(client).metrics)
    busy = []
    for number in range(8):
        busy.append(await connect(client, f"127.0.0.{2 + number // 2}"))
        busy[-1][1].write(UNFINISHED)
    await eventually(lambda: service_of(client).readiness.waiting_for_client == 8)
    reader, writer = await connect(client, "127.0.0.9")
    assert await ends(reader) == b""
    writer.close()
    assert metrics.nonzero(CUT) == {"full": 1}
    busy[0][1].close()
    await eventually(lambda: metrics.value(OPEN) == 7)
    reader, writer = await connect(client, "127.0.0.9")
    assert await ask(reader, writer) == 200
    for _, each in (*busy, (reader, writer)):
        each.close()


async def test_connections_of_one_address_are_limited(make_client):
    """An address at its limit loses its own idle connections; other addresses keep theirs."""
    client = await make_client(SUPPORT_CONNECTIONS="16")
    metrics = Scrape(service_of(client).metrics)
    async with connections(client, 4, "127.0.0.2") as others, connections(client, 12, "127.0.0.3"):
        assert metrics.value(OPEN) == 8
        assert metrics.nonzero(CUT) == {"idle": 8}
        for reader, writer in others:
            assert await ask(reader, writer) == 200
        busy = []
        for _ in range(5):
            busy.append(await connect(client, "127.0.0.4"))
            busy[-1][1].write(UNFINISHED)
        assert await ends(busy[-1][0]) == b""
        await eventually(lambda: metrics.value(CUT, reason="share") == 1)
        for _, writer in busy:
            writer.close()


async def test_trusted_proxy_has_no_limit_per_address(make_client):
    """All clients behind a proxy share its address, so only the total limit applies."""
    client = await make_client(SUPPORT_CONNECTIONS="16", SUPPORT_TRUSTED_PROXIES="127.0.0.2")
    async with connections(client, 16, "127.0.0.2"):
        assert Scrape(service_of(client).metrics).value(OPEN) == 16


async def test_every_way_of_closing_frees_the_connection_slot(client):
    """The slot is free again, however the connection ends."""
    metrics = Scrape(service_of(client).metrics)
    for raw in (b"", GOOD, b"nonsense\r\n\r\n", b"GET /li", BODY):
        for reset in (False, True):
            _, writer = await connect(client)
            writer.write(raw)
            await writer.drain()
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
    await eventually(lambda: metrics.value(OPEN) == 0)
    assert not service_of(client).guard.connections.addresses


class HeldConnection:
    """A connection that is never idle, and is overdue at once or never."""

    def __init__(self, overdue=None):
        self.overdue, self.ended = overdue, False

    def idle_since(self):
        """It is at work."""

    def exceeded_timeout(self, *_):
        return self.overdue

    def abort(self):
        self.ended = True


def limits_of(connections, count=lambda _: None, timings=ConnectionTimings(), **settings):
    """Return limits without proxies that are trusted."""
    given = {"header_timeout": 10, "idle_timeout": 10, "send_timeout": 10, "send_rate": 0} | settings
    limits = LimitSettings(send_rate=0).model_copy(update={"connections": connections} | given)
    return ConnectionLimits(limits, TrustedProxies(()), count, timings)


def test_garbage_collections_skip_tracked_connections():
    """Full collections skip tracked connections; reference cycles are collected when half have ended."""
    limits = limits_of(4 * 2 * FREEZE_THRESHOLD)
    gc.collect()
    before = gc.get_freeze_count()

    def leave(number):
        last = weakref.ref(connections[-1])
        for _ in range(number):
            limits.remove(connections.pop())
        return last

    connections = [HeldConnection() for _ in range(2 * FREEZE_THRESHOLD)]
    for number, connection in enumerate(connections):
        assert limits.add(connection, f"127.0.0.{number % 200}", 0)
        connection.itself = connection
    del connection
    limits.update_gc_freeze()
    assert gc.get_freeze_count() >= before + 2 * FREEZE_THRESHOLD
    one = leave(FREEZE_THRESHOLD + 1)
    gc.collect()
    assert one() is not None
    limits.update_gc_freeze()
    assert one() is None
    another = leave(len(connections))
    limits.update_gc_freeze()
    assert another() is not None  # a few are no reason to walk over all that the start froze


async def test_closed_connection_is_never_overdue(client):
    """Code that still refers to it has nothing to wait for, and closing it again does nothing."""
    limits = service_of(client).guard.connections
    async with connections(client, 1):
        (connection,) = limits.connections
    await eventually(lambda: not limits.connections)
    assert connection.exceeded_timeout(asyncio.get_running_loop().time() + 3600, limits.timings) is None
    connection.abort()
    assert connection.unread_bytes() == 0


async def test_internal_error_below_the_handlers_is_a_500(client, caplog):
    """The response is aiohttp's, the traceback is in the log, and no refusal is counted."""
    limits = service_of(client).guard.connections
    async with connections(client, 1):
        (connection,) = limits.connections
        request = make_mocked_request("GET", "/livez", writer=SimpleNamespace(output_size=0))
        answer = connection.handle_error(request, 500, LookupError("unforeseen"))
    assert answer.status == 500
    assert "Error handling request" in caplog.text


async def test_search_for_an_idle_connection_is_not_repeated_at_each_attempt():
    """After a search without a result, connections are refused without another search for a while."""
    counted, searched = [], []
    limits, connection = limits_of(1, counted.append), HeldConnection()
    connection.idle_since = lambda: searched.append(1)
    assert limits.add(connection, "192.0.2.1", 0.0)
    for now in (1.0, 1.0 + EVICTION_RETRY_INTERVAL / 2, 1.0 + EVICTION_RETRY_INTERVAL):
        assert not limits.add(HeldConnection(), "192.0.2.2", now)
    assert (counted, len(searched)) == (["full"] * 3, 2)


async def test_check_of_many_connections_yields_to_requests():
    """The check for overdue connections pauses between batches, and closes every overdue one. It keeps none of them."""
    counted, within = [], {"header_timeout": 0.001, "idle_timeout": 1, "send_timeout": 0.001}
    limits = limits_of(20, counted.append, ConnectionTimings(checks_per_pause=2), **within)
    connections = [HeldConnection("head") for _ in range(5)]
    for number, connection in enumerate(connections):
        assert limits.add(connection, f"192.0.2.{number}", 0.0)
    kept = weakref.WeakSet(connections)
    del connection
    async with run_in_background(limits.enforce_timeouts()):
        await eventually(lambda: all(connection.ended for connection in connections))
        connections.clear()
        await eventually(lambda: not kept)
    assert counted == ["head"] * 5
    assert not limits.connections
