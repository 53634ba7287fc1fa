"""Faults of several sources, of a part of a source, of many calls, and over time."""

import asyncio
import json
from collections import Counter

from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.timeline.source_health import BreakerTimings
from support_service.timings import TimelineTimings
from tests.support import upstream_faults as faults
from tests.support.service import service_of
from tests.support.timeline.harness import (
    ALL_ENTRIES,
    CALLS,
    CONTEXT,
    EVENTS,
    FAILURES,
    FRESH,
    NUMBER_OF_CALLS,
    STALE_TTL,
    TTL,
    TimelineHarness,
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
    async def with_timings(**variables):
        return await make_shared_client(timings=patient_timings(timeline=TimelineTimings(**timings)), **variables)

    return await TimelineHarness.start(with_timings, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)


async def test_stale_snapshots_are_served_when_all_sources_are_down(harness, services, store):
    """Each is served until its stale TTL is over, and repeated failures do not remove it.

    Without one the case's own history is returned, each source is reported as unavailable, and nothing is cached.
    """
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
    await age_snapshots(store, harness.case, STALE_TTL)
    detail = await harness.read()
    assert [entry["type"] for entry in detail["timeline"]] == ["order", "case-event"]  # context and opening
    assert set(source_freshness(detail).values()) == {("unavailable", "connection failed")}
    assert harness.metric_changes(EVENTS) == {"miss": 1}
    for service in services.values():
        await service.open()
    assert set(source_freshness(await harness.read()).values()) == {("fresh", None)}


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


async def test_circuit_opens_after_five_failures(make_shared_client, services, store, redis):
    """The source is not called, and the reason is reported at once, with the stale snapshot if there is one."""
    harness = await start_service(make_shared_client, services, redis, breaker=OPEN_FOR_LONG)
    await harness.read()
    await age_snapshots(store, harness.case, TTL + 60)
    services["payment"].fail_with(503)
    for _ in range(5):
        assert source_freshness(await harness.read())["payment"] == ("stale", "status 503")
    calls_before = len(services["payment"].calls)
    harness.metric_changes(FAILURES)
    detail = await harness.read()
    assert source_freshness(detail)["payment"] == ("stale", "circuit open")
    assert sorted(source_entries(detail)) == ALL_ENTRIES
    assert harness.metric_changes(CALLS, service="payment") == {"open": 1}
    assert harness.metric_changes(FAILURES) == {}
    await age_snapshots(store, harness.case, STALE_TTL)
    assert source_freshness(await harness.read())["payment"] == ("unavailable", "circuit open")
    assert len(services["payment"].calls) == calls_before


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
