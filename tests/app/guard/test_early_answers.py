"""Answers before the end of a body: no client sends its next request on a connection that the service closes."""

import asyncio
import http.client
import os
from contextlib import closing

import aiohttp
import httpx
import pytest
import pytest_asyncio

from support_service.guard.connection_limits import ConnectionTimings
from support_service.guard.guard import GuardTimings
from support_service.timings import Timings
from tests.support.access.principals import open_principals
from tests.support.attachments.raw_uploads import FORM, PART, send_open, write_chunk
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timings import patient_timings

REFUSALS = int(os.environ.get("REFUSALS", "80"))  # by each client
REST_BYTES = 400_000  # of a body, more than the rest that is read before an answer
LIMITS = {"SUPPORT_ATTACHMENT_MAX_BYTES": "400000"}
NAMELESS = b"--b\r\nContent-Type: text/plain\r\n\r\nx"
VISIBILITY = b'--b\r\nContent-Disposition: form-data; name="visibility"\r\n\r\nx\r\n'
NEXT = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"  # no client repeats a POST


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refused(make_shared_client, tmp_path_factory):
    """By the status of their answer: requests that are refused before the end of their body.

    Each is a client, a path, headers, and the bytes of the body that the service has to see.
    """
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.json"
    timings = patient_timings(guard=GuardTimings(connections=ConnectionTimings(rest_time=GENEROUS_TIMEOUT)))

    async def make(**variables):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("support_service.attachments.service.CONCURRENT_UPLOADS", 1)
            return await make_shared_client(timings=timings, **LIMITS | variables)

    principals = await open_principals(make, tokens)
    client, form = principals.client, {"Content-Type": FORM}
    given = {"subject": "A parcel", "channel": "email", "customerId": "customer-1"}
    case = (await principals.read_json("agent", "POST", "/support/cases", json=given))["id"]
    async with principals.perform("agent", "close_case", case):
        files, agent, customer = f"/support/cases/{case}/attachments", *map(principals.headers, ("agent", "customer"))
    limited, busy = await make(SUPPORT_RATE_LIMIT_ADDRESS="1/min"), await make()
    async with limited.get("/support/cases"):  # the only request that the rate admits
        case = await open_case(busy)
    async with send_open(busy, case) as (_, writer):
        await write_chunk(writer, PART)
        await eventually(lambda: Scrape(service_of(busy).metrics).value("support_attachment_uploads") == 1)
        yield {
            400: (client, files, form | agent, NAMELESS),
            401: (client, files, form, PART),
            403: (client, files, form | principals.headers("analyst"), PART),
            404: (client, "/nowhere", agent, b""),
            409: (client, files, form | customer, PART),
            413: (client, files, form | agent, PART + b"x" * 400_001),
            415: (client, files, form | agent | {"Content-Encoding": "gzip"}, PART),
            422: (client, files, form | agent, VISIBILITY),
            429: (limited, "/support/cases", {}, b""),
            503: (busy, f"/support/cases/{case['id']}/attachments", form, PART),
        }


STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)


