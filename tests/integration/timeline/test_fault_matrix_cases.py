"""Faults of the sources that are more than one answer: of all at once, of a half, of many calls, and over time."""

import asyncio
import json

import pytest

from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.breaker import BreakerTimings
from support_service.timeline.component import TIMELINE, TimelineTimings
from tests.support import upstream_faults as faults
from tests.support.timeline.world import (
    ALL,
    CALLS,
    CONTEXT,
    EVENTS,
    FAILURES,
    STALE_TTL,
    TTL,
    World,
    add_order,
    age,
    freshness,
    open_services,
    payment,
    shown,
)
from tests.support.timings import patient_timings

OPEN_FOR_LONG = BreakerTimings(open_for=600.0)


async def start(make_client, services, redis, **timings):
    """The service under test with a Redis and other times, and its case."""

    async def with_timings(**variables):
        return await make_client(timings=patient_timings(timeline=TimelineTimings(**timings)), **variables)

    return await World.start(with_timings, services, CONTEXT, SUPPORT_REDIS_URL=redis.url)


async def test_all_sources_down_with_nothing_cached(world, services):
    """The case's own history is there, every source says that it is missing, and nothing is written."""
    for service in services.values():
        await service.close()
    detail = await world.read()
    assert [entry["type"] for entry in detail["timeline"]] == ["order"]  # the context
    assert set(freshness(detail).values()) == {("unavailable", "connection failed")}
    assert world.moved(FAILURES) == {"http": 4}
    assert world.moved(EVENTS) == {"miss": 1}
    for service in services.values():
        await service.open()
    assert sorted(shown(await world.read())) == ALL


async def test_all_sources_down_with_old_answers(world, services, store):
    """Every old answer stands in, and none is lost however often the sources fail."""
    await world.read()
    await age(store, world.case, TTL + 60)
    for service in services.values():
        await service.close()
    for _ in range(2):
        detail = await world.read()
        assert sorted(shown(detail)) == ALL
        assert set(freshness(detail).values()) == {("stale", "connection failed")}
        assert world.moved(FAILURES) == {"http": 4}
        assert world.moved(EVENTS) == {"miss": 1}
    for service in services.values():
        await service.open()
    assert set(freshness(await world.read()).values()) == {("fresh", None)}


async def test_an_answer_that_is_too_old_does_not_stand_in(world, services, store):
    """Beyond both its times an answer is not shown: the source is unavailable."""
    await world.read()
    await age(store, world.case, TTL + STALE_TTL + 60)
    services["payment"].fail_with(503)
    detail = await world.read()
    assert freshness(detail)["payment"] == ("unavailable", "status 503")
    assert sorted(shown(detail)) == ["ORD-1", "SHP-1", "e0"]


async def test_nothing_there_is_believed_for_a_moment_only(make_client, services, store, redis):
    """A 404 is asked for again after half a minute, while what the others gave is still current."""
    at_the_end = AggregatorTimings(refresh_ahead_from=2.0, refresh_ahead_to=2.0)  # nothing is renewed before it ends
    world = await start(make_client, services, redis, aggregator=at_the_end)
    services["payment"].fail_with(404)
    assert freshness(await world.read())["payment"] == ("fresh", None)
    await age(store, world.case, 20)
    assert freshness(await world.read())["payment"] == ("cached", None)
    services["payment"].heal()
    await age(store, world.case, 11)
    detail = await world.read()
    assert freshness(detail) == {"order": ("cached", None), "payment": ("fresh", None), "fulfillment": ("cached", None)}
    assert sorted(shown(detail)) == ALL


async def test_the_deadline_cuts_off_what_a_source_would_be_given(make_client, services):
    """A source that may take longer than a whole read is cut off with it; so are all three, at the same time."""
    world = await World.start(make_client, services, CONTEXT, SUPPORT_TIMELINE_DEADLINE="0.2")
    for service in services.values():
        service.fault = faults.hang_before_headers
    assert set(freshness(await world.read()).values()) == {("unavailable", "timeout")}
    assert world.moved(FAILURES) == {"http": 4}


async def test_half_a_source_is_not_a_whole_one(world, services, store):
    """Where one of an order's calls fails, what the other gave is shown, and is never kept as all there is."""
    (history,) = [target for target in services["order"].documents if target.endswith("/events")]
    services["order"].know(history, "no list")
    detail = await world.read()
    assert freshness(detail)["order"] == ("unavailable", "unreadable answer")
    assert sorted(shown(detail)) == ["ORD-1", "PAY-1", "SHP-1"]
    assert "order" not in await age(store, world.case, 0)


async def test_a_redirect_is_not_followed(world, services):
    """A source can't send the service anywhere else: who is named in a redirect is never asked."""
    async with open_services() as others:
        elsewhere = others["payment"]
        for number in (301, 302, 303, 307, 308):
            services["payment"].fault = faults.status(number, f"Location: {elsewhere.url}/payments/PAY-1")
            assert freshness(await world.read())["payment"] == ("unavailable", f"status {number}")
            assert world.moved(FAILURES) == {"http": 1}
        assert elsewhere.calls == []


