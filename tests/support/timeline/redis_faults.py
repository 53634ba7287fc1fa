"""Faults of a Redis server, and their repair."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import redis

from tests.support.console.balancer import Balancer
from tests.support.servers import RedisServer, free_port

RedisFault = Callable[[RedisServer], None]


def kill(server: RedisServer) -> None:
    server.kill()


def freeze(server: RedisServer) -> None:
    """Hold connections, accept new ones, and answer nothing."""
    server.freeze()


def fill(server: RedisServer) -> None:
    """Refuse commands that need memory; stored values can still be read."""
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"filling:{number}": bytes(10_000) for number in range(400)})
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")  # far below what is stored, so that even small values are refused


def make_read_only(server: RedisServer) -> None:
    """Make it the replica of a server that does not exist: reads work, every write is refused."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))


def repair(server: RedisServer) -> None:
    """Undo every fault; stored values are kept unless the server was killed."""
    with suppress(ProcessLookupError):
        server.thaw()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", 0)
        if filling := list(client.scan_iter("filling:*", count=1000)):
            client.delete(*filling)


@asynccontextmanager
async def slow_proxy(url: str) -> AsyncIterator[tuple[Balancer, str]]:
    """Open a proxy to a Redis; yield it with the URL to connect to."""
    port, _, database = url.rpartition(":")[2].partition("/")
    async with Balancer([int(port)]) as proxy:
        yield proxy, f"redis://127.0.0.1:{proxy.port}/{database}"
