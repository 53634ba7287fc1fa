"""What can't be read as HTTP is refused, counted, and never quoted in the log."""

import asyncio
import json
import logging

import pytest

from support_service.platform.telemetry.logs import MAX_RECORD_KINDS, REPORT_INTERVAL, RateLimitFilter
from tests.support.process import running
from tests.support.raw_requests import MALFORMED, SECRET, TOO_LARGE, send_raw
from tests.support.servers import free_port

HTTP = "http_server_request_duration_seconds_count"
UNREAD = {"http_request_method": "_OTHER", "http_route": "other", "url_scheme": "http"}
CHUNKED = (
    b"POST /support/cases HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_request_is_a_problem_and_is_counted(client, metric_changes, name):
    """It has a code of its own, and counts once, without method and route."""
    status, head, body = await send_raw(client.host, client.port, MALFORMED[name])
    assert (status, json.loads(body)["code"]) == (400, "malformed_request")
    assert "application/problem+json" in head
    assert f"X-Request-Id: {json.loads(body)['requestId']}" in head
    given = {
        "url_scheme": "http",
        "http_request_method": "_OTHER",
        "http_route": "other",
        "http_response_status_code": "400",
    }
    assert metric_changes.value(HTTP, **given) == metric_changes.total(HTTP) == 1


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_oversized_address_or_headers_are_refused(client, metric_changes, name):
    """The response states the limit, and the request is counted."""
    raw, status, code = TOO_LARGE[name]
    found, head, body = await send_raw(client.host, client.port, raw.encode())
    assert (found, json.loads(body)["code"]) == (status, code)
    assert " bytes" in json.loads(body)["detail"]
    assert f"X-Request-Id: {json.loads(body)['requestId']}" in head
    given = {
        "url_scheme": "http",
        "http_request_method": "_OTHER",
        "http_route": "other",
        "http_response_status_code": str(status),
    }
    assert metric_changes.value(HTTP, **given) == metric_changes.total(HTTP) == 1


@pytest.mark.parametrize("path", ["/support/cases", "/nowhere"])
async def test_unknown_expectation_is_refused(client, metric_changes, path):
    """The response is a problem, and the request is counted."""
    raw = f"GET {path} HTTP/1.1\r\nHost: a\r\nExpect: foo\r\nConnection: close\r\n\r\n"
    status, _, body = await send_raw(client.host, client.port, raw.encode())
    assert (status, json.loads(body)["code"]) == (417, "expectation_failed")
    given = {
        "url_scheme": "http",
        "http_request_method": "_OTHER",
        "http_route": "other",
        "http_response_status_code": "417",
    }
    assert metric_changes.value(HTTP, **given) == metric_changes.total(HTTP) == 1


@pytest.mark.usefixtures("processes")
async def test_malformed_requests_are_logged_in_few_lines_without_their_content(tmp_path):
    """The level is INFO."""
    port = free_port()
    async with running("serve", cwd=tmp_path, SUPPORT_PORT=str(port), SUPPORT_LOG_LEVEL="debug") as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        large = [raw.encode() for raw, *_ in TOO_LARGE.values()]
        for raw in (*MALFORMED.values(), *large, CHUNKED + f"{SECRET}\r\n".encode()):
            for _ in range(10):
                assert (await send_raw("127.0.0.1", port, raw))[0] in (400, 414, 431)
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    assert SECRET not in log
    lines = [json.loads(line) for line in log.splitlines()]
    refused = [line for line in lines if line["logger"] == "support_service.refused"]
    assert 1 <= len(refused) <= 2
    assert {line["level"] for line in refused} == {"INFO"}
    assert not [line for line in lines if line["level"] == "ERROR"]


def record(name, message, *arguments, failure=None):
    """A log record."""
    cause = (type(failure), failure, None) if failure else None
    return logging.LogRecord(name, logging.WARNING, "", 0, message, arguments, cause)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is turned."""
    now = [1000.0]
    monkeypatch.setattr("support_service.platform.telemetry.logs.time.monotonic", lambda: now[0])
    return now


def test_each_kind_of_malformed_request_is_logged_once_a_minute(clock):
    """The next line states how many were left out, and the cause."""
    gate = RateLimitFilter("opentelemetry")
    assert gate.filter(record("opentelemetry.sdk", "Queue is full"))
    first = record("opentelemetry.exporter", "Export failed: %s", 500, failure=ValueError("secret"))
    assert gate.filter(first)
    assert first.getMessage() == "Export failed: 500: ValueError"
    assert first.exc_info is None
    for _ in range(3):
        assert not gate.filter(record("opentelemetry.exporter", "Export failed: %s", 501))
    assert gate.filter(record("another", "Export failed: %s", 502))
    clock[0] += REPORT_INTERVAL
    later = record("opentelemetry.exporter", "Export failed: %s", 503)
    assert gate.filter(later)
    assert later.getMessage() == "Export failed: 503 (3 more since the last such line)"


def test_number_of_logged_kinds_is_limited(clock):
    """If there are too many different messages, they share one line a minute."""
    gate = RateLimitFilter("opentelemetry")
    passed = [gate.filter(record("opentelemetry", f"odd {number}")) for number in range(10 * MAX_RECORD_KINDS)]
    assert sum(passed) == MAX_RECORD_KINDS + 1


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_head_that_arrives_in_pieces_is_refused_at_its_limit(client, before):
    """The limit holds for a head without an end, also on a connection that has served a request."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    async with asyncio.timeout(10):
        if before:
            writer.write(before)
        if before.startswith(b"GET"):
            assert b" 200 " in (await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(33):
            writer.write(b"a: " + b"x" * 995 + b"\r\n")
            await asyncio.sleep(0)
        answer = await reader.read()
    writer.close()
    assert b" 431 " in answer
    assert b"headers_too_large" in answer


@pytest.mark.parametrize("cut", range(5))
async def test_body_behind_a_head_is_not_measured_with_it(client, cut):
    """A body that is larger than a head may be is read, wherever the network cuts the end of its head."""
    body = json.dumps({"subject": "A", "channel": "email"}).encode() + b" " * 100_000
    head = b"POST /support/cases HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    raw = head + b"Content-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(raw[: len(raw) - cut])
    await writer.drain()
    writer.write(raw[len(raw) - cut :] + body)
    async with asyncio.timeout(10):
        assert b" 201 " in (await reader.read())
    writer.close()