async def test_a_source_that_keeps_failing_is_left_alone(make_client, services, redis):
    """After five failures the circuit is open: the source is asked no more, and says so at once."""
    world = await start(make_client, services, redis, breaker=OPEN_FOR_LONG)
    services["payment"].fail_with(503)
    for _ in range(5):
        assert freshness(await world.read())["payment"] == ("unavailable", "status 503")
    asked = len(services["payment"].calls)
    assert freshness(await world.read())["payment"] == ("unavailable", "circuit open")
    assert world.moved(CALLS, service="payment") == {"open": 1}
    assert world.moved(FAILURES) == {}
    assert len(services["payment"].calls) == asked == 5


async def test_a_source_that_is_left_alone_still_has_its_old_answer(make_client, services, store, redis):
    """Behind an open circuit the old answer stands in, without a call."""
    world = await start(make_client, services, redis, breaker=OPEN_FOR_LONG)
    await world.read()
    await age(store, world.case, TTL + 60)
    services["payment"].fail_with(503)
    for _ in range(5):
        await world.read()
    asked = len(services["payment"].calls)
    detail = await world.read()
    assert freshness(detail)["payment"] == ("stale", "circuit open")
    assert sorted(shown(detail)) == ALL
    assert len(services["payment"].calls) == asked


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
async def test_a_reference_is_one_segment(make_client, services, reference, encoded):
    """An order's id is sent as one path segment and one query value, whatever characters it has."""
    add_order(services, reference)
    world = await World.start(make_client, services, {"type": "order", "orderId": reference})
    detail = await world.read()
    assert sorted(shown(detail)) == sorted(["e0", reference, f"PAY-{reference}", f"SHP-{reference}"])
    assert set(freshness(detail).values()) == {("fresh", None)}
    assert sorted(services["order"].calls) == [f"/orders/{encoded}", f"/orders/{encoded}/events"]
    assert services["payment"].calls == [f"/payments?orderId={encoded}&limit=50"]
    assert services["fulfillment"].calls == [f"/fulfillment/shipments?orderId={encoded}&limit=50"]


def references(number):
    """A context with so many references: orders, payments and shipments in turn."""
    kinds = ("order", "payment", "shipment")
    return [{"type": kinds[turn % 3], "id": f"{kinds[turn % 3]}-{turn}"} for turn in range(number)]


async def test_a_case_with_200_references(make_client, services, redis):
    """Each reference is asked for once, all within one deadline, and everything that is known is there."""
    context = references(200)
    for entry in context:
        services["order"].add(entry["id"])
        services["payment"].add(entry["id"], "ORD-1")
        services["fulfillment"].add(entry["id"], "ORD-1")
    world = await World.start(make_client, services, context, SUPPORT_REDIS_URL=redis.url)
    detail = await world.read()
    assert set(freshness(detail).values()) == {("fresh", None)}
    assert sorted(shown(detail)) == sorted(entry["id"] for entry in context)
    assert world.moved(FAILURES) == {}
    targets = [target for service in services.values() for target in service.calls]
    assert len(targets) == len(set(targets)) == 200 + 67
    assert set(freshness(await world.read()).values()) == {("cached", None)}


async def test_a_case_with_200_references_of_which_a_third_hang(make_client, services, monkeypatch):
    """Calls that wait for a place are cut off by the deadline too; each is one failure, and the others are complete."""
    context = references(200)
    for entry in context:
        services["order"].add(entry["id"])
    services["payment"].fault = faults.hang_before_headers
    world = await World.start(make_client, services, context)
    payments = world.client.app[TIMELINE].sources["payment"]
    fetch, soon = payments.fetch, asyncio.get_running_loop().time() + 0.2
    # The deadline is this source's alone: where the machine stands still, the others answer after it.
    monkeypatch.setattr(payments, "fetch", lambda call, _, allowance: fetch(call, soon, allowance))
    detail = await world.read()
    assert freshness(detail) == {
        "order": ("fresh", None),
        "payment": ("unavailable", "timeout"),
        "fulfillment": ("fresh", None),
    }
    assert world.moved(FAILURES) == {"http": 67}
    assert len([name for name in shown(detail) if name.startswith("order-")]) == 67


async def test_a_connection_that_was_kept_and_is_dead_costs_nothing(make_client, services):
    """A source that closes a connection after its answer, without saying so, is asked on a new one."""

    async def respond_and_close(exchange):
        await exchange.send(faults.response(200, json.dumps({"items": [payment()]}).encode()))

    services["payment"].fault = respond_and_close
    world = await World.start(make_client, services, CONTEXT)
    for _ in range(3):
        async with world.client.post(f"/support/cases/{world.case['id']}/timeline/refresh") as response:
            assert freshness(await response.json())["payment"] == ("fresh", None)
