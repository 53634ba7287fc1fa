"""Random faults of the upstream services and of Redis, reproducible by a seed."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from tests.support import upstream_faults as faults
from tests.support.servers import RedisServer
from tests.support.timeline import redis_faults
from tests.support.upstream import Upstream
from tests.support.upstream_faults import MEBIBYTE, Fault

HEALTHY_PERIOD = 100.0  # seconds until another service is the one without faults
REDIS_FAULTS = (redis_faults.kill, redis_faults.freeze, redis_faults.fill, redis_faults.make_read_only)
FAULTS = (
    None,  # connections are refused
    faults.reset_before_headers,
    faults.close_before_headers,
    faults.reset_in_body,
    faults.hang_before_headers,
    faults.one_byte_a_second,
    faults.slow_headers,
    faults.status(500),
    faults.status(503),
    faults.status(429),
    faults.status(302, "Location: http://127.0.0.1:1/"),
    faults.body("<html>no JSON</html>"),
    faults.document({"items": {"of": "another shape"}}),
    faults.body("[" * 10_000),
    faults.huge(size=200 * MEBIBYTE),
    faults.body(faults.gzip_bomb(64), "Content-Encoding: gzip"),
)


class FaultSchedule:
    """Breaks and heals the services and Redis. One service at a time has no faults; which one changes.

    All pauses are multiplied by `pace`.
    """

    def __init__(self, services: dict[str, Upstream], redis: RedisServer, seed: int, *, pace: float = 1.0) -> None:
        self.counts: Counter[str] = Counter()  # faults by the name of the service, or "redis"
        self._services = services
        self._redis = redis
        self._random = random.Random(seed)
        self._redis_random = random.Random(seed)  # separate: two tasks would share one in no fixed order
        self._pace = pace
        # By the loop's clock; infinite while a service has a fault.
        self._healthy_since = dict.fromkeys(services, float("-inf"))

    def healthy_since(self, moment: float) -> set[str]:
        """Return the services that have had no fault since a moment of the loop's clock."""
        return {name for name, since in self._healthy_since.items() if since < moment}

    async def run_services(self, done: Callable[[], bool]) -> None:
        """Break and heal services until `done` returns true, then heal all of them."""
        loop = asyncio.get_running_loop()
        healthy, next_change = next(iter(self._services)), loop.time() + HEALTHY_PERIOD
        while not done():
            if loop.time() > next_change:
                healthy, next_change = self._random.choice(list(self._services)), loop.time() + HEALTHY_PERIOD
                await self._heal(healthy)
            name = self._random.choice([name for name in self._services if name != healthy])
            if self._random.random() < 0.6:
                await self._heal(name)
            else:
                await self._break(name, self._random.choice(FAULTS))
            await asyncio.sleep(self._pace * self._random.uniform(0.1, 0.8))
        for name in self._services.keys() - {healthy}:
            await self._services[name].close()  # ends the requests that hang
            await self._heal(name)

    async def run_redis(self, done: Callable[[], bool]) -> None:
        """Break and repair Redis until `done` returns true."""
        while not done():
            await asyncio.sleep(self._pace * self._redis_random.uniform(0.3, 1.5))
            fault = self._redis_random.choice(REDIS_FAULTS)
            await asyncio.to_thread(fault, self._redis)
            self.counts["redis"] += 1
            await asyncio.sleep(self._pace * self._redis_random.uniform(0.1, 1.0))
            await asyncio.to_thread(redis_faults.repair, self._redis)

    async def _break(self, name: str, fault: Fault | None) -> None:
        self.counts[name] += 1
        self._healthy_since[name] = float("inf")
        self._services[name].fault = fault
        if fault is None:
            await self._services[name].close()

    async def _heal(self, name: str) -> None:
        self._services[name].heal()
        await self._services[name].open()
        if self._healthy_since[name] == float("inf"):
            self._healthy_since[name] = asyncio.get_running_loop().time()
