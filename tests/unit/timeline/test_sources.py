"""The client of one source: which calls it makes, and how it interprets each response."""

import asyncio
import json
import logging
import re
from types import SimpleNamespace

import aiohttp
import pytest
from aioresponses import aioresponses

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import SERVICE_BY_KIND, SOURCES
from support_service.platform.background import run_in_background
from support_service.platform.telemetry.logs import UPSTREAM_LOGGERS, RateLimitFilter
from support_service.timeline.source_calls import calls_for
from support_service.timeline.source_client import MAX_CALLS, CallFailure, SourceClient, TimelineBudget

ORDER = {"id": "ORD-1", "status": "paid", "grandTotal": 1, "updatedAt": "2026-01-01T00:00:00Z"}
DEEP = json.loads("[" * 150 + "]" * 150)


class MockedResponse(aiohttp.ClientResponse):
    """A response for aioresponses, which does not yet pass the stream writer that aiohttp requires."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named, stream_writer=SimpleNamespace(output_size=0))


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(session, instruments):
    return SourceClient(SOURCES["order"], "http://orders", session, instruments, timeout=60, connections=2)


def in_five_seconds():
    return asyncio.get_running_loop().time() + 5


@pytest.mark.parametrize("source", SOURCES.values())
def test_calls_made_for_each_source(source):
    """An object and each of its parts take a call. So does each lookup by order, but orders have none."""
    orders = () if source.kind == "order" else ("O/1",)
    calls = [call.path for call in calls_for(source, SourceReferences(("A", "P 1"), orders))]
    objects = [f"{source.path}/{item}" for item in ("A", "P%201")]
    of_objects = [target for each in objects for target in (each, *(f"{each}/{part.path}" for part in source.parts))]
    assert calls == [*of_objects, *(f"{source.path}?orderId=O%2F1&limit=50" for _ in orders)]


# The answer about an object and its parts, and the entry that it gives, without `source` and the time.
ANSWERS = {
    "order": [
        (
            {"id": 1, "status": "paid", "grandTotal": "12.50", "currency": "VND"},
            {"type": "order", "orderId": 1, "status": "paid", "total": "12.50"},
        ),
        (
            [{"id": 7, "type": "order.paid", "payload": {"step": 1}}],
            {"type": "order-event", "eventType": "order.paid", "payload": {"step": 1}},
        ),
    ],
    "payment": [
        (
            {"id": "PAY-1", "orderId": 1, "status": "captured", "amount": 12.5},
            {"type": "payment", "paymentId": "PAY-1", "orderId": 1, "status": "captured", "amount": 12.5},
        )
    ],
    "fulfillment": [
        (
            {"id": "SHP-1", "orderId": 1, "status": "lost", "trackingNumber": "VN1"},
            {"type": "shipment", "shipmentId": "SHP-1", "orderId": 1, "status": "lost", "trackingNumber": "VN1"},
        )
    ],
}


@pytest.mark.parametrize("source", SOURCES.values())
def test_answers_of_each_source_become_entries(source):
    at = {"createdAt": "2026-01-01T00:00:00Z"}
    of_all = {"source": f"{source.service}-service", "timestamp": "2026-01-01T00:00:00.000000Z"}
    calls = calls_for(source, SourceReferences((str(ANSWERS[source.service][0][0]["id"]),)))
    for call, (answer, entry) in zip(calls, ANSWERS[source.service], strict=True):
        dated = [at | each for each in answer] if isinstance(answer, list) else at | answer
        assert call.parse(dated) == [entry | of_all]


@pytest.mark.parametrize("source", SOURCES.values())
def test_object_with_another_id_is_refused(source):
    """The object of another customer is never shown as the one asked for. Ids may differ in case, and be numbers.

    One such object in a page is enough: the service may have ignored the filter. One without an order is accepted.
    """
    call, *_ = calls_for(source, SourceReferences(("a1",)))
    with pytest.raises(ValueError, match="asked for id 'a1', answered about 'a2'"):
        call.parse({"id": "a2"})
    assert call.parse({"id": "A1"})[0][f"{source.kind}Id"] == "A1"
    (number, *_) = calls_for(source, SourceReferences(("17",)))
    assert number.parse({"id": 17})[0][f"{source.kind}Id"] == 17
    for page in calls_for(source, SourceReferences((), ("O-1",))):  # orders have none
        with pytest.raises(ValueError, match="asked for orderId 'O-1', answered about 'O-2'"):
            page.parse({"items": [{"id": "1", "orderId": "O-1"}, {"id": "2", "orderId": "O-2"}]})
        assert len(page.parse({"items": [{"id": "1", "orderId": "o-1"}, {"id": "2"}]})) == 2


@pytest.mark.parametrize("source", SOURCES.values())
def test_example_and_names_of_each_source_fit_where_they_are_used(source):
    """Simulated services answer with the example: all but the id of the order is there, and macros insert texts.

    A service and a kind are words, and ids in a simulated service begin with a prefix of their own.
    """
    assert {"id"} | {field for field in source.members.values() if field != "orderId"} == source.example.keys()
    assert all(isinstance(source.example[source.members[name]], str) for name in source.variables)
    assert all(name.isalpha() and name.islower() for name in (source.service, source.kind))
    assert all(len(kind) <= 16 for kind in (source.kind, *source.other_ids.values()))  # as in ticket_references
    prefixes = [each.example["id"].partition("-")[0] for each in SOURCES.values()]
    assert len(set(prefixes)) == len(SOURCES) == len(SERVICE_BY_KIND)


@pytest.mark.parametrize(
    ("answer", "expected", "healthy"),
    [
        *(({"status": status}, None, True) for status in (404, 400, 422)),
        *(({"status": status}, CallFailure("http", f"status {status}"), None) for status in (401, 403)),
        ({"status": 204}, CallFailure("aggregate", "unreadable answer"), None),
        ({"status": 300, "payload": ORDER}, CallFailure("http", "status 300"), None),
        ({"status": 429}, CallFailure("http", "status 429"), False),
        ({"status": 500, "payload": ORDER}, CallFailure("http", "status 500"), False),
        ({"body": "no JSON"}, CallFailure("aggregate", "unreadable answer"), None),
        ({"payload": {}}, CallFailure("aggregate", "unreadable answer"), None),
        ({"payload": ORDER | {"id": "ORD-2"}}, CallFailure("aggregate", "answer about another id"), None),
        ({"payload": ORDER | {"id": ["ORD-1"]}}, CallFailure("aggregate", "answer about another id"), None),
        ({"body": '{"id": "ORD-1", "grandTotal": NaN}'}, CallFailure("aggregate", "unreadable answer"), None),
        *(
            ({"exception": exception}, CallFailure("http", "connection failed"), False)
            for exception in (
                aiohttp.ClientConnectionError("refused"),
                aiohttp.ClientPayloadError("cut"),
                ConnectionResetError(),
            )
        ),
        ({"exception": TimeoutError()}, CallFailure("http", "timeout"), None),  # at once: the service had no time
    ],
)
async def test_unusable_response_is_a_failure_with_stage_and_reason(client, answer, expected, healthy):
    """A response without entries is a failure, except a 404 or a rejected id. Some say how healthy the service is."""
    (call, _), _ = client.calls(SourceReferences(("ORD-1",)))
    with aioresponses() as orders:
        orders.get("http://orders/orders/ORD-1", response_class=MockedResponse, repeat=True, **answer)
        given = await client.fetch(call, in_five_seconds(), TimelineBudget(client.new_slots()))
    assert (given.failure, given.healthy) == (expected, healthy)
    assert given.entries == []


class RateLimitedLines(logging.Handler):
    """Collects the log lines that pass the rate limit of the service's handler."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(RateLimitFilter(*UPSTREAM_LOGGERS))
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = re.sub(r"[\d.]+ s$", "0 s", record.getMessage())  # the result must not depend on the clock
        self.lines.append((record.levelname, line))


