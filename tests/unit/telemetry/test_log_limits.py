"""What an outage and a defect may write to the log."""

import asyncio
import logging

import pytest

from support_service.core.errors import Unavailable
from support_service.platform.telemetry.logs import MAX_RECORD_KINDS, REPORT_INTERVAL, RateLimitFilter

JOB = "support_service.platform.background"


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("support_service.platform.telemetry.logs.time.monotonic", lambda: now[0])
    return now


def record(failure, message="%s failed", *arguments):
    cause = (type(failure), failure, failure.__traceback__)
    return logging.LogRecord(JOB, logging.ERROR, "", 0, message, arguments, cause)


def raised(failure, cause=None):
    try:
        raise failure from cause
    except type(failure) as caught:
        return caught


def outage():
    refused = raised(ConnectionRefusedError(111, "Connection refused"))
    return raised(Unavailable("database_unavailable", "The database can't answer now"), refused)


async def test_cause_of_an_outage_is_named(clock):
    """Of a group the first one, by its first line: others may quote data. Lines without one are not limited."""
    with pytest.raises(TimeoutError) as late:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    group = ExceptionGroup("unhandled", [raised(ConnectionResetError("reset\nsecret"))])
    for failure, message, shown in (
        (raised(Unavailable("database_unavailable", "Try again"), late.value), "Job failed", "TimeoutError"),
        (group, "Job failed\nfuture: <Task>", "ConnectionResetError: reset"),
    ):
        line = record(failure, message)
        assert RateLimitFilter().filter(line)
        assert line.getMessage() == f"Job failed: {shown}"
    gate, plain = RateLimitFilter(), logging.LogRecord(JOB, logging.INFO, "", 0, "Listening", (), None)
    assert all(gate.filter(plain) for _ in range(3))
    assert plain.getMessage() == "Listening"


def test_outage_is_a_line_a_minute_with_its_innermost_cause(clock):
    """The next line says how many were left out. No line has a traceback. Each background job has a line of its own."""
    gate = RateLimitFilter()
    first = record(outage(), "%s failed", "The sweep")
    assert gate.filter(first)
    assert first.getMessage() == "The sweep failed: ConnectionRefusedError: [Errno 111] Connection refused"
    assert first.exc_info is None
    assert not any(gate.filter(record(outage(), "%s failed", f"Job {number}")) for number in range(100))
    sealing = record(outage(), "%s failed", "Sealing the audit log")
    sealing.job = "Sealing the audit log"
    assert gate.filter(sealing)
    assert gate.filter(record(OSError(24, "Too many open files"), "%s failed", "The sweep"))  # another cause
    clock[0] += REPORT_INTERVAL
    later = record(outage(), "%s failed", "The sweep")
    assert gate.filter(later)
    assert later.getMessage().endswith("Connection refused (100 more since the last such line)")


def test_defect_has_its_traceback_once_a_minute(clock):
    """Each occurrence is a line, with its own ids; those without a traceback name the exception."""
    gate = RateLimitFilter()
    lines = [record(raised(KeyError("a")), "GET /x failed") for _ in range(3)]
    assert all(map(gate.filter, lines))
    assert [bool(line.exc_info) for line in lines] == [True, False, False]
    assert lines[1].getMessage() == "GET /x failed: KeyError at an unknown place; an earlier line has the traceback"
    clock[0] += REPORT_INTERVAL
    again = record(raised(KeyError("a")), "GET /x failed")
    assert gate.filter(again)
    assert again.exc_info


def test_kinds_of_earlier_minutes_do_not_hold_up_new_ones(clock):
    """Only the kinds of one minute are limited in number."""
    gate = RateLimitFilter()
    earlier = [record(outage(), f"Job {number} failed") for number in range(2 * MAX_RECORD_KINDS)]
    assert [*map(gate.filter, earlier)] == [True] * (MAX_RECORD_KINDS + 1) + [False] * (MAX_RECORD_KINDS - 1)
    clock[0] += REPORT_INTERVAL
    assert all(gate.filter(record(outage(), f"Job {number} of another release failed")) for number in range(2))
