"""Whatever bytes come over a socket: a problem or a clean end, no request that nobody sent, and no harm to others."""

import asyncio
import json
import re
from contextlib import closing, suppress
from itertools import product
from random import Random
from unittest.mock import AsyncMock

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web import UrlDispatcher
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.each import each_row
from tests.support.examples import examples
from tests.support.scrape import Changes, Scrape
from tests.support.service import service_of

HOST = b"Host: localhost\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
END = b"Connection: close\r\n\r\n"
POST = b"POST /support/cases HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CASE = b'{"subject": "A", "channel": "email"}'
INNER = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"

# What must not be taken for a request: each is answered with a problem, or ended.
BAD = {
    "no version": b"GET /livez\r\n\r\n",
    "an old version": b"GET /livez HTTP/0.9\r\n" + HOST + b"\r\n",
    "a version that is none": b"GET /livez HTTP/1.10\r\n" + HOST + b"\r\n",
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tab": b"GET\t/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of small letters": b"get /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that nobody has": b"STEAL /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a NUL in the address": b"GET /li\0vez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the address": b"GET /li vez HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "a NUL in a header": GET + b"A: b\0c\r\n\r\n",
    "a NUL in a name": GET + b"A\0b: c\r\n\r\n",
    "a bare CR in a header": GET + b"A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "a bare LF after a header": GET + b"A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare LF after the line": b"GET /livez HTTP/1.1\n" + HOST + b"\r\n",
    "bare LF everywhere": b"GET /livez HTTP/1.1\nHost: localhost\n\n",
    "a folded header": GET + b"A: b\r\n  Transfer-Encoding: chunked\r\n\r\n",
    "a folded first header": b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a space before the colon": GET + b"Content-Length : 5\r\n\r\nhello",
    "a header without a colon": GET + b"Content-Length 5\r\n\r\nhello",
    "a header without a name": GET + b": 5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 36\r\nContent-Length: 5\r\n\r\n" + CASE,
    "two lengths that agree": POST + b"Content-Length: 36\r\nContent-Length: 36\r\n\r\n" + CASE,
    "two lengths in one": POST + b"Content-Length: 36, 5\r\n\r\n" + CASE,
    "a length with a sign": POST + b"Content-Length: +36\r\n\r\n" + CASE,
    "a length below zero": POST + b"Content-Length: -1\r\n\r\n" + CASE,
    "a length in hex": POST + b"Content-Length: 0x24\r\n\r\n" + CASE,
    "a length that is none": POST + b"Content-Length: \r\n\r\n" + CASE,
    "a length without end": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + CASE,
    "a length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "chunks before another coding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "a coding that is none": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunks hidden by a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + INNER,
    "a chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\n\r\n" + INNER,
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + INNER,
    "a chunk size below zero": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + INNER,
    "a chunk size without end": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n" + INNER,
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n" + INNER,
    "a chunk ended by a bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + INNER,
    "a chunk size with a bare CR": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r{}\r\n0\r\n\r\n" + INNER,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a name too long": GET + b"x" * 100_000 + b": y\r\n\r\n",
    "a million headers": GET + b"a: b\r\n" * 170_000 + b"\r\n",
    "a header too long": GET + b"Cookie: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "an address too long": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}
# What may be odd and is right, or is read in one way alone.
GOOD = {
    "empty lines before it": (b"\r\n\r\n" + GET + END, [200]),
    "old and without a host": (b"GET /livez HTTP/1.0\r\n\r\n", [200]),
    "a whole address": (b"GET http://localhost/livez HTTP/1.1\r\n" + HOST + END, [200]),
    "pipelined": ((GET + b"\r\n") * 40 + GET + END, [200] * 41),
    # aiohttp's parser forgets the good ones of the same chunk: nothing is done for them either.
    "pipelined, the last one bad": ((GET + b"\r\n") * 3 + b"nonsense\r\n\r\n", [400]),
    "two spaces": (b"GET  /livez  HTTP/1.1\r\n" + HOST + END, [200]),
    "a body and the next": (POST + b"Content-Length: 36\r\n\r\n" + CASE + GET + END, [201, 200]),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n24\r\n" + CASE + b"\r\n0\r\n\r\n" + GET + END, [201]),
    "a chunk extension": (
        POST + b'Transfer-Encoding: chunked\r\n\r\n24;a=b;c="d"\r\n' + CASE + b"\r\n0\r\nA: b\r\n\r\n" + GET + END,
        [201],
    ),
    "a body that a GET should not have": (GET + b"Content-Length: 5\r\n\r\nhello" + GET + END, [200, 200]),
    "an upgrade that nobody offers": (
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + GET + END,
        [200, 200],
    ),
    "a tunnel": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + END + INNER, [404]),
}


