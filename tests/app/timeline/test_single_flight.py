"""However many readers of one case there are, in however many processes, each source is asked once."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import aiohttp
import pytest
from redis import Redis

from support_service.core import references
from support_service.core.references import SourceReferences
from support_service.database.component import DATABASE
from support_service.idempotency.unit_of_work import SYSTEM_CONTEXT, unit_of_work
from support_service.timeline import overrides
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.memory import InProcessCache
from support_service.timeline.cache.snapshot_cache import Case, SnapshotCache
from support_service.timeline.cache.snapshots import Snapshot
from support_service.timeline.component import CACHE, TIMELINE, TimelineTimings
from support_service.timeline.single_flight import SingleFlight, SingleFlightTimings
from tests.support.calls import PATIENCE, eventually, open_case, read_detail, refresh
from tests.support.process import running
from tests.support.promql import ROOT
from tests.support.scrape import Scrape
from tests.support.servers import free_port
from tests.support.timings import patient_timings

READERS = 200
CONTEXT = {"type": "order", "orderId": "ORD-1"}
ORDERED = {"order": SourceReferences(("A",))}
EVENTS = "support_timeline_cache_events_total"

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def services(orders, payments, shipments):
    """All three services, each of which knows something of one order."""
    orders.add("ORD-1", "order.created")
    payments.add("PAY-1", "ORD-1")
    shipments.add("SHP-1", "ORD-1")
    return orders, payments, shipments


def calls(services):
    """How many calls the services had."""
    return sum(len(service.calls) for service in services)


def statuses(detail):
    """What each service's part of a detail is worth."""
    return {source["status"] for source in detail["timelineSources"].values()}


async def test_a_stampede_on_one_process_is_four_calls(client, metrics, services):
    """200 readers of one cold case cause four calls, and every one of them gets the whole timeline."""
    case = await open_case(client, context=CONTEXT)
    details = await asyncio.gather(*(read_detail(client, case) for _ in range(READERS)))
    assert calls(services) == 4
    assert {len(detail["timeline"]) for detail in details} == {5}
    assert metrics.value(EVENTS, event="hit") + metrics.value(EVENTS, event="miss") == READERS
    assert metrics.value(EVENTS, event="write") == 1


