"""The application: the guard and the routes of a service that runs as long as the application."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from support_service.api.admin import open_admin_server
from support_service.api.routes import ROUTES
from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.pipeline import Pipeline
from support_service.console import pages, sign_in
from support_service.guard.guard import Guard
from support_service.guard.json_body import MAX_JSON_BODY_BYTES
from support_service.platform.settings import Settings
from support_service.platform.telemetry.telemetry import Telemetry
from support_service.service import SERVICE, open_service
from support_service.timings import Timings

# Their time series start at 0; series of other statuses appear when they occur.
COMMON_REFUSAL_STATUSES = frozenset({400, 404, 415, 422})


def build_app(settings: Settings, timings: Timings = Timings()) -> tuple[web.Application, Guard]:
    """Return an application that is ready to start, and the guard with which its server bounds connections.

    The service is opened when the application starts, under the key `SERVICE`.

    Startup raises the errors of `open_service`, and Unavailable if the admin address can't be used.
    """
    telemetry = Telemetry(settings.telemetry, timings.telemetry)
    guard = Guard(settings, telemetry, timings.guard)
    pipeline = Pipeline(guard, access_log=settings.server.access_log)
    middlewares = [*telemetry.tracing.server_middlewares(), pipeline.run]
    app = web.Application(client_max_size=MAX_JSON_BODY_BYTES, middlewares=middlewares)
    _add_routes(app, pipeline, settings, telemetry)
    access = settings.access

    async def run_service(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            service = await stack.enter_async_context(open_service(settings, timings, telemetry, guard))
            if access.admin_port is not None:
                service.admin_url = await stack.enter_async_context(
                    open_admin_server(service, access.admin_host, access.admin_port)
                )
            app[SERVICE] = service
            yield

    app.cleanup_ctx.append(run_service)
    return app, guard


def _add_routes(app: web.Application, pipeline: Pipeline, settings: Settings, telemetry: Telemetry) -> None:
    """Add every route."""
    scheme = "https" if settings.server.url_prefix.startswith("https:") else "http"
    for route in ROUTES:
        pipeline.add_route(app, compile_route(route, ROUTES))
        for status in (route.status, *COMMON_REFUSAL_STATUSES & route.problem_statuses):
            telemetry.requests.create_series(route.method, route.path, status, scheme)
    pages.add_routes(app, settings.server.auth)
    if settings.sign_in.issuer:
        sign_in.add_routes(app)
