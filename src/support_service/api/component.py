"""The API component: the routes with their authorization, the API descriptions, and the admin server."""

from aiohttp import web

from support_service.access.authenticator import AnonymousAuthenticator
from support_service.access.component import AUTHENTICATOR
from support_service.api import admin, app_keys
from support_service.api.authorization import authorize
from support_service.api.idempotency import idempotent
from support_service.api.routes import ROUTES
from support_service.api.setup import add_routes
from support_service.http.component import PUBLIC_URL
from support_service.http.uploads import UploadOptions
from support_service.settings.sections import Access, Attachments, Events
from support_service.telemetry.component import REQUEST_METRICS

# Their time series start at 0; those of other statuses appear when they occur.
COMMON_REFUSALS = frozenset({400, 404, 415, 422})


def setup(app: web.Application, access: Access, attachments: Attachments, events: Events) -> None:
    """Add every route, and serve metrics and health on the admin port if there is one."""
    authenticator = app[AUTHENTICATOR]
    is_open = isinstance(authenticator, AnonymousAuthenticator)
    app[app_keys.HTTP_OPTIONS] = app_keys.HttpOptions(
        public_url=app[PUBLIC_URL],
        uploads=UploadOptions(attachments.max_bytes, attachments.min_rate, attachments.deadline),
        streams=(events.stream, events.inbound_stream),
        redirect_downloads=attachments.download == "redirect",
        secured=not is_open,
    )
    token = access.metrics_token.get_secret_value() if access.metrics_token else None
    app[app_keys.METRICS_ACCESS] = app_keys.MetricsAccess(
        open=access.admin_port is None and (is_open or token is not None), token=token
    )
    app.middlewares.extend((authorize(authenticator), idempotent))
    for route in ROUTES:
        for status in (route.status, *COMMON_REFUSALS & route.refused_with):
            app[REQUEST_METRICS].expect(route.method, route.path, status)
    add_routes(app)
    if access.admin_port is not None:
        scrapes = app_keys.MetricsAccess(token=token)
        app.cleanup_ctx.append(admin.admin_server(access.admin_host, access.admin_port, scrapes))