async def test_a_stampede_on_two_processes_is_four_calls(services, redis, upstream_services, tmp_path):
    """Two replicas that share a Redis ask once between them; readers of both get the whole timeline."""
    addresses = {port: f"http://127.0.0.1:{port}" for port in (free_port(), free_port())}
    async with AsyncExitStack() as stack:
        processes = []
        for port in addresses:
            own = {"SUPPORT_PORT": str(port), "SUPPORT_REDIS_URL": redis.url}
            # On a busy machine one replica may run long before the other does.
            own |= {"SUPPORT_REDIS_TIMEOUT": "60", "module": "tests.support.long_timeouts", "PYTHONPATH": str(ROOT)}
            processes.append(await stack.enter_async_context(running("serve", cwd=tmp_path, **upstream_services | own)))
        starting = zip(processes, addresses.values(), strict=True)
        await asyncio.gather(*(process.answers(address) for process, address in starting))
        replicas = [await stack.enter_async_context(aiohttp.ClientSession(address)) for address in addresses.values()]
        case = await open_case(replicas[0], context=CONTEXT)
        reads = (read_detail(replica, case) for _ in range(READERS // 2) for replica in replicas)
        details = await asyncio.gather(*reads)
    assert calls(services) == 4
    assert {len(detail["timeline"]) for detail in details} == {5}
    assert all(statuses(detail) <= {"fresh", "cached"} for detail in details)


async def test_a_replica_that_died_while_it_asked_is_not_waited_for_long(make_client, services, redis, instruments):
    """The claim of a dead replica expires: a reader on another replica waits for that, and then asks itself."""
    lease = 0.1
    client = await make_client(
        timings=with_aggregator(single_flight=SingleFlightTimings(lease=lease)),
        SUPPORT_REDIS_URL=redis.url,
        SUPPORT_REDIS_TIMEOUT="60",
    )
    case = await open_case(client, context=CONTEXT)
    wanted = references.references_by_service([CONTEXT])
    await SnapshotCache(client.app[CACHE], instruments).claim(Case(case["id"], wanted, 0), lease)
    assert statuses(await read_detail(client, case)) == {"fresh"}
    assert calls(services) == 4


async def test_a_slow_source_is_asked_by_one_replica_for_both(make_client, services, redis):
    """However long the services take, the replica that asks keeps its claim, and the other waits for what it finds."""
    timings = with_aggregator(single_flight=SingleFlightTimings(lease=60))  # no test machine stands still for so long
    own = {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_REDIS_TIMEOUT": "60"}
    one, two = [await make_client(timings=timings, **own) for _ in range(2)]
    orders, *_ = services
    release = orders.hang()
    case = await open_case(one, context=CONTEXT)
    first = asyncio.create_task(read_detail(one, case))
    await eventually(lambda: orders.waiting == 2)
    second = asyncio.create_task(read_detail(two, case))
    misses = Scrape(two.app)
    await eventually(lambda: misses.value(EVENTS, event="miss") == 1)
    with Redis.from_url(redis.url) as server:
        [claim] = server.scan_iter("*:claim:*")
        server.expire(claim, 30)
        await eventually(lambda: server.ttl(claim) > 30)
    assert orders.waiting == 2
    release.set()
    assert statuses(await first) == {"fresh"}
    assert statuses(await second) == {"cached"}
    assert calls(services) == 4


async def test_a_reader_that_leaves_does_not_take_the_answer_away(client, metrics, services):
    """The first reader goes while the services are asked: the second gets what was asked for the first."""
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
    assert calls(services) == 4


async def test_a_refresh_takes_no_answer_from_before(client, services):
    """A refresh asks by itself though a read is being answered: what it shows was asked for after it came."""
    orders, *_ = services
    release = orders.hang()
    case = await open_case(client, context=CONTEXT)
    reading = asyncio.create_task(read_detail(client, case))
    await eventually(lambda: orders.waiting == 2)
    refreshing = asyncio.create_task(refresh(client, case))
    await eventually(lambda: orders.waiting == 4)
    release.set()
    assert statuses(await reading) == statuses(await refreshing) == {"fresh"}


async def test_an_answer_that_was_asked_for_earlier_does_not_replace_a_later_one(client, services):
    """A slow read that began before a refresh leaves the refresh's answer in the cache."""
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


async def test_a_case_that_is_read_is_renewed_before_it_ends(client, services):
    """Near its end a cached timeline is served at once, and renewed for the next reader without a wait."""
    orders, *_ = services
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age(client, case, AggregatorTimings().refresh_ahead_to * 300)
    release = orders.hang()
    detail = await read_detail(client, case)
    assert statuses(detail) == {"cached"}
    assert all(source["ageSeconds"] > 200 for source in detail["timelineSources"].values())
    await eventually(lambda: orders.waiting == 2)
    await asyncio.gather(*(read_detail(client, case) for _ in range(20)))
    release.set()
    await eventually(lambda: Scrape(client.app).value(EVENTS, event="write") == 2)
    detail = await read_detail(client, case)
    assert all(source["ageSeconds"] < 200 for source in detail["timelineSources"].values())
    assert calls(services) == 8


async def test_a_renewal_that_fails_is_not_tried_at_each_read(make_client, services):
    """While a service is down, cached timelines that are near their end ask it once in a while, not once a read."""
    client = await make_client(timings=with_aggregator(refresh_ahead_interval=3600.0))
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age(client, case, AggregatorTimings().refresh_ahead_to * 300)
    for service in services:
        service.fail_with(503)
    for _ in range(20):
        assert statuses(await read_detail(client, case)) == {"cached"}
    await eventually(lambda: calls(services) == 8)


async def test_nothing_there_is_believed_for_a_short_time_only(make_client, orders):
    """A 404 is remembered for half a minute, not for the whole time of an answer."""
    timings = with_aggregator(refresh_ahead_from=2.0, refresh_ahead_to=2.0)  # nothing is renewed before it ends
    client = await make_client(timings=timings)
    case = await open_case(client, context=CONTEXT)
    assert (await read_detail(client, case))["timelineSources"]["order"]["status"] == "fresh"
    await age(client, case, AggregatorTimings().not_found_ttl - 10)
    assert (await read_detail(client, case))["timelineSources"]["order"]["status"] == "cached"
    orders.add("ORD-1")
    await age(client, case, 11)
    detail = await read_detail(client, case)
    assert {name: source["status"] for name, source in detail["timelineSources"].items()} == {
        "order": "fresh",
        "payment": "cached",
        "fulfillment": "cached",
    }


def with_aggregator(**changes):
    """The times of a service with some of the aggregator's changed."""
    return patient_timings(timeline=TimelineTimings(aggregator=AggregatorTimings(**changes)))


async def age(client, case, seconds):
    """Make the cached snapshots of a case older by some seconds."""
    key = snapshots.cache_key(case["id"])
    cache = client.app[CACHE]
    kept = snapshots.decode(await cache.get(key))
    older = {name: known._replace(at=known.at - seconds) for name, known in kept.snapshots.items()}
    await cache.set(key, snapshots.encode(older), 3600, kept.revision)


def test_wanted_is_part_of_a_snapshot():
    """What is cached says what it answers, and comes back as it was."""
    known = {"order": Snapshot(1.5, SourceReferences(("A",), ("B",)), 3, [{"type": "order"}], "note", missing=True)}
    assert snapshots.decode(snapshots.encode(known)).snapshots == known


async def pull(client, name, value=None, seconds=60.0):
    """Set an override, and let the service see it at once."""
    now = overrides.utc_now()
    async with unit_of_work(client.app[DATABASE], SYSTEM_CONTEXT) as work:
        await overrides.set_override(
            work, overrides.Override(name, value, "being restored", now + timedelta(seconds=seconds), now)
        )
    await client.app[TIMELINE].overrides.refresh()


async def test_a_service_that_is_switched_off_is_not_asked(client, services):
    """What it said before stands in for it while on-call keeps it switched off; where it said nothing it is `off`."""
    _, payments, _ = services
    case, other = [await open_case(client, context=CONTEXT) for _ in range(2)]
    await read_detail(client, case)
    await pull(client, "payment")
    asked = len(payments.calls)
    assert (await read_detail(client, case))["timelineSources"]["payment"]["status"] == "cached"
    refreshed = await refresh(client, case)
    assert refreshed["timelineSources"]["payment"]["status"] == "cached"
    assert refreshed["timelineSources"]["order"]["status"] == "fresh"
    await age(client, case, 300)
    source = (await read_detail(client, case))["timelineSources"]["payment"]
    assert (source["status"], source["reason"].split()[0]) == ("stale", "switched")
    assert Scrape(client.app).value("support_timeline_read_seconds_count", completeness="stale") == 1
    detail = await read_detail(client, other)
    assert "PAY-1" not in {entry.get("paymentId") for entry in detail["timeline"]}
    assert detail["timelineSources"]["payment"]["status"] == "off"
    assert "being restored" in detail["timelineSources"]["payment"]["reason"]
    assert len(payments.calls) == asked
    await pull(client, "payment", seconds=-1)
    assert (await read_detail(client, other))["timelineSources"]["payment"]["status"] == "fresh"


async def test_a_longer_time_holds_for_what_is_cached_already(client, services):
    """The `ttl` override makes what is cached current again, and ends by itself."""
    case = await open_case(client, context=CONTEXT)
    await read_detail(client, case)
    await age(client, case, 1000)
    await pull(client, "ttl", 5000.0)
    assert statuses(await read_detail(client, case)) == {"cached"}
    assert calls(services) == 4
    await pull(client, "ttl", 5000.0, seconds=-1)
    assert statuses(await read_detail(client, case)) == {"fresh"}


async def test_two_replicas_that_write_at_once_lose_nothing(cache, instruments):
    """Of each source the newest answer stays, whoever writes last and whatever each had seen before."""
    wanted = {"order": SourceReferences(("A",)), "payment": SourceReferences(("B",))}
    case, kept = Case("case", wanted, 0), SnapshotCache(cache, instruments)

    def at(moment, *names):
        return {name: Snapshot(moment, wanted[name], 0, [{"type": name, "timestamp": str(moment)}]) for name in names}

    seen = await kept.read(case)
    await kept.write(case, at(10.0, "order", "payment"), seen, 60)
    await kept.write(case, at(5.0, "order"), seen, 60)  # asked earlier, done later
    await kept.write(case, at(11.0, "payment"), seen, 60)
    assert (await kept.read(case)).snapshots == at(10.0, "order") | at(11.0, "payment")


def answered(at, epoch=0):
    """What the order service said at a time, in an epoch of the case."""
    return {"order": Snapshot(at, ORDERED["order"], epoch, [{"type": "order", "timestamp": str(at)}])}


async def test_a_clock_that_is_ahead_keeps_no_newer_answer_out(cache, instruments):
    """An answer takes the place of the one that was there when it was asked for, whatever that one's clock said."""
    case, kept = Case("case", ORDERED, 0), SnapshotCache(cache, instruments)
    now = time.time()
    await kept.write(case, answered(now + 20), await kept.read(case), 60)
    seen = await kept.read(case)
    await kept.write(case, answered(now), seen, 60)
    assert (await kept.read(case)).snapshots == answered(now)
    await kept.write(case, answered(now - 20), seen, 60)  # asked while the other was
    assert (await kept.read(case)).snapshots == answered(now)


async def test_a_newer_epoch_stays(cache, instruments):
    """Of two answers that were asked for at once the one from after an event stays, whoever's clock is ahead."""
    case, kept = Case("case", ORDERED, 1), SnapshotCache(cache, instruments)
    now, nothing = time.time(), await kept.read(case)
    await kept.write(case, answered(now + 20, 0), nothing, 60)
    await kept.write(case, answered(now, 1), nothing, 60)
    await kept.write(case, answered(now + 30, 0), nothing, 60)
    assert (await kept.read(case)).snapshots == answered(now, 1)


async def test_a_replica_with_a_clock_behind_is_heard(cache, instruments):
    """What another replica has found meanwhile is taken, and nobody asked again, though its clock is behind."""
    case, kept = Case("case", ORDERED, 1), SnapshotCache(cache, instruments)
    now = time.time()
    await kept.write(case, answered(now + 20, 0), await kept.read(case), 60)
    seen = await kept.read(case)
    await kept.write(case, answered(now, 1), seen, 60)
    of_this = SingleFlight([], kept, lambda case, known: known.epoch >= case.epoch, lambda: 60)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    found = await of_this.take(case, frozenset({"order"}), seen, deadline)
    assert (found.asked, found.kept) == ({}, answered(now, 1))
    await of_this.close()


async def test_a_flight_that_is_in_the_air_at_the_end_is_given_up(instruments):
    """A stop waits for no source."""
    cache = SnapshotCache(InProcessCache(), instruments)
    made = SingleFlight([], cache, lambda *_: False, lambda: 60.0)
    case = Case("case-1", {}, 0)
    flight = made.take(case, frozenset(), None, 0.0)
    assert made.is_in_flight(case.id)
    await made.close()
    assert flight.cancelled()
    await eventually(lambda: not made.is_in_flight(case.id))
