"""Replicas that read one case at once: one call of each source, and the newest snapshot in the cache they share."""

import asyncio
import time

import pytest
from redis import Redis

from support_service.core.domain import references
from support_service.core.domain.references import SourceReferences
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.single_flight import ReadLimits, SingleFlight, SingleFlightTimings
from support_service.timeline.snapshots import Snapshot, SnapshotCache, SnapshotSubject
from support_service.timings import TimelineTimings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case, read_detail
from tests.support.scrape import Scrape
from tests.support.service import service_of
from tests.support.timeline.harness import CONTEXT, EVENTS, NUMBER_OF_CALLS, add_order
from tests.support.timings import patient_timings

ORDER_REFERENCES = {"order": SourceReferences(("A",))}


@pytest.fixture
def make_replica(make_client, upstream_services, sources, redis, patient_cache):
    """Start a service with upstream services that know one order, and with the cache of the others."""
    add_order(sources)

    async def make(lease):
        aggregator = AggregatorTimings(single_flight=SingleFlightTimings(lease=lease))
        timings = patient_timings(timeline=TimelineTimings(aggregator=aggregator))
        return await make_client(timings=timings, SUPPORT_REDIS_URL=redis.url)

    return make


def outcome(detail, sources):
    statuses = {source["status"] for source in detail["timelineSources"].values()}
    return statuses, sum(len(service.calls) for service in sources.values())


async def test_reader_calls_the_sources_once_the_lease_of_a_dead_replica_expires(make_replica, sources, instruments):
    """A reader waits for the lease of a dead replica to expire, then calls the sources itself."""
    client = await make_replica(lease=0.1)
    case = await open_case(client, context=CONTEXT)
    subject = SnapshotSubject(case["id"], references.references_by_service([CONTEXT]), 0)
    await SnapshotCache(service_of(client).cache, instruments).acquire_lease(subject, 0.1)
    assert outcome(await read_detail(client, case), sources) == ({"fresh"}, NUMBER_OF_CALLS)


async def test_slow_source_is_called_by_one_replica_for_both(make_replica, sources, orders, redis):
    """The replica that calls a slow source extends its lease. All readers of the other replica wait for the result."""
    one, two = [await make_replica(lease=60) for _ in range(2)]  # longer than any stall of a test machine
    release = orders.hang()
    case = await open_case(one, context=CONTEXT)
    first = asyncio.create_task(read_detail(one, case))
    await eventually(lambda: orders.waiting == 2)
    others = [asyncio.create_task(read_detail(two, case)) for _ in range(50)]
    misses = Scrape(service_of(two).metrics)
    await eventually(lambda: misses.value(EVENTS, event="miss") == len(others))
    with Redis.from_url(redis.url) as server:
        [claim] = server.scan_iter("*:claim:*")
        server.expire(claim, 30)
        await eventually(lambda: server.ttl(claim) > 30)
    assert orders.waiting == 2
    release.set()
    assert outcome(await first, sources) == ({"fresh"}, NUMBER_OF_CALLS)
    for each in others:
        assert outcome(await each, sources) == ({"cached"}, NUMBER_OF_CALLS)


async def test_concurrent_writes_keep_the_newest_snapshot_of_each_source(cache, instruments):
    """The newest snapshot of each source is kept, whatever the order of writes and whatever each writer had read."""
    wanted = {"order": SourceReferences(("A",)), "payment": SourceReferences(("B",))}
    case, snapshot_cache = SnapshotSubject("case", wanted, 0), SnapshotCache(cache, instruments)

    def at(moment, *names):
        return {name: Snapshot(moment, wanted[name], 0, [{"type": name, "timestamp": str(moment)}]) for name in names}

    seen = await snapshot_cache.read(case)
    await snapshot_cache.write(case, at(10.0, "order", "payment"), seen, 60)
    await snapshot_cache.write(case, at(5.0, "order"), seen, 60)  # started earlier, finished later
    await snapshot_cache.write(case, at(11.0, "payment"), seen, 60)
    assert (await snapshot_cache.read(case)).snapshots == at(10.0, "order") | at(11.0, "payment")


def order_snapshot(at, epoch=0):
    """Return a snapshot of the order service with this time, for an epoch of the case."""
    return {"order": Snapshot(at, ORDER_REFERENCES["order"], epoch, [{"type": "order", "timestamp": str(at)}])}


async def test_replica_clock_ahead_does_not_block_newer_snapshots(cache, instruments):
    """A snapshot replaces the snapshot that its writer had read, even if the replaced one has a later time."""
    case, snapshot_cache = SnapshotSubject("case", ORDER_REFERENCES, 0), SnapshotCache(cache, instruments)
    now = time.time()
    await snapshot_cache.write(case, order_snapshot(now + 20), await snapshot_cache.read(case), 60)
    seen = await snapshot_cache.read(case)
    await snapshot_cache.write(case, order_snapshot(now), seen, 60)
    assert (await snapshot_cache.read(case)).snapshots == order_snapshot(now)
    await snapshot_cache.write(case, order_snapshot(now - 20), seen, 60)  # concurrent with the previous write
    assert (await snapshot_cache.read(case)).snapshots == order_snapshot(now)


async def test_snapshot_of_a_newer_epoch_is_kept(cache, instruments):
    """Of two concurrent snapshots the newer epoch is kept, even if its time is earlier."""
    case, snapshot_cache = SnapshotSubject("case", ORDER_REFERENCES, 1), SnapshotCache(cache, instruments)
    now, empty = time.time(), await snapshot_cache.read(case)
    await snapshot_cache.write(case, order_snapshot(now + 20, 0), empty, 60)
    await snapshot_cache.write(case, order_snapshot(now, 1), empty, 60)
    await snapshot_cache.write(case, order_snapshot(now + 30, 0), empty, 60)
    assert (await snapshot_cache.read(case)).snapshots == order_snapshot(now, 1)


async def test_snapshot_of_a_replica_with_a_slow_clock_is_used(cache, instruments):
    """A snapshot that another replica stored meanwhile is used without a call, even if its time is earlier."""
    case, snapshot_cache = SnapshotSubject("case", ORDER_REFERENCES, 1), SnapshotCache(cache, instruments)
    now = time.time()
    await snapshot_cache.write(case, order_snapshot(now + 20, 0), await snapshot_cache.read(case), 60)
    seen = await snapshot_cache.read(case)
    await snapshot_cache.write(case, order_snapshot(now, 1), seen, 60)
    single_flight = SingleFlight([], snapshot_cache, lambda case, known: known.epoch >= case.epoch, lambda: 60)
    limits = ReadLimits(asyncio.get_running_loop().time() + GENEROUS_TIMEOUT, {})
    found = await single_flight.start_or_join(case, frozenset({"order"}), seen, limits)
    assert (found.fetched, found.from_other_replica) == ({}, order_snapshot(now, 1))
    await single_flight.close()