@pytest.fixture
def logged_lines():
    handler = RateLimitedLines()
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"status": 400}, "{} rejected the id in {} with status 400"),
        ({"status": 403}, "{} answered {} with status 403"),
        ({"status": 503}, "{} answered {} with status 503"),
        ({"body": "no JSON"}, "{} answered {} off the contract: expected ident at line 1 column 2"),
        ({"payload": ORDER | {"more": DEEP}}, "{} answered {} off the contract: nested too deep"),
        ({"exception": aiohttp.ClientConnectionError("refused")}, "{} can't be reached: the connection broke: refused"),
        ({"exception": aiohttp.ClientPayloadError("cut")}, "{} broke off its answer: ClientPayloadError"),
        ({"exception": TimeoutError()}, "{} did not answer {} within 0 s"),
    ],
)
async def test_failure_of_a_source_is_logged_once_a_minute(client, session, instruments, logged_lines, answer, line):
    """Repeated failures log one line that names the source, and the path if a request was sent."""
    payments = SourceClient(SOURCES["payment"], "http://pay", session, instruments, timeout=5, connections=2)
    (order, _), _ = client.calls(SourceReferences(("ORD-1",)))
    (payment,), _ = payments.calls(SourceReferences(("ORD-1",)))
    with aioresponses() as services:
        services.get("http://orders/orders/ORD-1", response_class=MockedResponse, repeat=True, **answer)
        services.get("http://pay/payments/ORD-1", response_class=MockedResponse, repeat=True, **answer)
        for _ in range(50):
            await client.fetch(order, in_five_seconds(), TimelineBudget(client.new_slots()))
            await payments.fetch(payment, in_five_seconds(), TimelineBudget(payments.new_slots()))
    assert logged_lines == [
        ("WARNING", line.format("order", "/orders/ORD-1")),
        ("WARNING", line.format("payment", "/payments/ORD-1")),
    ]


