"""What a read returns, reports and counts for each fault of one source: with an empty cache, and with a stale snapshot.

The payment service fails. The other sources are healthy, and their entries are complete in every case. What a fault is
does not depend on the cache, so that a stale snapshot is read with one row of each kind.
"""

from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from tests.support import upstream_faults as faults
from tests.support.calls import open_case
from tests.support.timeline.harness import (
    ALL_ENTRIES,
    CACHED,
    CALLS,
    COLLECTIONS,
    CONTEXT,
    EVENTS,
    FAILURES,
    FRESH,
    LONG_TIMEOUT,
    SHORT_TIMEOUT,
    TTL,
    TimelineHarness,
    age_snapshots,
    all_but,
    payment,
    source_entries,
    source_freshness,
)
from tests.support.upstream_faults import MEBIBYTE, Fault

OTHERS = all_but("PAY-1")  # entries of the healthy sources


@dataclass(frozen=True)
class FaultCase:
    """A fault with its expected results; the defaults are the common ones."""

    name: str
    fault: Fault | None  # None: connections are refused
    reason: str | None
    failures: dict[str, int] = field(default_factory=dict)  # by stage
    calls: dict[str, int] = field(default_factory=dict)  # attempts by outcome
    payments: tuple[str, ...] = ()  # payments in the response although the cache is empty
    fails: bool = True  # False: the response is unusual but valid


def http(name: str, fault: Fault | None, reason: str, outcome: str = "error", attempts: int = 1) -> FaultCase:
    """Return a fault that yields no readable response."""
    return FaultCase(name, fault, reason, {"http": 1}, {outcome: attempts})


def invalid(name: str, fault: Fault, reason: str = "unreadable answer") -> FaultCase:
    """Return a fault whose response breaks the contract."""
    return FaultCase(name, fault, reason, {"aggregate": 1}, {"invalid": 1})


def valid(name: str, fault: Fault, *payments: str, reason: str | None = None, outcome: str = "ok") -> FaultCase:
    """Return an unusual response that is valid."""
    return FaultCase(name, fault, reason, {}, {outcome: 1}, payments, fails=False)


def page(*items: object) -> Fault:
    return faults.document({"items": items})


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def amount(text: str) -> Fault:
    return faults.body(f'{{"items": [{{"id": "PAY-1", "updatedAt": "2026-01-03T00:00:00Z", "amount": {text}}}]}}')


def many_payments(number: int) -> Fault:
    return page(
        *(payment(f"PAY-{turn}", updatedAt=f"2026-02-01T00:00:00.{turn:06}Z") for turn in reversed(range(number)))
    )


NEWEST = "only the newest 500 entries"
# tests/unit/timeline/test_sources.py has the other answers of a service.
ROWS = [
    http("refused", None, "connection failed", attempts=2),
    http("reset before headers", faults.reset_before_headers, "connection failed", attempts=2),
    http("closed before headers", faults.close_before_headers, "connection failed", attempts=2),
    http("reset in the body", faults.reset_in_body, "connection failed"),
    http("hang before headers", faults.hang_before_headers, "timeout", "timeout"),
    http("body at one byte a second", faults.one_byte_a_second, "timeout", "timeout"),
    http("headers at one byte a second", faults.slow_headers, "timeout", "timeout"),
    http("endless interim responses", faults.endless_interim_responses, "connection failed"),
    http("not HTTP", faults.raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "connection failed"),
    http("a header of 64 KiB", faults.status(200, "X: " + "x" * 65_536), "connection failed"),
    http("503", faults.status(503, "Retry-After: 3600"), "status 503"),
    valid("404", faults.status(404), outcome="not_found"),
    valid("400", faults.status(400), outcome="not_found", reason="id rejected with status 400"),
    invalid("not JSON", faults.body("<html>It works!</html>")),
    invalid("not UTF-8", faults.body(b'{"items": [{"id": "\xff"}]}')),
    invalid("a lone surrogate", faults.body('{"items": [{"id": "\\ud800"}]}')),
    invalid("JSON of the wrong shape: a list", faults.document([payment()])),
    invalid("JSON of the wrong shape: a string among items", page(payment(), "PAY-2")),
    invalid("JSON of the wrong shape: no id", page(payment(), {"status": "captured"})),
    invalid("nested 10,000 deep", faults.body(nested(10_000))),
    invalid("amount nested 10,000 deep", amount(nested(10_000)), "too large"),
    invalid("200 MiB", faults.huge(size=200 * MEBIBYTE), "too large"),
    invalid("200 MiB in chunks", faults.huge(size=200 * MEBIBYTE, chunked=True), "too large"),
    invalid("one byte over 1 MiB", faults.body(b'{"items": []}'.ljust(MEBIBYTE + 1)), "too large"),
    valid("1 MiB", faults.body(b'{"items": []}'.ljust(MEBIBYTE))),
    invalid("a gzip bomb", faults.body(faults.gzip_bomb(512), "Content-Encoding: gzip")),
    valid("no timestamp", page(payment(updatedAt=None)), "PAY-1"),
    valid("a timestamp of another type", page(payment(updatedAt={"at": [1]}, createdAt=1e300)), "PAY-1"),
    valid("an invalid timestamp", page(payment(updatedAt="yesterday", createdAt="2026-02-30T25:61:61Z")), "PAY-1"),
    valid("a timestamp after year 9999 in UTC", page(payment(updatedAt="9999-12-31T23:59:59-23:59")), "PAY-1"),
    valid("the latest timestamp", page(payment(updatedAt="9999-12-31T23:59:59Z")), "PAY-1"),
    valid("a number beyond floating point", amount("1e400"), "PAY-1"),
    valid("a number of 4,300 digits", amount("9" * 4300), "PAY-1"),
    invalid("a number of 5,000 digits", amount("9" * 5000)),
    valid("a NUL", page(payment(status="\0")), "PAY-1"),
    valid("amount nested 20 deep", amount(nested(20)), "PAY-1"),
    invalid("amount nested 198 deep", amount(nested(198)), "nested too deep"),
    valid("a duplicate payment", page(payment(), payment()), "PAY-1", "PAY-1"),
    valid("500 entries", many_payments(500), *(f"PAY-{turn}" for turn in range(500))),
    valid("600 entries", many_payments(600), *(f"PAY-{turn}" for turn in range(100, 600)), reason=NEWEST),
]
KINDS = ("refused", "reset in the body", "hang before headers", "503", "not JSON", "404", "600 entries")


