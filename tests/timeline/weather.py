"""Neighbours and a Redis that fail at random, by a seed."""

import asyncio
import random
from collections import Counter

from tests.servers import RedisServer
from tests.timeline import disorder, upstream
from tests.timeline.upstream import MEBIBYTE, Service

SPARED_FOR = 100.0  # seconds for which one and the same neighbour stays in order
DISORDERS = (disorder.kill, disorder.freeze, disorder.fill, disorder.make_read_only)
FAULTS = (
    None,  # connections are refused
    upstream.reset_before_headers,
    upstream.hang_up_before_headers,
    upstream.reset_in_body,
    upstream.hang_before_headers,
    upstream.one_byte_a_second,
    upstream.slow_headers,
    upstream.status(500),
    upstream.status(503),
    upstream.status(429),
    upstream.status(302, "Location: http://127.0.0.1:1/"),
    upstream.body("<html>no JSON</html>"),
    upstream.document({"items": {"of": "another shape"}}),
    upstream.body("[" * 10_000),
    upstream.huge(size=200 * MEBIBYTE),
    upstream.body(upstream.bomb(64), "Content-Encoding: gzip"),
)


class Weather:
    """Breaks and heals the neighbours and Redis; one neighbour is always spared, and which one it is changes."""

    def __init__(self, services: dict[str, Service], redis: RedisServer, seed: int) -> None:
        self.happened: Counter[str] = Counter()  # faults by who had them
        self._services = services
        self._redis = redis
        self._chance = random.Random(seed)
        self._chance_of_redis = random.Random(seed)  # two tasks on one would take from it in no order
        # By the loop's clock; endless while it is out of order.
        self._in_order_since = dict.fromkeys(services, float("-inf"))

    def in_order_since(self, moment: float) -> set[str]:
        """The neighbours that had no fault from then on until now."""
        return {name for name, since in self._in_order_since.items() if since < moment}

    async def over_neighbours(self, until: float) -> None:
        """Break and heal them until the time has come, and then heal all."""
        loop = asyncio.get_running_loop()
        spared, next_spared = next(iter(self._services)), loop.time() + SPARED_FOR
        while loop.time() < until:
            if loop.time() > next_spared:
                spared, next_spared = self._chance.choice(list(self._services)), loop.time() + SPARED_FOR
                await self._heal(spared)
            name = self._chance.choice([name for name in self._services if name != spared])
            if self._chance.random() < 0.6:
                await self._heal(name)
            else:
                await self._break(name, self._chance.choice(FAULTS))
            await asyncio.sleep(self._chance.uniform(0.1, 0.8))
        for name in self._services:
            await self._heal(name)

    async def over_redis(self, until: float) -> None:
        """Kill, freeze, fill and so on until the time has come, with a cure after each."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(self._chance_of_redis.uniform(0.3, 1.5))
            bring = self._chance_of_redis.choice(DISORDERS)
            await asyncio.to_thread(bring, self._redis)
            self.happened["redis"] += 1
            await asyncio.sleep(self._chance_of_redis.uniform(0.1, 1.0))
            await asyncio.to_thread(disorder.cure, self._redis)

    async def _break(self, name: str, fault: upstream.Fault | None) -> None:
        self.happened[name] += 1
        self._in_order_since[name] = float("inf")
        self._services[name].fault = fault
        if fault is None:
            await self._services[name].close()

    async def _heal(self, name: str) -> None:
        self._services[name].fault = None
        await self._services[name].open()
        if self._in_order_since[name] == float("inf"):
            self._in_order_since[name] = asyncio.get_running_loop().time()