async def test_calls_of_one_case_are_limited(client, session, instruments):
    """The reader gets a note about the rest. A source whose queue is full is not called, and has not failed."""
    calls, note = client.calls(SourceReferences(tuple(map(str, range(MAX_CALLS // 2)))))
    assert (len(calls), note) == (MAX_CALLS, None)
    calls, note = client.calls(SourceReferences(tuple(map(str, range(30_000)))))
    assert (len(calls), note) == (MAX_CALLS, "only the first 500 calls")
    full = SourceClient(SOURCES["order"], "http://orders", session, instruments, timeout=5, connections=0)
    answer = await full.fetch(calls[0], in_five_seconds(), TimelineBudget(full.new_slots()))
    assert (answer.outcome, answer.failure) == ("open", CallFailure(None, "too many calls"))


async def test_call_still_queued_at_the_deadline_is_not_made(client):
    """A call that is queued until the deadline is not made, and does not count as a failure."""
    past = asyncio.get_running_loop().time()
    (call, *_), _ = client.calls(SourceReferences(("ORD-1",)))
    full_budget = TimelineBudget(client.new_slots())
    while not full_budget.slots.locked():
        await full_budget.slots.acquire()
    answer = await client.fetch(call, past, full_budget)
    assert (answer.outcome, answer.failure, answer.healthy) == ("open", CallFailure("http", "timeout"), None)


async def test_call_without_a_free_connection_at_the_deadline_is_not_made(session, instruments):
    client = SourceClient(SOURCES["order"], "http://orders", session, instruments, timeout=5, connections=1)
    (call, *_), _ = client.calls(SourceReferences(("ORD-1",)))
    asked = asyncio.Event()

    async def hang(*_, **__):
        asked.set()
        await asyncio.Event().wait()

    with aioresponses() as orders:
        orders.get("http://orders/orders/ORD-1", callback=hang)
        async with run_in_background(client.fetch(call, in_five_seconds(), TimelineBudget(client.new_slots()))):
            await asked.wait()
            past = asyncio.get_running_loop().time()
            answer = await client.fetch(call, past, TimelineBudget(client.new_slots()))
    assert (answer.outcome, answer.failure, answer.healthy) == ("open", CallFailure("http", "timeout"), None)


async def test_retries_are_limited_by_a_budget(session, instruments):
    """Once the retry budget is used up, a failed connection costs one call only."""
    limits = {"timeout": 5, "connections": 2, "retry_budget": 1}
    client = SourceClient(SOURCES["order"], "http://orders", session, instruments, **limits)
    (call, *_), _ = client.calls(SourceReferences(("ORD-1",)))
    for expected in (2, 1):
        with aioresponses() as mocked:
            mocked.get(re.compile("http://orders.*"), exception=aiohttp.ClientConnectionError("refused"), repeat=True)
            answer = await client.fetch(call, in_five_seconds(), TimelineBudget(client.new_slots()))
            assert sum(map(len, mocked.requests.values())) == expected
        assert answer.failure == CallFailure("http", "connection failed")