async def exchange(address, raw, pieces=None):
    """Send bytes, all at once or in pieces; gives all that comes until the end of the connection."""
    reader, writer = await asyncio.open_connection(*address)
    with closing(writer):
        try:
            for piece in pieces or [raw]:
                writer.write(piece)
                await writer.drain()
                if pieces:
                    await asyncio.sleep(0)
            async with asyncio.timeout(GENEROUS_TIMEOUT):
                return await reader.read()
        except ConnectionError:
            return b""


def answers(stream):
    """The answers in what came: the status of each, with its body; fails where there is anything beside them."""
    found = []
    while stream:
        head, blank, rest = stream.partition(b"\r\n\r\n")
        assert blank, stream[:100]
        assert head.startswith(b"HTTP/1."), stream[:100]
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        body, stream = rest[: int(length[1])], rest[int(length[1]) :]
        status = int(head.split()[1])
        if status >= 400:
            assert b"Content-Type: application/problem+json" in head, head
            assert json.loads(body)["status"] == status
        found.append(status)
    return found


async def still_serves(client):
    """The next good request on another connection is answered."""
    assert answers(await exchange((client.host, client.port), GET + END)) == [200]


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


@pytest.fixture
def address(client):
    """Where the service listens."""
    return client.host, client.port


async def test_bytes_that_are_no_request_are_refused(client, address, metric_changes, subtests):
    """The response is a problem, or the connection is closed. Nothing is executed, and other clients are served."""
    for name, raw in BAD.items():
        with subtests.test(name):
            statuses = answers(await exchange(address, raw))
            assert len(statuses) <= 1
            assert all(400 <= status < 500 or status == 505 for status in statuses)
            await still_serves(client)
    assert metric_changes.total("support_ticket_created_total") == 0
    assert metric_changes.total("http_server_request_duration_seconds_count") <= len(BAD)


