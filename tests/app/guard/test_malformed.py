"""What can't be read as HTTP is refused and counted; log lines about such requests are limited."""

import asyncio
import json
import logging

import pytest

from support_service.platform.telemetry.logs import MAX_RECORD_KINDS, REPORT_INTERVAL, RateLimitFilter
from tests.support.each import each_row
from tests.support.raw_requests import MALFORMED, TOO_LARGE, send_raw
from tests.support.scrape import Changes
from tests.support.service import service_of

HTTP = "http_server_request_duration_seconds_count"


def counted_once(changes, status):
    """Whether one request counts in all: without method and route, and with this status."""
    labels = {"url_scheme": "http", "http_request_method": "_OTHER", "http_route": "other"}
    return changes.value(HTTP, **labels, http_response_status_code=str(status)) == changes.total(HTTP) == 1


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


REFUSED = {name: (raw, 400, "malformed_request") for name, raw in MALFORMED.items()}
REFUSED |= {name: (raw.encode(), status, code) for name, (raw, status, code) in TOO_LARGE.items()}


@each_row("raw, status, code", REFUSED.values(), REFUSED)
async def test_malformed_and_oversized_requests_are_problems_and_are_counted(client, raw, status, code):
    """Each has a code of its own, and counts once. The response states a limit."""
    changes = Changes(service_of(client).metrics)
    found, head, body = await send_raw(client.host, client.port, raw)
    problem = json.loads(body)
    assert (found, problem["code"], " bytes" in problem["detail"] or status == 400) == (status, code, True)
    assert "application/problem+json" in head
    assert f"X-Request-Id: {problem['requestId']}" in head
    assert counted_once(changes, status)


async def test_unknown_expectation_is_refused(client):
    """The response is a problem, and the request is counted."""
    for path in ("/support/cases", "/nowhere"):
        changes = Changes(service_of(client).metrics)
        raw = f"GET {path} HTTP/1.1\r\nHost: a\r\nExpect: foo\r\nConnection: close\r\n\r\n"
        status, _, body = await send_raw(client.host, client.port, raw.encode())
        assert (status, json.loads(body)["code"]) == (417, "expectation_failed")
        assert counted_once(changes, 417)


def record(name, message, *arguments, failure=None):
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
