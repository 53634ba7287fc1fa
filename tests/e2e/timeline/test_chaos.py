"""Upstream services and Redis fail at random while clients read: each read is on time, correct and complete."""

import asyncio
import os
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import psutil
import pytest

from support_service.platform.settings.resources import TimelineSettings
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.process import running
from tests.support.servers import RedisServer, free_port
from tests.support.timeline.fault_schedule import FaultSchedule
from tests.support.timeline.harness import PREFIXES, add_order, open_services, source_entries
from tests.support.upstream_faults import MEBIBYTE

pytestmark = pytest.mark.usefixtures("processes")

SECONDS = float(os.environ.get("CHAOS_SECONDS", "1"))  # five minutes in the long form
LONG = SECONDS >= 60.0
SEED = int(os.environ.get("CHAOS_SEED", "0")) or (random.SystemRandom().randrange(1, 1_000_000) if LONG else 1)
PACE = 1.0 if LONG else 0.25  # multiplies the pauses of the fault schedule
CLIENTS, CASES = (32, 24) if LONG else (8, 8)
PAUSE = (0.05, 0.25)  # seconds between two reads of one client, so that the machine is not overloaded
# Seconds. The short form is generous, since the machine may stall or be busy with other tests.
SOURCE_TIMEOUT, SLACK = (1.25, 0.2) if LONG else (5.0, GENEROUS_TIMEOUT)
DEADLINE = TimelineSettings(source_timeout=SOURCE_TIMEOUT).deadline
SHED_LAG = 0.5 if LONG else 0.0  # seconds
RECOVERY_TIME = 40.0  # seconds after a source's last fault during which its circuit may still be open
MAX_GROWTH = 48 * MEBIBYTE  # of memory, from the first quarter to the last
UP_TO_DATE = {"fresh", "cached"}
EXPECTED = {name: (f"{prefix}-{{}}",) for name, prefix in PREFIXES.items()}
EXPECTED["order"] += ("e0",)


@pytest.fixture
def redis(tmp_path):
    """A Redis server for this test alone, since the test breaks it."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def serving(folder, template, **variables):
    """Run the service as a process; yield an HTTP session and the psutil process."""
    (folder / "support.db").write_bytes(template.read_bytes())
    address = f"http://127.0.0.1:{(port := free_port())}"
    variables |= {"SUPPORT_PORT": str(port), "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}"}
    variables |= {"SUPPORT_LOG_LEVEL": "error", "SUPPORT_ACCESS_LOG": "0"}
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running("serve", cwd=folder, **variables))
        await process.wait_until_ready(address)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(address, connector=connector))
        yield session, psutil.Process(process.pid)


class Readers:
    """Clients that read random cases and check every answer; each case is about its own order."""

    def __init__(self, session, schedule):
        self.slowest = 0.0  # seconds
        self.statuses = Counter()
        self._session = session
        self._schedule = schedule
        self._paths = []

    async def open_cases(self):
        for number in range(CASES):
            body = {"subject": "A", "channel": "email", "context": {"type": "order", "orderId": f"ORD-{number}"}}
            async with self._session.post("/support/cases", json=body) as response:
                self._paths.append(f"/support/cases/{(await response.json())['id']}?includeTimeline=true")

    @property
    def degraded(self):
        """The number of sources that reads have reported as stale or unavailable."""
        return self.statuses["stale"] + self.statuses["unavailable"]

    async def client(self, rng, done):
        while not done():
            await self.read(rng.randrange(CASES))
            await asyncio.sleep(rng.uniform(*PAUSE))

    async def read(self, number):
        """Read a case; fail unless the response is a correct 200, complete for every healthy source."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with self._session.get(self._paths[number]) as response:
            detail = await response.json()
        self.slowest = max(self.slowest, loop.time() - started)
        assert response.status == 200, detail
        entries = source_entries(detail)
        expected = {name: [text.format(number) for text in texts] for name, texts in EXPECTED.items()}
        healthy = self._schedule.healthy_since(started - RECOVERY_TIME)
        for name, source in detail["timelineSources"].items():
            self.statuses[source["status"]] += 1
            complete = all(entries.count(entry) == 1 for entry in expected[name])
            excused = source["status"] == "unavailable" and source["reason"] and name not in healthy
            assert complete or excused, f"{name} is {source}, healthy: {healthy}; {entries}"
            assert source["status"] in UP_TO_DATE | {"stale", "unavailable"}
        assert set(entries) <= {entry for names in expected.values() for entry in names}
        return detail["timelineSources"]

    async def outdated_sources(self, number):
        """Return the sources of a case that are not up to date, each with the reason."""
        sources = await self.read(number)
        return {name: source["reason"] for name, source in sources.items() if source["status"] not in UP_TO_DATE}


async def sample_memory(process, done):
    """Return the resident sizes of a process in bytes, sampled until `done` returns true."""
    sizes = []
    while not done():
        await asyncio.sleep(SECONDS / 20)
        sizes.append(process.memory_info().rss)
    return sizes


async def test_reads_stay_correct_and_on_time_during_random_faults(tmp_path, redis, sqlite_template):
    """Reads return no 5xx, meet the deadline and hold each healthy source's entries; memory is stable; all recovers."""
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")  # noqa: T201 - pytest shows it if the test fails
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services())
        for number in range(CASES):
            add_order(services, number)
        addresses = {f"SUPPORT_{name.upper()}_URL": service.url for name, service in services.items()}
        times = {
            "SUPPORT_TIMELINE_CACHE_TTL": "0.5",
            "SUPPORT_TIMELINE_SOURCE_TIMEOUT": str(SOURCE_TIMEOUT),
            "SUPPORT_SHED_LAG": str(SHED_LAG),
        }
        session, process = await stack.enter_async_context(
            serving(tmp_path, sqlite_template, SUPPORT_REDIS_URL=redis.url, **addresses, **times)
        )
        schedule = FaultSchedule(services, redis, SEED, pace=PACE)
        readers = Readers(session, schedule)
        await readers.open_cases()
        await asyncio.gather(*map(readers.read, range(CASES)))  # fills the cache, so that stale snapshots exist
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS

        def done():
            """Return true once the time is over, at least one source failed, and some reads were degraded."""
            return loop.time() >= end and set(schedule.counts) > {"redis"} and readers.degraded > 0

        async with asyncio.timeout(SECONDS + 3 * GENEROUS_TIMEOUT), asyncio.TaskGroup() as tasks:
            tasks.create_task(schedule.run_services(done))
            tasks.create_task(schedule.run_redis(done))
            sampling = tasks.create_task(sample_memory(process, done))
            for number in range(CLIENTS):
                tasks.create_task(readers.client(random.Random(SEED + 1 + number), done))
        sizes = sampling.result()
        growth = max(sizes[-5:]) - max(sizes[:5])
        print(  # noqa: T201 - likewise
            f"slowest {readers.slowest:.3f} s, {dict(readers.statuses)}, {growth / MEBIBYTE:+.1f} MiB, "
            f"faults {dict(schedule.counts)}"
        )
        assert readers.slowest < DEADLINE + SLACK
        assert growth < MAX_GROWTH
        assert set(schedule.counts) > {"redis"}
        assert readers.degraded > 0
        await wait_for_recovery(readers)


async def wait_for_recovery(readers):
    """Wait until every source is up to date; the short form does not wait for a circuit to close."""

    async def recovered():
        outdated = await readers.outdated_sources(0)
        return not outdated or (not LONG and set(outdated.values()) == {"circuit open"})

    await eventually(recovered, within=RECOVERY_TIME)
