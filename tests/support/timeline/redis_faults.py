"""Faults of a Redis server, and their repair."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis

from tests.support.servers import RedisServer, free_port

RedisFault = Callable[[RedisServer], None]


def kill(server: RedisServer) -> None:
    """Refuse connections."""
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


class SlowProxy:
    """A TCP proxy that delays each chunk by `delay` seconds, in both directions."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self.chunks = 0  # forwarded so far, in both directions
        self._target_port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop, and drop all connections."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._start(self._forward(reader, target_writer))
        self._start(self._forward(target_reader, writer))

    def _start(self, forwarding: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(forwarding)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while chunk := await reader.read(65_536):
                    await asyncio.sleep(self.delay)
                    writer.write(chunk)
                    await writer.drain()
                    self.chunks += 1
        finally:
            writer.transport.abort()


@asynccontextmanager
async def slow_proxy(url: str) -> AsyncIterator[tuple[SlowProxy, str]]:
    """Open a proxy to a Redis; yield it with the URL to connect to."""
    port, _, database = url.rpartition(":")[2].partition("/")
    proxy = SlowProxy(int(port))
    proxy_port = await proxy.open()
    try:
        yield proxy, f"redis://127.0.0.1:{proxy_port}/{database}"
    finally:
        await proxy.close()
