"""Concurrent readers of one case cause one call per source; how long its answers are kept."""

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, unit_of_work
from support_service.timeline import overrides, snapshots
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.cache import InProcessCache
from support_service.timeline.single_flight import ReadLimits, SingleFlight
from support_service.timeline.snapshots import Snapshot, SnapshotCache, SnapshotSubject
from support_service.timings import TimelineTimings
from tests.support.calls import eventually, open_case, read_detail, refresh
from tests.support.scrape import Changes
from tests.support.service import service_of
from tests.support.timeline.harness import CONTEXT, EVENTS, add_order
from tests.support.timings import patient_timings

READERS = 200
ORDER_REFERENCES = {"order": SourceReferences(("A",))}


@pytest.fixture
def services(sources):
    """All upstream services, each with entries for one order."""
    add_order(sources)
    return [sources[name] for name in ("order", "payment", "fulfillment")]


@pytest_asyncio.fixture(loop_scope="module")
async def override(client):
    """Set an override until the end of the test, and make the service read it at once."""

    async def change(name, value=None, seconds=60.0):
        now = overrides.utc_now()
        wanted = overrides.Override(name, value, "being restored", now + timedelta(seconds=seconds), now)
        async with unit_of_work(service_of(client).database, SYSTEM_ORIGIN) as work:
            await overrides.set_override(work, wanted)
        await service_of(client).timeline.overrides.refresh()

    yield change
    for name in ("ttl", "payment"):
        await change(name, 1000.0 if name == "ttl" else None, seconds=-1)


def call_count(services):
    """Return the number of calls to all services."""
    return sum(len(service.calls) for service in services)


def statuses(detail):
    """Return the set of source statuses in a case."""
    return {source["status"] for source in detail["timelineSources"].values()}


async def test_concurrent_readers_of_one_replica_share_four_calls(client, metrics, services):
    """200 concurrent readers of an uncached case cause four calls, and each gets the complete timeline."""
    case = await open_case(client, context=CONTEXT)
    details = await asyncio.gather(*(read_detail(client, case) for _ in range(READERS)))
    assert call_count(services) == 4
    assert {len(detail["timeline"]) for detail in details} == {6}
    assert metrics.value(EVENTS, event="hit") + metrics.value(EVENTS, event="miss") == READERS
    assert metrics.value(EVENTS, event="write") == 1


async def test_disconnected_reader_does_not_cancel_a_shared_fetch(client, metrics, services):
    """The first reader disconnects during the fetch; the second reader gets the result of that fetch."""
    orders, *_ = services
    release = orders.hang()
    case = await open_case(client, context=CONTEXT)
    first = asyncio.create_task(read_detail(client, case))
    await eventually(lambda: orders.waiting == 2)
    second = asyncio.create_task(read_detail(client, case))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await eventually(lambda: metrics.value(EVENTS, event="miss") == 2)
    release.set()
    assert statuses(await second) == {"fresh"}
    assert call_count(services) == 4


async def test_refresh_does_not_join_a_fetch_in_flight(client, services):
    """A refresh makes its own calls while a read is in flight, so its result is newer than the request."""
    orders, *_ = services
    release = orders.hang()
    case = await open_case(client, context=CONTEXT)
    reading = asyncio.create_task(read_detail(client, case))
    await eventually(lambda: orders.waiting == 2)
    refreshing = asyncio.create_task(refresh(client, case))
    await eventually(lambda: orders.waiting == 4)
    release.set()
    assert statuses(await reading) == statuses(await refreshing) == {"fresh"}


async def test_slow_read_does_not_overwrite_the_result_of_a_later_refresh(client, services):
    """A slow read that started before a refresh leaves the refreshed snapshot in the cache."""
    orders, *_ = services
    case = await open_case(client, context=CONTEXT)
    release = orders.hang()
    reading = asyncio.create_task(read_detail(client, case))
    await eventually(lambda: orders.waiting == 2)
    orders.heal()
    orders.add("ORD-1", status="delivered")
    await refresh(client, case)
    orders.add("ORD-1", status="paid")
    release.set()
    await reading
    detail = await read_detail(client, case)
    assert statuses(detail) == {"cached"}
    assert [entry["status"] for entry in detail["timeline"] if entry.get("source") == "order-service"] == ["delivered"]


