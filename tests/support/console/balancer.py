"""A TCP proxy, such as a load balancer in front of replicas: it forwards each connection to a port that accepts it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from tests.support.servers import free_port


class Balancer:
    """Forwards connections to the first of `ports`, which a test may change. To none of them, connections break.

    `delay` is the time in seconds before each chunk, in both directions.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self.delay = 0.0
        self.chunks = 0  # forwarded so far, in both directions
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def kill(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, writers = asyncio.current_task(), [writer]
        self._connections.add(task)
        try:
            with suppress(asyncio.CancelledError):  # asyncio would log it
                for port in self.ports:
                    with suppress(OSError):
                        from_target, to_target = await asyncio.open_connection("127.0.0.1", port)
                        writers.append(to_target)
                        await asyncio.gather(self._copy(reader, to_target), self._copy(from_target, writer))
                        break
        finally:
            self._connections.discard(task)
            for each in writers:
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until one side ends or breaks, and close the other."""
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                await asyncio.sleep(self.delay)
                writer.write(chunk)
                await writer.drain()
                self.chunks += 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
