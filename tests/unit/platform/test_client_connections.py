"""Connections to other servers: responses are limited, and matched to their requests."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from support_service.platform.http_client import MAX_INTERIM_ANSWERS, MAX_RESPONSE_BYTES, InterimAnswerCounter
from support_service.timeline.source_client import create_session
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.each import each_row

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


@asynccontextmanager
async def serve_with(handle):
    async def until_done(reader, writer):
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(until_done, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, create_session([]) as session, asyncio.timeout(GENEROUS_TIMEOUT):
        yield session, f"http://{host}:{port}/"


@pytest.mark.parametrize(("size", "is_late"), [(5, True), (5, False), (200_000, False), (500_000, False)])
async def test_extra_response_is_not_used_for_the_next_request(size, is_late):
    """Data received together with a response, which aiohttp may buffer, or later, closes the connection."""
    send_extra, closed = asyncio.Event(), asyncio.Event()
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(connections) > 1:
            writer.write(RESPONSE % (5, b"right"))
            return
        writer.write(RESPONSE % (size, b"r" * size) + (b"" if is_late else RESPONSE % (5, b"wrong")))
        if is_late:
            await send_extra.wait()
            writer.write(RESPONSE % (5, b"wrong"))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        closed.set()

    async with serve_with(handle) as (session, url):
        async with session.get(url) as response:
            assert await response.read() == b"r" * size
        send_extra.set()
        if is_late:
            await closed.wait()
        async with session.get(url) as response:
            assert await response.read() == b"right"
    assert len(connections) == 2


@pytest.mark.parametrize("whole", [True, False], ids=["complete before it is read", "in two parts"])
async def test_connection_is_reused_for_consecutive_requests(whole):
    """The connection is reused whether a response arrives at once or in parts."""
    connections = 0
    half = asyncio.Event()

    async def handle(reader, writer):
        nonlocal connections
        connections += 1
        response = RESPONSE % (5, b"right")
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                if not whole:
                    writer.write(response[:-3])
                    await half.wait()
                writer.write(response if whole else response[-3:])

    async with serve_with(handle) as (session, url):
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


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


@pytest.mark.parametrize("interim", [INTERIM, b"HTTP/1.1 103 -\r\nLink: HTTP/1.1 200 OK\n\r\n"])
async def test_interim_responses_are_limited(interim):
    """Some interim responses before a response are usual; more of them end the request and the connection."""
    for number in (MAX_INTERIM_ANSWERS, MAX_INTERIM_ANSWERS + 1):

        async def handle(reader, writer, number=number):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(number * interim + RESPONSE % (5, b"right"))
            await reader.read()

        async with serve_with(handle) as (session, url):
            if number <= MAX_INTERIM_ANSWERS:
                async with session.get(url) as response:
                    assert await response.read() == b"right"
            else:
                with pytest.raises(aiohttp.ClientResponseError, match="too many interim answers"):
                    await session.get(url)


@each_row("size", [1, 2, 7, 11, 1000])
def test_interim_responses_are_counted_across_pieces_of_data(size):
    """The count does not depend on how the network splits the data; content that looks like one is not counted."""
    for number in (MAX_INTERIM_ANSWERS, MAX_INTERIM_ANSWERS + 1):
        counter = InterimAnswerCounter()
        data = number * INTERIM + RESPONSE % (5, 100 * INTERIM)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert any(map(counter.too_many, pieces)) == (number > MAX_INTERIM_ANSWERS)


@pytest.mark.parametrize(
    ("head", "flood"),
    [(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")],
    ids=["one byte in each chunk", "endless headers"],
)
async def test_response_is_limited_including_headers_and_chunk_framing(head, flood):
    """Once a response exceeds the limit for all of its bytes, the connection is closed."""
    sent = 0
    closed = asyncio.Event()

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
            closed.set()

    async with serve_with(handle) as (session, url):
        with pytest.raises(aiohttp.ClientError):
            async with session.get(url) as response:
                await response.read()
        await closed.wait()
    assert sent < 16 * MAX_RESPONSE_BYTES  # the socket buffers are outside the limit


async def test_aiohttp_does_not_retry_a_request_on_a_lost_connection():
    """The source's client retries within its budget; a retry of aiohttp's own would double the load unseen."""
    requests = 0

    async def handle(reader, _):
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1

    async with serve_with(handle) as (session, url):
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url)
    assert requests == 1
