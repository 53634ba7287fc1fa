"""Upstream services and Redis fail at random while 32 clients read: every read is in time, correct and complete."""

import asyncio
import os
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import psutil
import pytest

from tests.support.calls import PATIENCE, eventually
from tests.support.process import running
from tests.support.servers import RedisServer, free_port
from tests.support.timeline.fault_schedule import FaultSchedule
from tests.support.timeline.world import add_order, open_services, shown
from tests.support.upstream_faults import MEBIBYTE

pytestmark = pytest.mark.usefixtures("processes")

SECONDS = float(os.environ.get("CHAOS_SECONDS", "2"))  # `make soak-timeline` runs for five minutes
LONG = SECONDS >= 60.0
SEED = int(os.environ.get("CHAOS_SEED", "0")) or (random.SystemRandom().randrange(1, 1_000_000) if LONG else 1)
PACE = 1.0 if LONG else 0.25  # of the fault schedule
CLIENTS, CASES = 32, 24
PAUSE = (0.05, 0.25)  # seconds between two reads of one client, so that the machine is not overloaded
# Seconds; in the short form the machine may be busy with other tests' servers, or stall.
DEADLINE, SOURCE_TIMEOUT, SLACK = (1.5, 1.0, 0.2) if LONG else (6.0, 4.0, PATIENCE)
SHED_LAG = 0.5 if LONG else 0.0  # seconds
FORGIVEN = 40.0  # seconds after a source's last fault for which its circuit may still be open
GROWTH = 48 * MEBIBYTE  # from the first quarter to the last
GOOD = {"fresh", "cached"}
EXPECTED = {"order": ("ORD-{}", "e0"), "payment": ("PAY-{}",), "fulfillment": ("SHP-{}",)}


@pytest.fixture
def redis(tmp_path):
    """A Redis for this test alone, which breaks it."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def serving(folder, template, **variables):
    """Run the service as a process; yield a session with it and its psutil process."""
    (folder / "support.db").write_bytes(template.read_bytes())
    address = f"http://127.0.0.1:{(port := free_port())}"
    variables |= {
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
        "SUPPORT_LOG_LEVEL": "error",
        "SUPPORT_ACCESS_LOG": "0",
    }
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running("serve", cwd=folder, **variables))
        await process.answers(address)
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
        """Open the cases to read."""
        for number in range(CASES):
            body = {"subject": "A", "channel": "email", "context": {"type": "order", "orderId": f"ORD-{number}"}}
            async with self._session.post("/support/cases", json=body) as response:
                self._paths.append(f"/support/cases/{(await response.json())['id']}?includeTimeline=true")

    @property
    def degraded(self):
        """The number of sources that reads have shown as stale or unavailable."""
        return self.statuses["stale"] + self.statuses["unavailable"]

    async def client(self, chance, done):
        """Read random cases until it is done."""
        while not done():
            await self.read(chance.randrange(CASES))
            await asyncio.sleep(chance.uniform(*PAUSE))

    async def read(self, number):
        """Read a case; fail unless the answer is a 200, correct, and complete for every healthy source."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._session.get(self._paths[number]) as response:
            detail = await response.json()
        self.slowest = max(self.slowest, loop.time() - asked)
        assert response.status == 200, detail
        given = shown(detail)
        expected = {name: [text.format(number) for text in texts] for name, texts in EXPECTED.items()}
        healthy = self._schedule.healthy_since(asked - FORGIVEN)
        for name, source in detail["timelineSources"].items():
            self.statuses[source["status"]] += 1
            whole = all(given.count(entry) == 1 for entry in expected[name])
            excused = source["status"] == "unavailable" and source["reason"] and name not in healthy
            assert whole or excused, f"{name} is {source}, healthy: {healthy}; {given}"
            assert source["status"] in GOOD | {"stale", "unavailable"}
        assert set(given) <= {entry for entries in expected.values() for entry in entries}
        return detail["timelineSources"]

    async def bad(self, number):
        """Return the sources of a case that are not up to date, each with the reason."""
        sources = await self.read(number)
        return {name: source["reason"] for name, source in sources.items() if source["status"] not in GOOD}


async def sample_memory(process, done):
    """Return the resident bytes of a process, sampled until it is done."""
    sizes = []
    while not done():
        await asyncio.sleep(SECONDS / 20)
        sizes.append(process.memory_info().rss)
    return sizes


async def test_chaos(tmp_path, redis, sqlite_template):
    """No 5xx, no read past the deadline, no answer without a healthy source's entries, flat memory; and it heals."""
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")  # noqa: T201 - pytest shows it where the test fails
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services())
        for number in range(CASES):
            add_order(services, number)
        addresses = {f"SUPPORT_{name.upper()}_URL": service.url for name, service in services.items()}
        times = {
            "SUPPORT_TIMELINE_CACHE_TTL": "0.5",
            "SUPPORT_TIMELINE_DEADLINE": str(DEADLINE),
            "SUPPORT_TIMELINE_SOURCE_TIMEOUT": str(SOURCE_TIMEOUT),
            "SUPPORT_SHED_LAG": str(SHED_LAG),
        }
        session, process = await stack.enter_async_context(
            serving(tmp_path, sqlite_template, SUPPORT_REDIS_URL=redis.url, **addresses, **times)
        )
        schedule = FaultSchedule(services, redis, SEED, pace=PACE)
        readers = Readers(session, schedule)
        await readers.open_cases()
        await asyncio.gather(*map(readers.read, range(CASES)))  # so that there are old answers to fall back on
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS

        def done():
            """The time is over, however slow the machine was, once there were faults and reads that met them."""
            return loop.time() >= end and set(schedule.counts) > {"redis"} and readers.degraded > 0

        async with asyncio.timeout(SECONDS + 3 * PATIENCE), asyncio.TaskGroup() as together:
            together.create_task(schedule.run_services(done))
            together.create_task(schedule.run_redis(done))
            sampling = together.create_task(sample_memory(process, done))
            for number in range(CLIENTS):
                together.create_task(readers.client(random.Random(SEED + 1 + number), done))
        sizes = sampling.result()
        grown = max(sizes[-5:]) - max(sizes[:5])
        print(  # noqa: T201 - and this
            f"slowest {readers.slowest:.3f} s, {dict(readers.statuses)}, {grown / MEBIBYTE:+.1f} MiB, "
            f"faults {dict(schedule.counts)}"
        )
        assert readers.slowest < DEADLINE + SLACK
        assert grown < GROWTH
        assert set(schedule.counts) > {"redis"}
        assert readers.degraded > 0
        await heals(readers)


async def heals(readers):
    """Every source becomes up to date again; the short form does not wait for a circuit to close."""

    async def healed():
        bad = await readers.bad(0)
        return not bad or (not LONG and set(bad.values()) == {"circuit open"})

    await eventually(healed, within=FORGIVEN)
