"""What is on the line to a service: bounded, and an answer only where something was asked."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from support_service.timeline.sources import connector
from tests.support.calls import PATIENCE, eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@asynccontextmanager
async def served(handle):
    """A server of that handler, and a session that talks to it."""

    async def until_done(reader, writer):
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(until_done, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, connector.create_session([]) as session, asyncio.timeout(PATIENCE):
        yield session, f"http://{host}:{port}/"


async def test_a_second_answer_to_one_question_is_never_the_answer_to_the_next():
    """What comes while nothing is asked ends the connection; the next question goes out on another."""
    more, gone = asyncio.Event(), asyncio.Event()
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        number = len(connections)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER % (5, b"right"))
        await writer.drain()
        if number == 1:
            await more.wait()
            writer.write(ANSWER % (5, b"wrong"))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            gone.set()

    async with served(handle) as (session, url):
        async with session.get(url) as response:
            assert await response.read() == b"right"
        more.set()
        await gone.wait()
        async with session.get(url) as response:
            assert await response.read() == b"right"
    assert len(connections) == 2


@pytest.mark.parametrize("size", [5, 200_000, 500_000])
async def test_a_second_answer_with_the_first_is_never_the_answer_to_the_next(size):
    """What came together with an answer, which aiohttp may hold back with its end, ends the connection as well."""
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(connections) > 1:
            writer.write(ANSWER % (5, b"right"))
        else:
            writer.write(ANSWER % (size, b"r" * size) + ANSWER % (5, b"wrong"))
            with suppress(ConnectionError):
                await reader.read()

    async with served(handle) as (session, url):
        async with session.get(url) as response:
            assert await response.read() == b"r" * size
        async with session.get(url) as response:
            assert await response.read() == b"right"
    assert len(connections) == 2


@pytest.mark.parametrize("whole", [True, False], ids=["whole before it is read", "in two parts"])
async def test_a_connection_serves_one_question_after_another(whole):
    """Whether an answer was there at once or bit by bit, its connection is kept for the next."""
    connections = 0
    half = asyncio.Event()

    async def handle(reader, writer):
        nonlocal connections
        connections += 1
        answer = ANSWER % (5, b"right")
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                if not whole:
                    writer.write(answer[:-3])
                    await half.wait()
                writer.write(answer if whole else answer[-3:])

    async with served(handle) as (session, url):
        for _ in range(5):
            half.clear()
            async with session.get(url) as response:
                half.set()
                if whole:
                    await eventually(response.content.is_eof)
                chunks = [chunk async for chunk in response.content.iter_any()]
                assert b"".join(chunks) == b"right"
        await session.close()
    assert connections == 1


@pytest.mark.parametrize(
    ("head", "flood"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["interim answers without end", "one byte in each chunk"],
)
async def test_an_answer_is_bounded_with_all_that_is_around_it(head, flood):
    """Once more has come than an answer may have in all, the connection is cut off, whatever it was."""
    sent = 0
    cut = asyncio.Event()

    async def handle(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while True:
                writer.write(flood * 1000)
                await writer.drain()
                sent += len(flood) * 1000
        except ConnectionError:
            cut.set()

    async with served(handle) as (session, url):
        with pytest.raises(aiohttp.ClientError):
            async with session.get(url) as response:
                await response.read()
        await cut.wait()
    assert sent < 16 * connector.MAX_RESPONSE_BYTES  # what the sockets between hold is not ours to bound


async def test_aiohttp_does_not_retry_a_request_on_a_lost_connection():
    """The source's client retries within its budget; a retry of aiohttp's own would double the load unseen."""
    requests = 0

    async def handle(reader, _):
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1

    async with served(handle) as (session, url):
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url)
    assert requests == 1
