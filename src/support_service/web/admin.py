"""Metrics and health on an address of their own, which those who call the service need not reach."""

import logging
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from support_service import periodic
from support_service.errors import Unavailable
from support_service.web import health, keys
from support_service.web.errors import problems
from support_service.web.gate import GATE, tell
from support_service.web.listener import Runner
from support_service.web.middleware import observed
from support_service.web.security import is_loopback

PLACES = 64  # connections; those of the app's clients take none of them
STOP_WITHIN = 1.0  # seconds for a scrape that has begun

log = logging.getLogger(__name__)


def beside(host: str, port: int, scrapes: keys.Scrapes) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context that serves an app's metrics and health at an address, for as long as the app has its parts.

    So it still answers while the app waits for its last requests. Raises Unavailable where the address can't be had.
    """

    async def listen(app: web.Application) -> AsyncIterator[None]:
        served = _of(app, scrapes, f"[{host}]" if ":" in host else host)
        runner = Runner(served, access_log=None, shutdown_timeout=STOP_WITHIN, handle_signals=False)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except (OSError, UnicodeError) as failure:  # the second for a name that no host can have
                reason = getattr(failure, "strerror", None) or failure
                raise Unavailable(
                    "address_unavailable",
                    f"SUPPORT_ADMIN_HOST={host!r} SUPPORT_ADMIN_PORT={port}: can't listen there: {reason}",
                ) from failure
            bound, number = runner.addresses[0][:2]
            app[keys.ADMIN] = f"http://{f'[{bound}]' if ':' in bound else bound}:{number}"
            log.info("Metrics and health are at %s", app[keys.ADMIN])
            async with periodic.beside(served[keys.CROWD].watch()):
                yield
        finally:
            await runner.cleanup()

    return listen


@web.middleware
async def named(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse the foreign pages that the app's own port refuses."""
    request.app[GATE].origins.check(request)
    return await handler(request)


def _of(app: web.Application, scrapes: keys.Scrapes, host: str) -> web.Application:
    # An address that others reach is called by whatever they call it, and a page there is no more than they are.
    checks = [named] if is_loopback(host) else []
    admin = web.Application(middlewares=[observed(app[keys.REQUESTS], app[keys.READINESS], 0), problems, *checks])
    admin[GATE] = app[GATE]
    admin[keys.CROWD] = app[keys.CROWD].beside(PLACES)
    admin.on_response_prepare.append(tell)
    admin[keys.METRICS] = app[keys.METRICS]
    admin[keys.REQUESTS] = app[keys.REQUESTS]
    admin[keys.READINESS] = app[keys.READINESS]
    admin[keys.DATABASE] = app[keys.DATABASE]
    admin[keys.CACHE] = app[keys.CACHE]
    admin[keys.SCRAPES] = scrapes
    for handler in (health.metrics, health.health, health.livez, health.readyz):
        admin.router.add_get(f"/{handler.__name__}", handler)
    return admin
