"""A bare aiohttp server: no Application, no router, no middleware."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from aiohttp import web

READ_BUFFER = 256 * 1024  # bytes read from a connection at once


async def serve(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = web.ServerRunner(web.Server(handler, access_log=None, read_bufsize=READ_BUFFER))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await stopped.wait()
    await runner.cleanup()
