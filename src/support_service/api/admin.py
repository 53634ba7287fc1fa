"""Metrics and health on an address of their own, which those who call the service need not reach."""

import logging
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from support_service.api import app_keys, health
from support_service.core import background
from support_service.core.errors import Unavailable
from support_service.http.admission import GATE, tell
from support_service.http.connection_limits import CROWD
from support_service.http.instrumentation import REQUESTS, observed
from support_service.http.problems import problems
from support_service.http.readiness import READINESS
from support_service.http.runner import Runner
from support_service.http.security import is_loopback

PLACES = 64  # connections; those of the app's clients take none of them
STOP_WITHIN = 1.0  # seconds for a scrape that has begun

log = logging.getLogger(__name__)


def beside(host: str, port: int, scrapes: app_keys.Scrapes) -> Callable[[web.Application], AsyncIterator[None]]:
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
            app[app_keys.ADMIN] = f"http://{f'[{bound}]' if ':' in bound else bound}:{number}"
            log.info("Metrics and health are at %s", app[app_keys.ADMIN])
            async with background.beside(served[CROWD].watch()):
                yield
        finally:
            await runner.cleanup()

    return listen


@web.middleware
async def named(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse the foreign pages that the app's own port refuses."""
    request.app[GATE].origins.check(request)
    return await handler(request)


def _of(app: web.Application, scrapes: app_keys.Scrapes, host: str) -> web.Application:
    # An address that others reach is called by whatever they call it, and a page there is no more than they are.
    checks = [named] if is_loopback(host) else []
    admin = web.Application(middlewares=[observed(app[REQUESTS], app[READINESS], 0), problems, *checks])
    admin[GATE] = app[GATE]
    admin[CROWD] = app[CROWD].beside(PLACES)
    admin.on_response_prepare.append(tell)
    admin[app_keys.METRICS] = app[app_keys.METRICS]
    admin[REQUESTS] = app[REQUESTS]
    admin[READINESS] = app[READINESS]
    admin[app_keys.DATABASE] = app[app_keys.DATABASE]
    admin[app_keys.CACHE] = app[app_keys.CACHE]
    admin[app_keys.SCRAPES] = scrapes
    for handler in (health.metrics, health.health, health.livez, health.readyz):
        admin.router.add_get(f"/{handler.__name__}", handler)
    return admin
