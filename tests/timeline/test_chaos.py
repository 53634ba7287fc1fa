"""Neighbours and Redis that fail at random while 32 clients read: in time, never wrong, never empty by accident."""

import asyncio
import os
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import psutil
import pytest

from tests.calls import PATIENCE
from tests.process import running
from tests.servers import RedisServer, free_port
from tests.timeline.upstream import MEBIBYTE
from tests.timeline.weather import Weather
from tests.timeline.world import know, neighbours, shown

pytestmark = pytest.mark.usefixtures("processes")

SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))  # `make soak-timeline` asks for five minutes
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
CLIENTS, CASES = 32, 24
PAUSE = (0.05, 0.25)  # seconds between two reads of one client, so that the machine is not what fails
LONG = 60.0  # seconds
# Seconds; in the short form the machine may be busy with other tests' servers, or stand still.
DEADLINE, SOURCE_TIMEOUT, SLACK = (1.5, 1.0, 0.2) if SECONDS >= LONG else (6.0, 4.0, PATIENCE)
SHED_LAG = 0.5 if SECONDS >= LONG else 0.0  # seconds
FORGIVEN = 40.0  # seconds after a source's last fault for which its circuit may still be open
GROWTH = 48 * MEBIBYTE  # from the first quarter to the last
GOOD = {"fresh", "cached"}
EXPECTED = {"order": ("ORD-{}", "e0"), "payment": ("PAY-{}",), "fulfillment": ("SHP-{}",)}


@pytest.fixture
def redis(tmp_path):
    """A Redis of this test alone, which suffers."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def serving(folder, template, **variables):
    """The service as a process; gives a session with it, and the process as the system sees it."""
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
    """Clients that read cases at random and check every answer; each case is about an order of its own."""

    def __init__(self, session, weather):
        self.slowest = 0.0  # seconds
        self.statuses = Counter()
        self._session = session
        self._weather = weather
        self._paths = []

    async def open_cases(self):
        """Open the cases to read."""
        for number in range(CASES):
            body = {"subject": "A", "channel": "email", "context": {"type": "order", "orderId": f"ORD-{number}"}}
            async with self._session.post("/support/cases", json=body) as response:
                self._paths.append(f"/support/cases/{(await response.json())['id']}?includeTimeline=true")

    async def client(self, chance, until):
        """Read until the time has come."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await self.read(chance.randrange(CASES))
            await asyncio.sleep(chance.uniform(*PAUSE))

    async def read(self, number):
        """Read a case; fails where the answer is no 200, is wrong, or lacks what a source in order had."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._session.get(self._paths[number]) as response:
            detail = await response.json()
        self.slowest = max(self.slowest, loop.time() - asked)
        assert response.status == 200, detail
        given = shown(detail)
        expected = {name: [text.format(number) for text in texts] for name, texts in EXPECTED.items()}
        in_order = self._weather.in_order_since(asked - FORGIVEN)
        for name, source in detail["timelineSources"].items():
            self.statuses[source["status"]] += 1
            whole = all(given.count(entry) == 1 for entry in expected[name])
            excused = source["status"] == "unavailable" and source["reason"] and name not in in_order
            assert whole or excused, f"{name} is {source} and in order: {in_order}; {given}"
            assert source["status"] in GOOD | {"stale", "unavailable"}
        assert set(given) <= {entry for entries in expected.values() for entry in entries}
        return detail["timelineSources"]

    async def bad(self, number):
        """The sources of a case that are not in order, each with the reason."""
        sources = await self.read(number)
        return {name: source["reason"] for name, source in sources.items() if source["status"] not in GOOD}


async def weigh(process, until):
    """The resident bytes of a process, measured until the time has come."""
    loop = asyncio.get_running_loop()
    sizes = []
    while loop.time() < until:
        await asyncio.sleep(SECONDS / 20)
        sizes.append(process.memory_info().rss)
    return sizes


async def test_chaos(tmp_path, redis, sqlite_template):
    """No 5xx, no read past the deadline, no answer that lacks what a source in order had, flat memory; and it heals."""
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")  # noqa: T201 - pytest shows it where the test fails
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(neighbours())
        for number in range(CASES):
            know(services, number)
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
        weather = Weather(services, redis, SEED)
        readers = Readers(session, weather)
        await readers.open_cases()
        await asyncio.gather(*map(readers.read, range(CASES)))  # so that there is something to fall back on
        until = asyncio.get_running_loop().time() + SECONDS
        async with asyncio.TaskGroup() as together:
            together.create_task(weather.over_neighbours(until))
            together.create_task(weather.over_redis(until))
            weighing = together.create_task(weigh(process, until))
            for number in range(CLIENTS):
                together.create_task(readers.client(random.Random(SEED + 1 + number), until))
        sizes = weighing.result()
        grown = max(sizes[-5:]) - max(sizes[:5])
        print(f"slowest {readers.slowest:.3f} s, {dict(readers.statuses)}, {grown / MEBIBYTE:+.1f} MiB")  # noqa: T201 - and this
        assert readers.slowest < DEADLINE + SLACK
        assert grown < GROWTH
        assert set(weather.happened) > {"redis"}
        assert readers.statuses["unavailable"] + readers.statuses["stale"] > 0  # it was no fair weather
        await heals(readers)


async def heals(readers):
    """With everything in order again every source is; in the short form nobody waits for a circuit to close."""
    async with asyncio.timeout(FORGIVEN):
        while bad := await readers.bad(0):
            if SECONDS < LONG and set(bad.values()) == {"circuit open"}:
                return
            await asyncio.sleep(0.1)
