"""Admin server: metrics and health endpoints on a separate address that API clients need not reach."""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from aiohttp import web

from support_service.api.routes import ROUTES
from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.services import SERVICES, MetricsAccess
from support_service.api.service import TAG as HEALTH
from support_service.core.errors import Unavailable
from support_service.core.http import format_host
from support_service.guard.component import ADMISSION, CONNECTION_LIMITS, READINESS
from support_service.guard.instrumentation import instrumentation_middleware
from support_service.guard.problems import problem_middleware
from support_service.guard.server import Runner
from support_service.platform import background
from support_service.platform.telemetry.component import REQUEST_METRICS

MAX_CONNECTIONS = 64  # maximum number of connections, separate from the limit of the API
SHUTDOWN_TIMEOUT = 1.0  # seconds for a running scrape to finish at shutdown

ADMIN_URL = web.AppKey("admin_url", str)  # base URL of the admin server, if there is one

log = logging.getLogger(__name__)


def admin_server(
    host: str, port: int, metrics_access: MetricsAccess
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a cleanup context that serves the app's metrics and health endpoints at `host`:`port`.

    It runs as long as the app's components, so it still responds while the app drains its last requests. The context
    raises Unavailable if the address can't be bound.
    """

    async def listen(app: web.Application) -> AsyncIterator[None]:
        admin_app = _admin_app(app, metrics_access)
        runner = Runner(admin_app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except (OSError, UnicodeError) as failure:  # UnicodeError: not a valid host name
                reason = getattr(failure, "strerror", None) or failure
                raise Unavailable(
                    "address_unavailable",
                    f"SUPPORT_ADMIN_HOST={host!r} SUPPORT_ADMIN_PORT={port}: can't listen there: {reason}",
                ) from failure
            bound, number = runner.addresses[0][:2]
            app[ADMIN_URL] = f"http://{format_host(bound)}:{number}"
            log.info("Metrics and health are at %s", app[ADMIN_URL])
            async with background.run_in_background(admin_app[CONNECTION_LIMITS].enforce_timeouts()):
                yield
        finally:
            await runner.cleanup()

    return listen


def _admin_app(app: web.Application, metrics_access: MetricsAccess) -> web.Application:
    """Return the admin application, which shares the components of `app`."""
    admin = web.Application(
        middlewares=[
            instrumentation_middleware(app[REQUEST_METRICS], app[READINESS], app[ADMISSION], 0),
            problem_middleware,
        ]
    )
    admin[ADMISSION] = app[ADMISSION]
    admin[CONNECTION_LIMITS] = app[CONNECTION_LIMITS].with_limit(MAX_CONNECTIONS)
    admin.on_response_prepare.append(admin[ADMISSION].add_response_headers)
    admin[REQUEST_METRICS] = app[REQUEST_METRICS]
    admin[READINESS] = app[READINESS]
    admin[SERVICES] = replace(app[SERVICES], metrics_access=metrics_access)
    for route in ROUTES:
        if route.tag is HEALTH:
            admin.router.add_get(route.path, compile_route(route))
    return admin
