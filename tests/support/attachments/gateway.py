"""A TCP proxy in front of a server. Stopping it is faster than a restart of the server."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

BLOCK = 65_536


class Gateway:
    """Forwards connections to a server; while stopped, open connections are broken and new ones refused."""

    def __init__(self, target: str, port: int) -> None:
        self._target = urlsplit(target)
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = f"http://127.0.0.1:{port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)

    async def kill(self) -> None:
        """Break every connection, and refuse new ones."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        self._writers |= writers
        with suppress(OSError):
            from_target, to_target = await asyncio.open_connection(self._target.hostname, self._target.port)
            writers.add(to_target)
            self._writers |= writers
            await asyncio.gather(_copy(reader, to_target), _copy(from_target, writer))
        self._writers -= writers
        for each in writers:
            each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(BLOCK):
        writer.write(block)
        await writer.drain()
    writer.write_eof()
