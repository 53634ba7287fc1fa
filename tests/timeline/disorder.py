"""The ways in which a Redis gets out of order, and back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import redis

from tests.servers import RedisServer, free_port

Disorder = Callable[[RedisServer], None]


def kill(server: RedisServer) -> None:
    """Let it refuse connections."""
    server.kill()


def freeze(server: RedisServer) -> None:
    """Let it hold its connections, take new ones, and say nothing."""
    server.freeze()


def fill(server: RedisServer) -> None:
    """Let it refuse whatever needs memory; what it holds can be read."""
    with redis.Redis.from_url(server.url) as client:
        for number in range(400):
            client.set(f"filling:{number}", bytes(10_000))
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")  # far below what it holds, so that nothing small fits either


def make_read_only(server: RedisServer) -> None:
    """Let it follow a server that is not there: it can be read, and refuses every write."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))


def cure(server: RedisServer) -> None:
    """Undo all of it; what Redis held is there again, unless it was killed."""
    with suppress(ProcessLookupError):
        server.thaw()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", 0)
        for key in client.scan_iter("filling:*"):
            client.delete(key)


class SlowLine:
    """A TCP line to a server that delays each piece in both directions, `delay` seconds each."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self.carried = 0  # pieces, in both directions
        self._to = port
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._start(self._carry(reader, far_writer))
        self._start(self._carry(far_reader, writer))

    def _start(self, carrying) -> None:
        task = asyncio.create_task(carrying)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while piece := await reader.read(65_536):
                    await asyncio.sleep(self.delay)
                    writer.write(piece)
                    await writer.drain()
                    self.carried += 1
        finally:
            writer.transport.abort()


@asynccontextmanager
async def slow_line(url: str) -> AsyncIterator[tuple[SlowLine, str]]:
    """A line to a Redis, and the address of its near end."""
    port, _, database = url.rpartition(":")[2].partition("/")
    line = SlowLine(int(port))
    server = await asyncio.start_server(line._connected, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line, f"redis://127.0.0.1:{line.port}/{database}"
    finally:
        server.close()
        for task in list(line._tasks):
            task.cancel()
        await asyncio.gather(*line._tasks, return_exceptions=True)