async def answer_to(client, first, *rest):
    """Send the rest once the service waits for it; return all that comes until the end of the connection."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    with closing(writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + first)
        await eventually(lambda: service_of(client).readiness.waiting_for_client)
        for each in rest:
            writer.write(each)
            await asyncio.sleep(0)
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            stream = await reader.read()
    await eventually(lambda: not service_of(client).readiness.waiting_for_client)
    return stream


WHOLE = b"24\r\n" + CASE + b"\r\n0\r\n"
BEGINNINGS = (b"", b"2\r\n{}\r\n", b"2\r\n{", b"2;a=b\r", b"2\r\n{}")
LATE = [
    *product(BEGINNINGS, (b"xyz\r\n", b"-1\r\n", b"F" * 40, b"zz\nz\r\n")),
    *((WHOLE, trailer) for trailer in (b"no colon\r\n", b"A: b\n\n", b": b\r\n", b"A: \0\r\n", b"A: " + b"b" * 9000)),
    *((WHOLE, trailer) for trailer in (b"Content-Length: 5\r\n\r\n", b"A: b\r\ntransfer-encoding: chunked\r\n\r\n")),
]


@each_row("beginning, rest", LATE)
async def test_body_or_trailer_that_becomes_malformed_is_refused_at_once(client, beginning, rest):
    """A malformed chunk, or a malformed, long or framing trailer, gets 400, and not the timeout of the body."""
    stream = await answer_to(client, beginning, rest)
    assert answers(stream) == [400]
    assert b'"malformed_body"' in stream


async def test_trailers_that_arrive_later_are_read(client):
    """Headers behind the last chunk are allowed, in any number of parts."""
    for rest in (b"\r\n", b"A: b\r\nC:\r\n\r\n"):
        parts = [rest[number : number + 1] for number in range(len(rest))]
        assert answers(await answer_to(client, WHOLE, *parts, GET + END)) == [201]


CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERED = {
    200: GET + CHUNKS + b"2\r\n{}\r\n0\r\n",
    201: POST + CHUNKS + WHOLE,
    401: POST + CHUNKS + WHOLE,
    413: POST + CHUNKS + b"%x\r\n" % 2_000_000 + b" " * 2_000_000 + b"\r\n0\r\n",
    417: POST + b"Expect: nothing\r\n" + CHUNKS + WHOLE,
    422: POST + CHUNKS + b"2\r\n{}\r\n0\r\n",
}
TRAILERS = (
    *(b"X-Request-Id: evil", b"Authorization: Bearer evil", b"X-Forwarded-For: 192.0.2.1", b"Origin: http://evil"),
    *(b"Idempotency-Key: evil", b'If-Match: "1"', b"Cookie: support_session=evil", b"Content-Encoding: gzip"),
)


@pytest.mark.parametrize("parser", [HttpRequestParser, HttpRequestParserPy])
async def test_trailer_is_no_header_of_another_request(monkeypatch, make_client, tmp_path, parser, subtests):
    """A connection ends with its chunked request, whatever the answer is, and however the bytes arrive."""
    monkeypatch.setattr("aiohttp.web_protocol.HttpRequestParser", parser)
    (tmp_path / "tokens.json").write_text('{"tokens": []}')
    client = await make_client()
    closed = await make_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(tmp_path / "tokens.json"))
    for (status, request), trailer in product(ANSWERED.items(), TRAILERS):
        server = closed if status == 401 else client
        # A body of 2 MB behind other requests is refused without an answer: its beginning counts as a head.
        for begin in (request, (GET + b"\r\n") * 2 + request)[: 1 if status == 413 else 2]:
            tail = b"A: b\r\n" + trailer + b"\r\n\r\n" + GET + END
            for pieces in (None, [begin, *(tail[at : at + 1] for at in range(len(tail)))]):
                with subtests.test(status=status, trailer=trailer, in_pieces=pieces is not None):
                    stream = await exchange((server.host, server.port), begin + tail, pieces)
                    assert answers(stream)[-1] == status
                    assert b"evil" not in stream


# Read by aiohttp before any handler. Each value is wrong in some way, or too long.
READ_BY_AIOHTTP = (
    *("Host", "Connection", "Upgrade", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Content-Type"),
    *("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Cookie", "Range", "Expect"),
    *("If-Match", "If-None-Match", "If-Modified-Since", "If-Range", "Origin", "X-Forwarded-For", "X-Request-Id"),
)
ODD_VALUES = (
    bytes(range(0x80, 0x100)),
    b"\xff",
    "\ud800".encode("utf-8", "surrogatepass"),
    b"x" * 60_000,
    b"100-continue\xe9",
)


async def test_odd_bytes_in_a_header_get_an_answer_of_the_service(client, address, caplog, subtests):
    """The response is a problem or what was asked for, and no error of aiohttp."""
    for name, value in product(READ_BY_AIOHTTP, ODD_VALUES):
        host = b"" if name == "Host" else HOST
        raw = b"GET /support/me HTTP/1.1\r\n" + host + name.encode() + b": " + value + b"\r\n" + END
        with subtests.test(name, value=value[:4]):
            (status,) = answers(await exchange(address, raw))
            assert status < 500
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


async def test_failure_of_aiohttp_is_a_problem_that_is_counted_and_limited(make_client, monkeypatch, caplog):
    """It has a request id and no traceback. It counts for the rate limit of its address."""
    client = await make_client(SUPPORT_AUTH="open", SUPPORT_RATE_LIMIT_ADDRESS="2/min")
    monkeypatch.setattr(UrlDispatcher, "resolve", AsyncMock(side_effect=UnicodeEncodeError("ascii", "", 0, 1, "odd")))
    changes = Changes(service_of(client).metrics)
    found = [await exchange((client.host, client.port), GET + b"\r\n") for _ in range(3)]
    assert [answers(each) for each in found] == [[500], [500], [429]]
    assert b'"internal_error"' in found[0]
    assert b"X-Request-Id: " in found[0]
    assert b"Retry-After: " in found[2]
    assert changes.total("http_server_request_duration_seconds_count") == 3
    assert not [record for record in caplog.records if record.exc_info]


async def test_other_http_versions_are_refused(address):
    """Only HTTP/1.0 and HTTP/1.1 are served."""
    for version in (b"0.9", b"2.0"):
        stream = await exchange(address, GET.replace(b"1.1", version) + b"\r\n")
        assert answers(stream) == [505]
        assert b'"version_not_supported"' in stream


REPEATED = {
    "Content-Encoding": ("identity", "gzip"),
    "Content-Type": ("application/json", "text/plain"),
    "Content-Length": ("36", "36"),
    "Host": ("localhost", "localhost"),
    "Origin": ("http://localhost", "http://evil.example"),
    "Range": ("bytes=0-1", "bytes=2-3"),
    "If-Range": ('"a"', '"b"'),
}


async def test_repeated_header_that_must_be_unique_is_refused(address, metric_changes):
    """Another HTTP implementation might use the other value."""
    for name, repeated in REPEATED.items():
        sent = {"Host": ["localhost"], "Content-Type": ["application/json"], "Content-Length": ["36"]}
        lines = [f"{header}: {value}\r\n" for header, values in (sent | {name: repeated}).items() for value in values]
        raw = b"POST /support/cases HTTP/1.1\r\n" + "".join(lines).encode() + END + CASE
        assert answers(await exchange(address, raw)) == [400], name
    assert metric_changes.total("support_ticket_created_total") == 0


@each_row("raw, statuses", GOOD.values(), GOOD)
async def test_unusual_but_valid_requests_are_served(client, address, raw, statuses):
    """Each request gets one response, in order."""
    assert answers(await exchange(address, raw)) == statuses
    await still_serves(client)


@pytest.mark.parametrize("name", ["a body and the next", "chunks", "a chunk extension"])
async def test_request_split_at_any_byte_is_read_the_same(client, address, name):
    """Two pieces with any boundary, and single bytes, give the same result."""
    raw, statuses = GOOD[name]
    for at in range(1, len(raw)):
        assert answers(await exchange(address, raw, [raw[:at], raw[at:]])) == statuses
    assert answers(await exchange(address, raw, [raw[at : at + 1] for at in range(len(raw))])) == statuses


@pytest.mark.parametrize("name", ["a length and chunks", "a folded header", "two lengths", "a NUL in a header"])
async def test_malformed_request_split_at_any_byte_is_refused(client, address, metric_changes, name):
    """The result is that of a request in one piece."""
    raw = BAD[name]
    for at in range(1, len(raw)):
        statuses = answers(await exchange(address, raw, [raw[:at], raw[at:]]))
        assert len(statuses) <= 1
        assert all(400 <= status < 500 for status in statuses)
    assert metric_changes.total("support_ticket_created_total") == 0


LINES = st.sampled_from(
    [
        *(GET, POST, HOST, END, CASE, INNER, b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0\r\n\r\n", b"24\r\n"),
        *(b"Content-Length: 36\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Encoding: gzip\r\n"),
        *(b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"Connection: keep-alive\r\n", b"HEAD / HTTP/1.1\r\n"),
    ]
)


@pytest.fixture
async def own_client(make_client):
    """A client of a service for one test, which may leave requests behind."""
    return await make_client()


@examples(1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(LINES | st.binary(max_size=20), min_size=1, max_size=12), cut=st.integers(0, 200))
async def test_random_bytes_cause_no_server_error(own_client, parts, cut):
    """For any combination and split, the service stays up and the next request is served."""
    raw = b"".join(parts)
    reader, writer = await asyncio.open_connection(own_client.host, own_client.port)
    with closing(writer):
        for piece in (raw[:cut], raw[cut:]):
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        try:
            async with asyncio.timeout(GENEROUS_TIMEOUT):
                answer = await reader.read()
        except ConnectionError:
            answer = b""
    for status in re.findall(rb"^HTTP/1\.[01] (\d+) ", answer, re.MULTILINE):
        assert status[:1] in (b"1", b"2", b"4"), answer
    await still_serves(own_client)


STREAMS, CONNECTIONS = 2000, 50
IN_PROGRESS = ("http_server_active_requests", "support_connection_open")


def _request(random, mark):
    """A request, or what is none, with a mark at each place that an answer or the next request could show."""
    head = random.choice([b"", b"X-Request-Id: %s\r\n" % mark])
    body = b'{"subject": "%s", "orderId": "%s"}' % (mark, mark)
    framed = random.choice(
        [
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
            CHUNKS + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
            CHUNKS + b"%x\r\n%s\r\n0\r\nX-Request-Id: %s-trailer\r\n\r\n" % (len(body), body, mark),
            CHUNKS + b"zz\r\n" + body,
            b"Content-Length: 100000\r\n\r\n%-100000s" % (mark * 9000),
            b"Expect: %s\r\n\r\n" % mark,
            b"Expect: \xff\r\nContent-Length: 9\r\n\r\n" + mark,
        ]
    )
    return random.choice(
        [
            GET + head + b"\r\n",
            b"GET /support/cases/%s HTTP/1.1\r\n" % mark + HOST + head + b"\r\n",
            POST + b"Idempotency-Key: %s\r\n" % mark + head + framed,
            b"PUT /support/%s HTTP/1.1\r\n" % mark + HOST + head + framed,
            random.randbytes(30) + b"\r\n\r\n",
        ]
    )


async def _send_stream(address, random, number):
    """Send a stream of requests, half of them cut or changed, and return what comes. Some clients leave at once."""
    raw = bytearray(b"".join(_request(random, b"s%dr%d" % (number, each)) for each in range(random.randint(1, 4))))
    is_whole = random.random() < 0.5
    if is_whole:
        raw += GET + END
    elif random.random() < 0.5:
        raw[random.randrange(len(raw))] = random.choice(b"\0\xff :\r\nA")
    else:
        del raw[random.randrange(len(raw)) :]
    reader, writer = await asyncio.open_connection(*address)
    with closing(writer), suppress(ConnectionError):
        at = random.randrange(len(raw) + 1)
        for piece in (raw[:at], raw[at:]):
            writer.write(piece)
            await asyncio.sleep(0)
        if random.random() < 0.3:
            writer.transport.abort()
            return b""
        if not is_whole:
            writer.write_eof()  # the service does not wait for the rest
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            return await reader.read()
    return b""


async def test_random_streams_leave_nothing_of_a_request(make_client, caplog):
    """An answer has no byte of another stream, nor of a trailer. Afterwards nothing is counted as in progress."""
    client = await make_client(SUPPORT_RATE_LIMIT_ADDRESS="1000000/min")
    random, numbers = Random(8), iter(range(STREAMS))

    async def connect_again_and_again():
        answered = 0
        for number in numbers:
            found = await _send_stream((client.host, client.port), random, number)
            assert set(re.findall(rb"s(\d+)r\d", found)) <= {b"%d" % number}
            assert b"-trailer" not in found
            assert b"HTTP/1.1 5" not in found
            answered += bool(found)
        return answered

    answered = await asyncio.gather(*(connect_again_and_again() for _ in range(CONNECTIONS)))
    assert sum(answered) > STREAMS / 3
    await still_serves(client)
    guard, scrape = service_of(client).guard, Scrape(service_of(client).metrics)
    await eventually(lambda: not any(value for _, _, value in scrape.samples(*IN_PROGRESS)))
    await eventually(lambda: not guard.readiness.in_progress)  # as long as clients may read their last answer
    left = (guard.large_bodies, guard.unread_answers.callers, guard.connections.connections)
    assert [len(each) for each in left] == [0, 0, 0]
    assert not guard.readiness.waiting_for_client
    assert not [record for record in caplog.records if record.exc_info]
