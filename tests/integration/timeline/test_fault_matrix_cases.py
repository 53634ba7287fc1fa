"""Faults of several sources, of a part of a source, of many calls, and over time."""

import asyncio
import json
from collections import Counter

import pytest

from support_service.core.domain.upstream_services import SERVICE_BY_KIND, SOURCES
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.opening import TimelineTimings
from support_service.timeline.source_health import BreakerTimings
from tests.support import upstream_faults as faults
from tests.support.service import service_of
from tests.support.timeline.harness import (
    ALL_ENTRIES,
    CACHED,
    CALLS,
    CONTEXT,
    EVENTS,
    FAILURES,
    FRESH,
    NUMBER_OF_CALLS,
    PREFIXES,
    STALE_TTL,
    TTL,
    TimelineHarness,
    add_order,
    age_snapshots,
    all_but,
    open_services,
    payment,
    source_entries,
    source_freshness,
)
from tests.support.timings import patient_timings

OPEN_FOR_LONG = BreakerTimings(open_for=600.0)


async def start_service(make_shared_client, services, redis, **timings):
    """Start the service with Redis and these timings; return its harness with a case."""

    async def with_timings(**variables):
        return await make_shared_client(timings=patient_timings(timeline=TimelineTimings(**timings)), **variables)

    return await TimelineHarness.start(with_timings, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)


async def test_case_history_is_served_when_all_sources_are_down(harness, services):
    """The case's own history is returned, each source is reported as unavailable, and nothing is cached."""
    for service in services.values():
        await service.close()
    detail = await harness.read()
    assert [entry["type"] for entry in detail["timeline"]] == ["order", "case-event"]  # context and opening
    assert set(source_freshness(detail).values()) == {("unavailable", "connection failed")}
    assert harness.metric_changes(FAILURES) == {"http": NUMBER_OF_CALLS}
    assert harness.metric_changes(EVENTS) == {"miss": 1}
    for service in services.values():
        await service.open()
    assert sorted(source_entries(await harness.read())) == ALL_ENTRIES


async def test_stale_snapshots_are_served_when_all_sources_are_down(harness, services, store):
    """Each stale snapshot is served, and repeated failures do not remove it."""
    await harness.read()
    await age_snapshots(store, harness.case, TTL + 60)
    for service in services.values():
        await service.close()
    for _ in range(2):
        detail = await harness.read()
        assert sorted(source_entries(detail)) == ALL_ENTRIES
        assert set(source_freshness(detail).values()) == {("stale", "connection failed")}
        assert harness.metric_changes(FAILURES) == {"http": NUMBER_OF_CALLS}
        assert harness.metric_changes(EVENTS) == {"miss": 1}
    for service in services.values():
        await service.open()
    assert set(source_freshness(await harness.read()).values()) == {("fresh", None)}


async def test_snapshot_older_than_the_stale_ttl_is_not_served(harness, services, store):
    """Once TTL and stale TTL are over, the snapshot is not shown and the source is unavailable."""
    await harness.read()
    await age_snapshots(store, harness.case, TTL + STALE_TTL + 60)
    services["payment"].fail_with(503)
    detail = await harness.read()
    assert source_freshness(detail)["payment"] == ("unavailable", "status 503")
    assert sorted(source_entries(detail)) == all_but("PAY-1")


async def test_not_found_answer_is_requested_again_after_half_a_minute(make_shared_client, services, store, redis):
    """After half a minute a 404 is requested again, while the other snapshots are still current."""
    aggregator = AggregatorTimings(refresh_ahead_from=2.0, refresh_ahead_to=2.0)  # no refresh ahead of expiry
    harness = await start_service(make_shared_client, services, redis, aggregator=aggregator)
    services["payment"].fail_with(404)
    assert source_freshness(await harness.read())["payment"] == ("fresh", None)
    await age_snapshots(store, harness.case, 20)
    assert source_freshness(await harness.read())["payment"] == ("cached", None)
    services["payment"].heal()
    await age_snapshots(store, harness.case, 11)
    detail = await harness.read()
    assert source_freshness(detail) == CACHED | {"payment": ("fresh", None)}
    assert sorted(source_entries(detail)) == ALL_ENTRIES


async def test_read_deadline_limits_all_source_calls(make_shared_client, services):
    """The deadline of the read cuts off sources with a longer timeout, all at the same time."""
    harness = await TimelineHarness.start(make_shared_client, services, CONTEXT, SUPPORT_TIMELINE_DEADLINE="0.2")
    for service in services.values():
        service.fault = faults.hang_before_headers
    assert set(source_freshness(await harness.read()).values()) == {("unavailable", "timeout")}
    assert harness.metric_changes(FAILURES) == {"http": NUMBER_OF_CALLS}


async def test_partial_answer_of_a_source_is_shown_but_not_cached(harness, services, store):
    """If one of an order's calls fails, the entries of the other are shown, and not cached as complete."""
    (history,) = [target for target in services["order"].documents if target.endswith("/events")]
    services["order"].serve_document(history, "no list")
    detail = await harness.read()
    assert source_freshness(detail)["order"] == ("unavailable", "unreadable answer")
    assert sorted(source_entries(detail)) == all_but("e0")
    assert "order" not in await age_snapshots(store, harness.case, 0)


async def test_redirect_of_a_source_is_not_followed(harness, services):
    """A redirect counts as a failure, and its target is never called."""
    async with open_services() as others:
        elsewhere = others["payment"]
        for number in (301, 302, 303, 307, 308):
            services["payment"].fault = faults.status(number, f"Location: {elsewhere.url}/payments/PAY-1")
            assert source_freshness(await harness.read())["payment"] == ("unavailable", f"status {number}")
            assert harness.metric_changes(FAILURES) == {"http": 1}
        assert elsewhere.calls == []


