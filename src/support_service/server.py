"""One process that serves an app: listens, and stops in good order."""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from support_service.app import build
from support_service.http.readiness import READINESS, Readiness
from support_service.http.runner import Runner
from support_service.settings import Server, Settings, WrongSetting

LOOK_EVERY = 0.05  # seconds between looks at the requests that a stop waits for
SWITCH_EVERY = 0.001  # seconds that a thread, as one that renders a scrape, may keep the event loop waiting
READ_BUFFER = 256 * 1024  # bytes taken from a connection at once: fewer wake-ups for an upload
FILES_BESIDE = 512  # descriptors for what is no client's connection: databases, Redis, neighbours, files

log = logging.getLogger(__name__)


@asynccontextmanager
async def listening(app: web.Application, server: Server, *, chosen_by: str | None = None) -> AsyncIterator[str]:
    """Serve an app for the length of a block; gives its address.

    At the end readiness goes off, then no connection is taken any more, requests in flight end, and the parts close.
    Raises WrongSetting where the address can't be had: it names what chose it, an option or else the settings.
    """
    drained = READINESS in app
    runner = Runner(
        app,
        access_log=None,
        shutdown_timeout=LOOK_EVERY if drained else server.stop_timeout,  # `_drain` has waited that long already
        read_bufsize=READ_BUFFER,
        handle_signals=False,
    )
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, server.host, server.port, backlog=1024).start()
        except (OSError, UnicodeError) as failure:  # the second for a name that no host can have
            chosen_by = chosen_by or f"SUPPORT_HOST={server.host!r} SUPPORT_PORT={server.port}"
            reason = getattr(failure, "strerror", None) or failure
            raise WrongSetting(f"{chosen_by}: can't listen there: {reason}") from failure
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if drained:
            await _drain(app[READINESS], runner, server)
    finally:
        await runner.cleanup()


async def _drain(readiness: Readiness, runner: web.AppRunner, server: Server) -> None:
    """Take no new connection, and let what is in work end; aiohttp's own stop drops a body that is still coming in."""
    loop = asyncio.get_running_loop()
    readiness.accepting = False
    await asyncio.sleep(server.stop_delay)
    for site in list(runner.sites):
        await site.stop()
    until = readiness.stop_by = loop.time() + server.stop_timeout
    await asyncio.sleep(LOOK_EVERY)  # for requests that have arrived and were not begun
    while readiness.working and loop.time() < until:  # noqa: ASYNC110 - an event would be set by every request
        await asyncio.sleep(LOOK_EVERY)


async def stop_signal() -> str:
    """Wait for SIGTERM or SIGINT and return its name; the handlers are removed when the wait ends."""
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
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def with_room(settings: Settings) -> Settings:
    """Settings whose connections this process may have, after it asked for as many descriptors as it can get.

    A default that is too large is made smaller; raises WrongSetting for a number that someone chose.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems give out fewer than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    may_have, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room, wanted = may_have - FILES_BESIDE, settings.limits.connections
    if may_have == resource.RLIM_INFINITY or wanted <= room:
        return settings
    if "connections" in settings.limits.model_fields_set or room < 1:
        raise WrongSetting(
            f"SUPPORT_CONNECTIONS={wanted}: this process may open {may_have} files (ulimit -n), and needs "
            f"{FILES_BESIDE} of them for other things"
        )
    log.warning("%d connections at once, since only %d files may be open (ulimit -n)", room, may_have)
    return settings.model_copy(update={"limits": settings.limits.model_copy(update={"connections": room})})


async def serve(settings: Settings) -> None:
    """Serve until a signal comes; raises WrongSetting or SupportError where the start fails."""
    sys.setswitchinterval(SWITCH_EVERY)
    settings = with_room(settings)
    stopped = asyncio.ensure_future(stop_signal())
    for line in settings.warnings:
        log.warning(line)
    async with listening(build(settings), settings.server) as address:
        # What lives now lives to the end: a full collection, which holds the loop up, need not walk it again.
        gc.collect()
        gc.freeze()
        log.info("Listening on %s", address)
        log.info("Stopping after %s", await stopped)
    log.info("Stopped")
