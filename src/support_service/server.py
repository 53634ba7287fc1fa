"""A process that serves an app: listening and graceful shutdown."""

import asyncio
import ctypes
import gc
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from support_service.app import build_app
from support_service.core.errors import UserError
from support_service.core.http import format_host
from support_service.guard.guard import Guard
from support_service.guard.server import GuardedRunner
from support_service.platform.settings import ServerSettings, Settings

STOP_TIMEOUT = 10.0  # seconds for requests in progress at shutdown, and without Redis for waiting events
DRAIN_POLL_INTERVAL = 0.05  # seconds between checks for requests in flight during shutdown
# Seconds that another thread, such as one that renders a scrape, may block the event loop.
THREAD_SWITCH_INTERVAL = 0.001
# Seconds since its last answer in which a client of a kept connection may be about to send its next request.
NEXT_REQUEST_GRACE = 1.0
READ_BUFFER_BYTES = 256 * 1024  # bytes read from a connection at once: fewer wake-ups for an upload
RESERVED_DESCRIPTORS = 512  # descriptors reserved for databases, Redis, upstream services and files

# Options of glibc's `mallopt`: M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD. By default each thread has an arena,
# and parts of files lie between small objects that stay: 700 cases with files left 1 to 6 MiB behind.
MALLOC_OPTIONS = {-8: 2, -3: 128 * 1024, -1: 256 * 1024}

# A socket filter of Linux: it drops packets that ask for a connection (SYN), and passes all others.
SO_ATTACH_FILTER = 26
NO_NEW_CONNECTIONS = struct.pack(
    "=" + "HBBI" * 4, *(0x30, 0, 0, 13), *(0x45, 0, 1, 0x02), *(0x06, 0, 0, 0), *(0x06, 0, 0, 0xFFFFFFFF)
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_server(
    app: web.Application, server: ServerSettings, *, guard: Guard | None = None, chosen_by: str | None = None
) -> AsyncIterator[str]:
    """Serve an app during a `with` block, and yield its URL. The app of a service has a guard.

    At the end readiness is switched off, new connections are refused, requests finish, and the service closes.
    Raises UserError if the address can't be used. The message names `chosen_by`, an option, or else the settings.
    """
    runner: web.BaseRunner
    if guard is not None:  # `_drain_connections` has already waited for requests when the runner shuts down
        runner = GuardedRunner(
            app, guard, access_log=None, shutdown_timeout=DRAIN_POLL_INTERVAL, read_bufsize=READ_BUFFER_BYTES
        )
    else:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT, read_bufsize=READ_BUFFER_BYTES)
    try:
        await runner.setup()
        try:
            loop = asyncio.get_running_loop()
            assert runner.server is not None  # noqa: S101 - `setup` has created it
            listener = await loop.create_server(runner.server, server.host, server.port, backlog=1024)
        except (OSError, UnicodeError) as failure:  # UnicodeError for an invalid host name
            chosen_by = chosen_by or f"SUPPORT_HOST={server.host!r} SUPPORT_PORT={server.port}"
            reason = getattr(failure, "strerror", None) or failure
            raise UserError(f"{chosen_by}: can't listen there: {reason}") from failure
        try:
            host, port = listener.sockets[0].getsockname()[:2]
            yield f"http://{format_host(host)}:{port}"
            if guard is not None:
                await _drain_connections(guard, listener, server)
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def _drain_connections(guard: Guard, listener: asyncio.Server, server: ServerSettings) -> None:
    """Stop accepting connections after `stop_delay` seconds, then wait up to STOP_TIMEOUT for requests.

    Streams are ended after all other requests. A kept connection is closed by its next answer, or when its client has
    sent no request for a while.

    aiohttp's own shutdown drops a request body that is still being received.
    """
    loop, readiness = asyncio.get_running_loop(), guard.readiness
    readiness.accepting = False
    await asyncio.sleep(server.stop_delay)
    until = readiness.stop_by = loop.time() + STOP_TIMEOUT
    await _stop_listening(listener, until)
    await asyncio.sleep(DRAIN_POLL_INTERVAL)  # for requests that were received but not started
    grace = min(NEXT_REQUEST_GRACE, STOP_TIMEOUT / 4)
    # Streams end last: their clients learn of what the other requests have changed. A quarter of the time is theirs.
    streams_end_at = until - STOP_TIMEOUT / 4
    while loop.time() < streams_end_at and (  # noqa: ASYNC110 - as below
        readiness.in_progress > readiness.streams or guard.connections.are_used_since(loop.time() - grace)
    ):
        await asyncio.sleep(DRAIN_POLL_INTERVAL)
    readiness.close_streams()
    while readiness.in_progress and loop.time() < until:  # noqa: ASYNC110 - an event would be set by every request
        await asyncio.sleep(DRAIN_POLL_INTERVAL)


async def _stop_listening(listener: asyncio.Server, until: float) -> None:
    """Take the connections that the kernel has accepted, and then refuse new ones.

    The kernel resets the connections in its queue when the socket is closed. So new clients have to wait until the
    queue is empty: their first packet is dropped, and they repeat it after a second.
    """
    queues = select.poll()
    filters = ctypes.create_string_buffer(NO_NEW_CONNECTIONS)
    for each in listener.sockets:
        with suppress(OSError), socket.socket(fileno=os.dup(each.fileno())) as shared:  # OSError: not Linux
            shared.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(filters)))
        queues.register(each.fileno(), select.POLLIN)
    while queues.poll(0) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - the event loop takes them
        await asyncio.sleep(0)
    listener.close()


async def wait_for_stop_signal() -> str:
    """Wait for SIGTERM or SIGINT and return its name.

    The handlers stay after the first signal, so that a second SIGTERM does not kill a process that is shutting down.
    They are removed if the wait is cancelled, because the start failed.
    """
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(name: str) -> None:
        if not stopped.done():
            stopped.set_result(name)

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop, number.name)
    try:
        return await stopped
    except asyncio.CancelledError:
        for number in numbers:
            loop.remove_signal_handler(number)
        raise


def fit_connection_limit(settings: Settings) -> Settings:
    """Raise this process's descriptor limit as far as possible, and return settings whose connections fit into it.

    A default that is too large is reduced. Raises UserError if a configured number is too large, or if no descriptor
    is left for clients.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems allow less than the limit that they report
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    available, connections = descriptors - RESERVED_DESCRIPTORS, settings.limits.connections
    if descriptors == resource.RLIM_INFINITY or connections <= available:
        return settings
    if "connections" in settings.limits.model_fields_set or available < 1:
        raise UserError(
            f"SUPPORT_CONNECTIONS={connections}: this process may open {descriptors} files (ulimit -n), and needs "
            f"{RESERVED_DESCRIPTORS} of them for other things"
        )
    log.warning("%d connections at once, since only %d files may be open (ulimit -n)", available, descriptors)
    return settings.model_copy(update={"limits": settings.limits.model_copy(update={"connections": available})})


def return_freed_memory() -> None:
    """Let the C library return the memory of large objects as soon as they are freed. Only glibc has these options."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            library.mallopt(option, value)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises UserError or SupportError if the start fails."""
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL)
    return_freed_memory()
    settings = fit_connection_limit(settings)
    stopped = asyncio.ensure_future(wait_for_stop_signal())
    app, guard = build_app(settings)
    async with open_server(app, settings.server, guard=guard) as address:
        # Objects alive now live until the end. A full collection, which blocks the event loop, need not visit them.
        gc.collect()
        gc.freeze()
        log.info("Listening on %s", address)
        log.info("Stopping after %s", await stopped)
    log.info("Stopped")
