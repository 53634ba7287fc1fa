"""Admin server: metrics and health endpoints on a separate address that API clients need not reach."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy

from aiohttp import web

from support_service.api.routes import ROUTES
from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.pipeline import Pipeline
from support_service.api.service import TAG as HEALTH
from support_service.core.errors import problem
from support_service.core.http import format_host
from support_service.guard.server import GuardedRunner
from support_service.platform.background import run_in_background
from support_service.service import SERVICE, Service

MAX_ADMIN_CONNECTIONS = 64  # maximum number of connections, separate from the limit of the API
SHUTDOWN_TIMEOUT = 1.0  # seconds for a running scrape to finish at shutdown

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_admin_server(service: Service, host: str, port: int) -> AsyncIterator[str]:
    """Serve a service's metrics and health endpoints at `host`:`port` during a `with` block, and yield the URL.

    It runs as long as the service, so it still responds while the app drains its last requests. Raises SupportError if
    the address can't be bound.
    """
    guard = service.guard.with_connection_limit(MAX_ADMIN_CONNECTIONS)
    pipeline = Pipeline(guard, checks_head=False)
    app = web.Application(middlewares=[pipeline.run])
    app[SERVICE] = copy(service)
    app[SERVICE].serves_metrics = True
    for route in ROUTES:
        if route.tag is HEALTH:
            pipeline.add_route(app, compile_route(route, ROUTES))
    runner = GuardedRunner(app, guard, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as failure:  # UnicodeError: not a valid host name
            reason = getattr(failure, "strerror", None) or failure
            raise problem(
                "address_unavailable",
                f"SUPPORT_ADMIN_HOST={host!r} SUPPORT_ADMIN_PORT={port}: can't listen there: {reason}",
            ) from failure
        bound, number = runner.addresses[0][:2]
        url = f"http://{format_host(bound)}:{number}"
        log.info("Metrics and health are at %s", url)
        async with run_in_background(guard.connections.enforce_timeouts()):
            yield url
    finally:
        await runner.cleanup()
