"""What the clients of a history call: one service on SQLite, or three behind HAProxy with PostgreSQL and Redis.

Faults break one part at a time, and repair it.
"""

import asyncio
import json
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from redis import RedisError
from redis.asyncio.sentinel import Sentinel

from tests.e2e.drill import processes
from tests.e2e.drill.links import Link
from tests.e2e.drill.load_balancer import LoadBalancer
from tests.support.calls import eventually
from tests.support.process import START_TIMEOUT
from tests.support.sentinels import SERVICE, RedisWithSentinels
from tests.support.servers import PostgresServer, RedisServer
from tests.support.sessions import MIGRATED

REPLICAS = 3
LIMITS = {  # that clients of one address would reach
    "SUPPORT_RATE_LIMIT": "off",
    "SUPPORT_RATE_LIMIT_ADDRESS": "off",
    "SUPPORT_LOG_LEVEL": "error",
    "SUPPORT_SHED_LAG": "0",
}
FROZEN = (0.5, 4.0)  # seconds: less and more than clients wait for an answer
DOWN = (0.2, 2.0)
STREAM = "support.events"  # of published events
REDIS_TIMEOUT = 2.0  # seconds
ELECTED_WITHIN = 20.0  # seconds; ten times as long as the Sentinels wait

Fault = Callable[[random.Random], Awaitable[None]]


class Replica(processes.Replica):
    """A replica with the usual intervals and a log of its own.

    `python` is the interpreter of its environment: another one may have another release.
    """

    def __init__(self, folder: Path, number: int, variables: dict[str, str]) -> None:
        super().__init__(folder, number, variables)
        self._log = folder / f"{self.name}.log"
        self._ready_at = f"http://{self.admin_target}/readyz"
        self.python = sys.executable

    @property
    def _program(self) -> tuple[str, ...]:
        return (self.python, "-m", "support_service")