async def inject_fault(harness: TimelineHarness, row: FaultCase) -> None:
    """Give the payment service a fault; use a short timeout for a service that does not answer in time."""
    service = harness.services["payment"]
    service.fault = row.fault
    if row.reason == "timeout":
        harness.set_source_timeout("payment", SHORT_TIMEOUT)
    if row.fault is None:
        await service.close()


async def remove_fault(harness: TimelineHarness) -> None:
    service = harness.services["payment"]
    service.heal()
    harness.set_source_timeout("payment", LONG_TIMEOUT)
    await service.open()


@pytest.mark.parametrize("is_stale", [False, True], ids=["empty cache", "stale"])
@pytest.mark.parametrize("fails", [True, False], ids=["failures", "valid responses"])
async def test_source_fault(harness, services, store, subtests, fails, is_stale):
    """Other sources are complete; the fault is reported and counted once by stage, and ends with its cause.

    A stale snapshot is served with its age and the fault, kept, and replaced by the next good answer.
    """
    for row in ROWS:
        if row.fails == fails and (not is_stale or row.name in KINDS):
            with subtests.test(row.name):
                harness.case = await open_case(harness.client, context=CONTEXT)
                services["payment"].reset()
                services["payment"].add("PAY-1", "ORD-1")
                await remove_fault(harness)
                await read_with_fault(harness, store, row, is_stale=is_stale)


async def read_with_fault(harness: TimelineHarness, store: Redis, row: FaultCase, *, is_stale: bool) -> None:
    kept = {}
    if is_stale:
        await harness.read()
        kept = await age_snapshots(store, harness.case, TTL + 60)
    await inject_fault(harness, row)
    detail = await harness.read()
    known = ALL_ENTRIES if row.fails else [*OTHERS, *row.payments]
    assert sorted(source_entries(detail)) == sorted(known if is_stale else [*OTHERS, *row.payments])
    status = ("stale" if is_stale else "unavailable") if row.fails else "fresh"
    assert source_freshness(detail) == FRESH | {"payment": (status, row.reason)}
    age = detail["timelineSources"]["payment"]["ageSeconds"]
    assert age is None if status == "unavailable" else 0 <= age - (TTL + 60 if row.fails else 0) < 30
    assert harness.metric_changes(FAILURES) == row.failures
    assert harness.metric_changes(CALLS, service="payment") == row.calls
    assert harness.metric_changes(EVENTS) == {"miss": 1, "write": 1}
    assert harness.metric_changes(COLLECTIONS) == {"remote": 1}
    assert harness.services["payment"].sent < 16 * MEBIBYTE  # no more than the socket buffers hold
    if row.fails and is_stale:
        assert (await age_snapshots(store, harness.case, 0))["payment"] == kept["payment"]
    await remove_fault(harness)
    detail = await harness.read()
    payment = ("fresh", None) if row.fails else ("cached", row.reason)
    assert source_freshness(detail)["payment"] == payment
    assert is_stale or source_freshness(detail) == CACHED | {"payment": payment}
    assert sorted(source_entries(detail)) == sorted(known)