async def test_circuit_opens_after_five_failures(make_shared_client, services, redis):
    """After five failures the circuit is open: the source is not called, and the reason is reported at once."""
    harness = await start_service(make_shared_client, services, redis, breaker=OPEN_FOR_LONG)
    services["payment"].fail_with(503)
    for _ in range(5):
        assert source_freshness(await harness.read())["payment"] == ("unavailable", "status 503")
    calls_before = len(services["payment"].calls)
    assert source_freshness(await harness.read())["payment"] == ("unavailable", "circuit open")
    assert harness.metric_changes(CALLS, service="payment") == {"open": 1}
    assert harness.metric_changes(FAILURES) == {}
    assert len(services["payment"].calls) == calls_before == 5


async def test_stale_snapshot_is_served_while_the_circuit_is_open(make_shared_client, services, store, redis):
    """While the circuit is open the stale snapshot is served without a call."""
    harness = await start_service(make_shared_client, services, redis, breaker=OPEN_FOR_LONG)
    await harness.read()
    await age_snapshots(store, harness.case, TTL + 60)
    services["payment"].fail_with(503)
    for _ in range(5):
        await harness.read()
    calls_before = len(services["payment"].calls)
    detail = await harness.read()
    assert source_freshness(detail)["payment"] == ("stale", "circuit open")
    assert sorted(source_entries(detail)) == ALL_ENTRIES
    assert len(services["payment"].calls) == calls_before


@pytest.mark.parametrize(
    ("reference", "encoded"),
    [
        ("a/b", "a%2Fb"),
        ("a?b=c", "a%3Fb%3Dc"),
        ("..", "%2E%2E"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("a b", "a%20b"),
        ("a%2Fb", "a%252Fb"),
        ("a\r\nHost: elsewhere", "a%0D%0AHost%3A%20elsewhere"),
        ("http://elsewhere/", "http%3A%2F%2Felsewhere%2F"),
    ],
)
async def test_reference_is_sent_as_one_path_segment(make_shared_client, services, reference, encoded):
    """An order id is sent as one path segment and one query value, whatever characters it has."""
    add_order(services, reference)
    harness = await TimelineHarness.start(make_shared_client, services, {"type": "order", "orderId": reference})
    detail = await harness.read()
    others = [f"{prefix}-{reference}" for name, prefix in PREFIXES.items() if name != "order"]
    assert sorted(source_entries(detail)) == sorted(["e0", reference, *others])
    assert set(source_freshness(detail).values()) == {("fresh", None)}
    assert sorted(services["order"].calls) == [f"/orders/{encoded}", f"/orders/{encoded}/events"]
    for source in SOURCES.values():
        if source.service != "order":
            assert services[source.service].calls == [f"{source.path}?orderId={encoded}&limit=50"]


def context_of_references(number):
    """Return a context with this number of references: orders, payments and so on in turn."""
    kinds = [*SERVICE_BY_KIND] * number
    return [{"type": kind, "id": f"{kind}-{turn}"} for turn, kind in enumerate(kinds[:number])]


async def test_case_with_200_references_has_a_complete_timeline(make_shared_client, services, redis):
    """Each reference is requested once, within one deadline, and the timeline is complete."""
    context = context_of_references(200)
    for entry in context:
        for service in services.values():
            service.add(entry["id"])
    harness = await TimelineHarness.start(make_shared_client, services, context, SUPPORT_REDIS_URL=redis.url)
    detail = await harness.read()
    assert set(source_freshness(detail).values()) == {("fresh", None)}
    assert sorted(source_entries(detail)) == sorted(entry["id"] for entry in context)
    assert harness.metric_changes(FAILURES) == {}
    targets = [target for service in services.values() for target in service.calls]
    orders = sum(entry["type"] == "order" for entry in context)  # each takes two calls
    assert len(targets) == len(set(targets)) == 200 + orders
    assert set(source_freshness(await harness.read()).values()) == {("cached", None)}


async def test_deadline_cuts_off_queued_calls_of_a_hanging_source(make_shared_client, services, monkeypatch):
    """The deadline cuts off queued calls too; each counts as one failure, and other sources are complete."""
    context = context_of_references(200)
    for entry in context:
        services["order"].add(entry["id"])
    services["payment"].fault = faults.hang_before_headers
    harness = await TimelineHarness.start(make_shared_client, services, context)
    payments = service_of(harness.client).timeline.sources["payment"]
    fetch, soon = payments.fetch, asyncio.get_running_loop().time() + 0.2
    # Only this source gets the short deadline, since the others may exceed it when the machine stalls.
    monkeypatch.setattr(payments, "fetch", lambda call, _, budget: fetch(call, soon, budget))
    detail = await harness.read()
    assert source_freshness(detail) == FRESH | {"payment": ("unavailable", "timeout")}
    number = Counter(entry["type"] for entry in context)
    assert harness.metric_changes(FAILURES) == {"http": number["payment"]}
    assert len([name for name in source_entries(detail) if name.startswith("order-")]) == number["order"]


async def test_closed_keep_alive_connection_causes_no_failure(make_shared_client, services):
    """If a source closes a kept-alive connection after its response, the next call uses a new connection."""

    async def respond_and_close(exchange):
        await exchange.send(faults.response(200, json.dumps({"items": [payment()]}).encode()))

    services["payment"].fault = respond_and_close
    harness = await TimelineHarness.start(make_shared_client, services, CONTEXT)
    for _ in range(3):
        async with harness.client.post(f"/support/cases/{harness.case['id']}/timeline/refresh") as response:
            assert source_freshness(await response.json())["payment"] == ("fresh", None)