async def begin(client, path, headers, beginning, framing="length"):
    """Send the head of a request and a part of its body on a new connection."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    if framing == "expect":
        lines.append("Expect: 100-continue")
    lines.append(
        "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {len(beginning) + REST_BYTES}"
    )
    writer.write("\r\n".join((*lines, "", "")).encode())
    if framing == "expect":
        assert await read_head(reader) == "http/1.1 100 continue\r\n\r\n"
    if framing == "chunked":
        beginning += b"x" * 100_000
        beginning = b"%x\r\n%b\r\n" % (len(beginning), beginning)
    writer.write(beginning)
    return reader, writer


async def read_head(reader):
    """Return the head of an answer in lower case."""
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


async def read_answer(reader):
    """Return the status of an answer, and whether it says that its connection closes."""
    head = await read_head(reader)
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return int(head.split()[1]), "\r\nconnection: close\r\n" in head


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
async def test_answer_before_the_end_of_a_long_body_says_that_its_connection_closes(refused, framing, subtests):
    """The service ends its side at once, and takes what the client still sends, so that nothing is reset."""
    for status in STATUSES:
        with subtests.test(status=status):
            client, path, headers, beginning = refused[status]
            reader, writer = await begin(client, path, headers, beginning, framing)
            with closing(writer):
                assert await read_answer(reader) == (status, True)
                assert await reader.read() == b""
                for _ in range(4):
                    writer.write(b"x" * 50_000)
                    await writer.drain()
                writer.write_eof()
                await writer.drain()


async def test_connection_stays_open_if_the_rest_of_a_body_is_short(refused, subtests):
    """Clients that send the body in a packet of its own keep their connection."""
    for status in STATUSES:
        with subtests.test(status=status):
            client, path, headers, beginning = refused[status]
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(beginning) + 9}\r\n\r\n"
            readiness = service_of(client).readiness
            before = readiness.waiting_for_client
            reader, writer = await asyncio.open_connection(client.host, client.port)
            with closing(writer):
                writer.write(head.encode() + beginning)
                await eventually(lambda readiness=readiness, before=before: readiness.waiting_for_client > before)
                writer.write(b"--b--\r\n\r\n")
                assert await read_answer(reader) == (status, False)
                writer.write(NEXT)
                assert (await read_answer(reader))[0] in {401, 404, 429}


async def send_with_aiohttp(refusals):
    """Send refused requests, and a request after each; return how many of these failed."""
    failed = 0
    async with aiohttp.ClientSession() as session:
        for client, path, headers, beginning in refusals:
            url = client.make_url("")
            async with session.post(url.with_path(path), data=beginning + bytes(REST_BYTES), headers=headers) as answer:
                await answer.read()
            try:
                async with session.post(url.with_path("/nowhere"), data=b"{}") as answer:
                    await answer.read()
            except aiohttp.ClientError:
                failed += 1
    return failed


async def send_with_httpx(refusals):
    """Send refused requests, and a request after each; return how many of these failed."""
    failed = 0
    async with httpx.AsyncClient() as session:
        for client, path, headers, beginning in refusals:
            url = str(client.make_url(path))
            await session.post(url, content=beginning + bytes(REST_BYTES), headers=headers)
            try:
                await session.post(str(client.make_url("/nowhere")), content=b"{}")
            except httpx.HTTPError:
                failed += 1
    return failed


def send_with_standard_library(refusals):
    """Send refused requests, and a request after each; return how many of these failed."""
    failed, connections = 0, {}
    for client, path, headers, beginning in refusals:
        connection = connections.get(client) or http.client.HTTPConnection(client.host, client.port)
        connections[client] = connection
        connection.request("POST", path, beginning + bytes(REST_BYTES), headers)
        connection.getresponse().read()  # closes the connection if the answer says so
        try:
            connection.request("POST", "/nowhere", b"{}")
            connection.getresponse().read()
        except (http.client.HTTPException, OSError):
            failed += 1
            connection.close()
    for connection in connections.values():
        connection.close()
    return failed


async def send_as_bytes(refusals):
    """Send refused requests with slow and chunked bodies, and a request after each; return how many of these failed."""
    failed = 0
    for number, (client, path, headers, beginning) in enumerate(refusals):
        framing = ("length", "chunked", "expect")[number % 3]
        reader, writer = await begin(client, path, headers, beginning, framing)
        with closing(writer):
            _, closes = await read_answer(reader)
            if closes:
                continue  # the next request has a connection of its own
            writer.write((b"0\r\n\r\n" if framing == "chunked" else bytes(REST_BYTES)) + NEXT)
            try:
                await read_answer(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                failed += 1
    return failed


async def test_no_request_fails_after_an_answer_before_the_end_of_a_body(refused):
    """Clients of four kinds send a request after each, on the same connection unless the answer says that it closes."""
    refusals = [refused[STATUSES[number % len(STATUSES)]] for number in range(REFUSALS)]
    async with asyncio.timeout(GENEROUS_TIMEOUT + REFUSALS):
        failed = await asyncio.gather(
            send_with_aiohttp(refusals),
            send_with_httpx(refusals),
            asyncio.to_thread(send_with_standard_library, refusals),
            send_as_bytes(refusals),
        )
    assert failed == [0, 0, 0, 0]


def lingering(**timings):
    """Return timings of a service that waits as given for a client which still sends after its answer."""
    return Timings(guard=GuardTimings(connections=ConnectionTimings(**timings)))


async def send_without_end(writer):
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        while True:
            writer.write(bytes(100_000))
            await writer.drain()


@pytest.mark.parametrize(
    "limit",
    [
        {"lingering_time": 0.2, "lingering_pause": 60},
        {"lingering_bytes": 2_000_000, "lingering_time": 60, "lingering_pause": 60},
    ],
    ids=str,
)
async def test_client_that_never_stops_sending_is_disconnected(make_client, limit):
    """After its answer a client may send for a while, and a number of bytes. A stop waits for it."""
    client = await make_client(timings=lingering(**limit))
    reader, writer = await begin(client, "/nowhere", {}, b"")
    assert await read_answer(reader) == (404, True)
    assert service_of(client).readiness.in_progress == 1
    with pytest.raises(ConnectionError):
        await send_without_end(writer)
    await eventually(lambda: not service_of(client).readiness.in_progress)
    await eventually(lambda: not service_of(client).guard.connections.connections)
    writer.close()


async def test_client_that_stays_after_its_answer_is_disconnected(make_client):
    """A client that neither sends nor leaves keeps no connection."""
    client = await make_client(timings=lingering(lingering_time=60, lingering_pause=0.2))
    reader, writer = await begin(client, "/nowhere", {}, b"")
    assert await read_answer(reader) == (404, True)
    await eventually(lambda: not service_of(client).guard.connections.connections)
    writer.close()


async def test_connection_after_an_early_answer_makes_room_for_a_new_one(make_client):
    """At the limit of connections it counts as idle."""
    client = await make_client(timings=lingering(lingering_pause=60), SUPPORT_CONNECTIONS="8")
    answered = [await begin(client, "/nowhere", {}, b"") for _ in range(2)]  # as many as one address may have
    for reader, _ in answered:
        assert await read_answer(reader) == (404, True)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(NEXT)
    assert await read_answer(reader) == (404, False)
    for _, each in (*answered, (reader, writer)):
        each.close()


@pytest.mark.parametrize(
    ("raw", "status"), [(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, 431), (b"nonsense\r\n\r\n", 400)]
)
async def test_client_may_send_on_after_an_unreadable_request(client, raw, status):
    """Its connection is not reset before the client has read the answer."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    with closing(writer):
        writer.write(raw)
        assert (await read_answer(reader))[0] == status  # of HTTP/1.0, which closes
        assert await reader.read() == b""
        for _ in range(4):
            writer.write(b"x" * 50_000)
            await writer.drain()
        writer.write_eof()
        await writer.drain()