async def test_cached_timeline_is_refreshed_ahead_of_expiry(client, services, metrics):
    """Shortly before expiry a cached timeline is served at once and refreshed in the background."""
    orders, *_ = services
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age_snapshots(client, case, AggregatorTimings().refresh_ahead_to * 300)
    release = orders.hang()
    detail = await read_detail(client, case)
    assert statuses(detail) == {"cached"}
    assert all(source["ageSeconds"] > 200 for source in detail["timelineSources"].values())
    await eventually(lambda: orders.waiting == 2)
    await asyncio.gather(*(read_detail(client, case) for _ in range(20)))
    release.set()
    await eventually(lambda: metrics.value(EVENTS, event="write") == 2)
    detail = await read_detail(client, case)
    assert all(source["ageSeconds"] < 200 for source in detail["timelineSources"].values())
    assert call_count(services) == 8


async def test_failed_refresh_ahead_is_not_retried_on_every_read(make_client, services):
    """While a source is down, reads of timelines close to expiry call it once per interval, not once per read."""
    client = await make_client(timings=timings_with_aggregator(refresh_ahead_interval=3600.0))
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age_snapshots(client, case, AggregatorTimings().refresh_ahead_to * 300)
    for service in services:
        service.fail_with(503)
    for _ in range(20):
        assert statuses(await read_detail(client, case)) == {"cached"}
    await eventually(lambda: call_count(services) == 8)


async def test_not_found_answer_is_cached_for_a_short_time(make_client, orders):
    """A 404 and a rejected id are cached for half a minute, and other answers for the full TTL."""
    timings = timings_with_aggregator(refresh_ahead_from=2.0, refresh_ahead_to=2.0)  # no refresh ahead of expiry
    client = await make_client(timings=timings)
    for status in (404, 400, 422):
        events = Changes(service_of(client).metrics)
        case = await open_case(client, context=CONTEXT)
        orders.fail_with(status)
        assert (await read_detail(client, case))["timelineSources"]["order"]["status"] == "fresh"
        await age_snapshots(client, case, AggregatorTimings().not_found_ttl - 10)
        assert (await read_detail(client, case))["timelineSources"]["order"]["status"] == "cached"
        orders.heal()
        orders.add("ORD-1")
        await age_snapshots(client, case, 11)
        detail = await read_detail(client, case)
        statuses = {name: source["status"] for name, source in detail["timelineSources"].items()}
        assert statuses == dict.fromkeys(UPSTREAM_SERVICES, "cached") | {"order": "fresh"}
        assert [events.value(EVENTS, event=event) for event in ("hit", "miss")] == [1, 2]


async def test_not_found_answer_is_cached_no_longer_than_others(client, orders, override):
    """A shorter TTL counts for it too."""
    case = await open_case(client, context=CONTEXT)
    await override("ttl", 10.0)
    await read_detail(client, case)
    await age_snapshots(client, case, 11)
    assert statuses(await read_detail(client, case)) == {"fresh"}


async def test_outdated_answer_replaces_a_failed_source_unless_it_says_not_found(client, orders, payments):
    """An order that was found counts beside one that was not, and so does an answer that has no payments."""
    orders.add("ORD-1")
    case = await open_case(client, context=[CONTEXT, CONTEXT | {"orderId": "ORD-2"}])
    await read_detail(client, case)
    await age_snapshots(client, case, 300)
    for service in (orders, payments):
        service.fail_with(503)
    detail = await read_detail(client, case)
    assert [detail["timelineSources"][name]["status"] for name in ("order", "payment")] == ["stale", "stale"]
    assert "order" in {entry["type"] for entry in detail["timeline"]}


def timings_with_aggregator(**changes):
    return patient_timings(timeline=TimelineTimings(aggregator=AggregatorTimings(**changes)))


async def age_snapshots(client, case, seconds):
    key = snapshots.cache_key(case["id"])
    cache = service_of(client).cache
    cached = snapshots.decode_snapshots(await cache.get(key))
    older = {
        name: known._replace(requested_at=known.requested_at - seconds) for name, known in cached.snapshots.items()
    }
    await cache.compare_and_set(key, snapshots.encode_snapshots(older), 3600, cached.revision)