class Deployment:
    """A running deployment, and the faults that it can have. Clients call `address`."""

    def __init__(
        self,
        folder: Path,
        variables: dict[str, str],
        replicas: Sequence[Replica],
        link: Link,
        servers: "Servers | None" = None,
    ) -> None:
        self.folder, self.variables = folder, variables
        self.replicas, self.servers = replicas, servers
        self._link = link
        self.address = f"http://127.0.0.1:{link.port}"
        self.faults: dict[str, Fault] = {
            "replica killed": self._kill_replica,
            "replica frozen": self._freeze_replica,
            "clients cut": self._cut_clients,
            **(servers.faults if servers else {}),
        }

    @property
    def streams(self) -> dict[str, str]:
        """The addresses at which the stream is followed, by name: that of clients, and of several replicas each one."""
        replicas = self.replicas if len(self.replicas) > 1 else ()
        return {"the stream": self.address} | {
            f"the stream of {replica.name}": f"http://{replica.target}" for replica in replicas
        }

    @property
    def fault_of_streams(self) -> str:
        """The fault that may tell each follower once to read again.

        A process on SQLite keeps published events in its memory. A Redis that takes over may lack the newest ones.
        """
        return "Redis failed over" if self.servers else "replica killed"

    async def repair(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for replica in self.replicas:
                await eventually(lambda: replica.is_ready(session), START_TIMEOUT)  # noqa: B023 - awaited here

    async def _kill_replica(self, draw: random.Random) -> None:
        replica = draw.choice(self.replicas)
        replica.kill()
        await replica.start()

    async def _freeze_replica(self, draw: random.Random) -> None:
        replica = draw.choice(self.replicas)
        replica.freeze()
        await asyncio.sleep(draw.uniform(*FROZEN))
        replica.thaw()

    async def _cut_clients(self, draw: random.Random) -> None:
        async with self._link.refused():
            await asyncio.sleep(draw.uniform(0, DOWN[1] / 2))


class Servers:
    """PostgreSQL with a synchronous standby, and Redis with Sentinels, and how they fail."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer, redis: RedisWithSentinels) -> None:
        self._primary, self._standby, self._redis = primary, standby, redis
        self.faults: dict[str, Fault] = {
            "PostgreSQL killed": self._kill_postgres,
            "PostgreSQL frozen": self._freeze_postgres,
            "PostgreSQL failed over": self._fail_over_postgres,
            "PostgreSQL sessions cut": self._cut_sessions,
            "Redis failed over": self._fail_over_redis,
            "Redis frozen": self._freeze_redis,
            "Redis connections cut": self._cut_redis,
        }

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a service that uses them."""
        hosts = ",".join(urlsplit(server.url()).netloc.split("@")[1] for server in (self._primary, self._standby))
        url = f"postgresql://tests@{hosts}/{MIGRATED}?target_session_attrs=read-write"
        return {"SUPPORT_DATABASE_URL": url, "SUPPORT_REDIS_URL": self._redis.url}

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the published events as a consumer gets them, which goes on after a failure."""
        sentinels = Sentinel(self._redis.addresses, socket_timeout=REDIS_TIMEOUT, protocol=2)
        position = b"0"
        async with AsyncExitStack() as stack:
            for sentinel in sentinels.sentinels:
                stack.push_async_callback(sentinel.aclose)
            redis = await stack.enter_async_context(sentinels.master_for(SERVICE))
            while True:
                try:
                    answer = await redis.xread({STREAM: position}, block=500)
                except RedisError:
                    await asyncio.sleep(0.2)
                    continue
                for _, entries in answer:
                    for entry, fields in entries:
                        position = entry
                        yield json.loads(fields[b"event"])

    async def _kill_postgres(self, draw: random.Random) -> None:
        await asyncio.to_thread(self._primary.kill)
        await asyncio.sleep(draw.uniform(*DOWN))
        await asyncio.to_thread(self._primary.start)

    async def _freeze_postgres(self, draw: random.Random) -> None:
        self._primary.freeze()
        await asyncio.sleep(draw.uniform(*FROZEN))
        self._primary.thaw()

    async def _fail_over_postgres(self, _: random.Random) -> None:
        """The standby has every acknowledged change. It takes over for good, so there is one failover."""
        if self._primary is self._standby:
            return
        in_step = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"

        async def is_in_step() -> bool:
            return await asyncio.to_thread(self._primary.run, in_step) == "1"

        await eventually(is_in_step, START_TIMEOUT)
        await asyncio.to_thread(self._primary.kill)
        await asyncio.to_thread(self._standby.run, "SELECT pg_promote()")
        self._primary = self._standby

    async def _cut_sessions(self, _: random.Random) -> None:
        sessions = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{MIGRATED}'"
        await asyncio.to_thread(self._primary.run, sessions)

    async def _fail_over_redis(self, _: random.Random) -> None:
        """Kill the primary. On a machine that is far too busy the Sentinels elect nobody, and it comes back."""
        primary, replica = await asyncio.to_thread(lambda: (self._redis.primary, self._redis.replica))
        primary.kill()

        async def has_taken_over() -> bool:
            with suppress(RedisError):  # it closes its connections when it gets its new role
                return (await asyncio.to_thread(replica.run, "INFO", "replication"))["role"] == "master"
            return False

        with suppress(AssertionError):
            await eventually(has_taken_over, ELECTED_WITHIN)
        await asyncio.to_thread(primary.start)
        await asyncio.to_thread(self._redis.wait_until_settled)

    async def _freeze_redis(self, draw: random.Random) -> None:
        """Shorter than the Sentinels wait before they let the other one take over."""
        primary: RedisServer = await asyncio.to_thread(lambda: self._redis.primary)
        primary.freeze()
        await asyncio.sleep(draw.uniform(0.3, 0.9))
        primary.thaw()

    async def _cut_redis(self, _: random.Random) -> None:
        primary = await asyncio.to_thread(lambda: self._redis.primary)
        await asyncio.to_thread(primary.run, "CLIENT", "KILL", "TYPE", "normal")


@asynccontextmanager
async def running(folder: Path, variables: dict[str, str], servers: Servers | None) -> AsyncIterator[Deployment]:
    """Run replicas behind HAProxy, which use the servers; without servers run one service on SQLite."""
    variables = variables | LIMITS | (servers.variables if servers else {})
    replicas = [Replica(folder, number, variables) for number in range(REPLICAS if servers else 1)]
    async with AsyncExitStack() as stack:
        for replica in replicas:
            stack.callback(replica.kill)
        await asyncio.gather(*(replica.start() for replica in replicas))
        target = replicas[0].target
        if servers:
            balancer = LoadBalancer(folder)
            stack.callback(balancer.close)
            await balancer.start(replicas)
            target = urlsplit(balancer.address).netloc
        link = await stack.enter_async_context(Link(int(target.split(":")[1])).open())
        yield Deployment(folder, variables, replicas, link, servers)
