"""TCP connections of one replica to a server, which are slow, hold everything back, or are refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Link:
    """Forwards connections to a port of this machine, as the network between a replica and a server does."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._passing = asyncio.Event()
        self._passing.set()
        self._streams: set[asyncio.StreamWriter] = set()
        self._refused = False
        self.delay = 0.0  # seconds, before each part of what the server sends
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Link"]:
        """Accept connections for the length of a block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._passing.set()
            self._end_all()

    @asynccontextmanager
    async def half_open(self) -> AsyncIterator[None]:
        """Drop every packet for the length of a block: connections are there, and nothing arrives."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @asynccontextmanager
    async def refused(self) -> AsyncIterator[None]:
        """End all connections, and each new one, for the length of a block."""
        self._refused = True
        self._end_all()
        try:
            yield
        finally:
            self._refused = False

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self._refused:
            to_client.transport.abort()
            return
        self._streams.add(to_client)
        try:
            with suppress(OSError):
                await self._passing.wait()  # nor does the server see a new connection
                from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
                self._streams.add(to_server)
                try:
                    await asyncio.gather(
                        self._forward(from_client, to_server, delayed=False),
                        self._forward(from_server, to_client, delayed=True),
                    )
                finally:
                    self._streams.discard(to_server)
        finally:
            self._streams.discard(to_client)
            to_client.close()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, delayed: bool) -> None:
        with suppress(OSError):
            while part := await source.read(65_536):
                if delayed and self.delay:
                    await asyncio.sleep(self.delay)
                await self._passing.wait()
                sink.write(part)
                await sink.drain()
        sink.close()

    def _end_all(self) -> None:
        for stream in self._streams:
            stream.transport.abort()