def test_snapshot_keeps_its_references_when_encoded():
    """An encoded snapshot holds the references that it answers, and decodes to the same value."""
    original = {"order": Snapshot(1.5, SourceReferences(("A",), ("B",)), 3, [{"type": "order"}], "note", missing=True)}
    assert snapshots.decode_snapshots(snapshots.encode_snapshots(original)).snapshots == original


async def test_source_disabled_by_an_override_is_not_called(client, services, override, metrics):
    """While an override disables a source, its cached snapshot is served; without a snapshot the source is `off`."""
    orders, payments, _ = services
    case, other = [await open_case(client, context=CONTEXT) for _ in range(2)]
    await read_detail(client, case)
    await override("payment")
    calls_before = len(payments.calls)
    assert (await read_detail(client, case))["timelineSources"]["payment"]["status"] == "cached"
    refreshed = await refresh(client, case)
    assert refreshed["timelineSources"]["payment"]["status"] == "cached"
    assert refreshed["timelineSources"]["order"]["status"] == "fresh"
    calls_to_orders = len(orders.calls)
    await age_snapshots(client, case, AggregatorTimings().refresh_ahead_to * 300)
    assert statuses(await read_detail(client, case)) == {"cached"}
    await eventually(lambda: len(orders.calls) > calls_to_orders)  # refreshed ahead
    await age_snapshots(client, case, 300)
    source = (await read_detail(client, case))["timelineSources"]["payment"]
    assert (source["status"], source["reason"].split()[0]) == ("stale", "switched")
    assert metrics.value("support_timeline_read_seconds_count", completeness="stale") == 1
    detail = await read_detail(client, other)
    assert "PAY-1" not in {entry.get("paymentId") for entry in detail["timeline"]}
    assert detail["timelineSources"]["payment"]["status"] == "off"
    assert "being restored" in detail["timelineSources"]["payment"]["reason"]
    assert len(payments.calls) == calls_before
    await override("payment", seconds=-1)
    assert (await read_detail(client, other))["timelineSources"]["payment"]["status"] == "fresh"


async def test_ttl_override_applies_to_cached_snapshots(client, services, override):
    """The `ttl` override makes cached snapshots current again, until the override expires."""
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age_snapshots(client, case, 1000)
    await override("ttl", 5000.0)
    assert statuses(await read_detail(client, case)) == {"cached"}
    assert call_count(services) == 4
    await override("ttl", 5000.0, seconds=-1)
    assert statuses(await read_detail(client, case)) == {"fresh"}


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        (SnapshotSubject("case", {"order": SourceReferences(("B",))}, 0), set()),
        (SnapshotSubject("case", ORDER_REFERENCES, 1), set()),
        (SnapshotSubject("case", ORDER_REFERENCES, 0), {"order"}),
    ],
    ids=["references", "epoch", "another source"],
)
async def test_reader_with_other_needs_does_not_join_a_fetch_in_flight(instruments, changed, due):
    """After a change of the case the older fetch would give what it was before."""
    single_flight = SingleFlight([], SnapshotCache(InProcessCache(), instruments), lambda *_: False, lambda: 60.0)
    case, limits = SnapshotSubject("case", ORDER_REFERENCES, 0), ReadLimits(0.0, {})
    fetch = single_flight.start_or_join(case, frozenset(), None, limits)
    assert single_flight.start_or_join(case, frozenset(), None, limits) is fetch
    assert single_flight.start_or_join(changed, frozenset(due), None, limits) is not fetch
    await single_flight.close()


async def test_shutdown_cancels_fetches_in_flight(instruments):
    """Closing the single flight cancels a running fetch instead of waiting for a source."""
    cache = SnapshotCache(InProcessCache(), instruments)
    single_flight = SingleFlight([], cache, lambda *_: False, lambda: 60.0)
    case = SnapshotSubject("case-1", {}, 0)
    fetch = single_flight.start_or_join(case, frozenset(), None, ReadLimits(0.0, {}))
    assert single_flight.is_in_flight(case.id)
    await single_flight.close()
    assert fetch.cancelled()
    await eventually(lambda: not single_flight.is_in_flight(case.id))
