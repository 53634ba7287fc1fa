"""A load balancer in front of replicas: forwards each connection to the first one that accepts it."""

import asyncio
from collections.abc import Sequence
from typing import Self


class Balancer:
    """Forwards TCP connections to `ports`, which a test may change; to none of them, connections break."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self.address = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        for port in self.ports:
            try:
                from_replica, to_replica = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            self._open.add(to_replica)
            await asyncio.gather(_copy(reader, to_replica), _copy(from_replica, writer))
            self._open.discard(to_replica)
            break
        else:
            writer.transport.abort()
        self._open.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends or breaks, and close the other."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
