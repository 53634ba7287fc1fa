"""The API component: the routes, the parts of the app that they use, and the admin server."""

from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

from support_service.api.admin import admin_server
from support_service.api.case_document.reading import CaseDocuments
from support_service.api.dependency_status import DEPENDENCY_STATUS, REPLICA_READY, DependencyMonitor
from support_service.api.oncall_parts import OnCallParts
from support_service.api.routes import ROUTES
from support_service.api.routing.cursors import CursorSeal
from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.services import SERVICES, ApiOptions, ApiTimings, MetricsAccess, Services
from support_service.attachments.component import ATTACHMENT_SERVICE
from support_service.cases.clocks.component import CLOCK_TRACKER
from support_service.cases.component import CASE_SERVICE, LINK_SERVICE, MASKER
from support_service.core.http import any_segment
from support_service.desk.component import MACRO_SERVICE, POLICY_SERVICE, VIEW_SERVICE
from support_service.events.component import (
    DEAD_LETTERS,
    EVENT_CONSUMER,
    OUTBOX_RELAY,
    WEBHOOK_DELIVERIES,
    WEBHOOK_SENDER,
)
from support_service.guard.component import ADMISSION, PUBLIC_URL, READINESS
from support_service.guard.fair_turns import FairTurns
from support_service.guard.uploads import UploadOptions
from support_service.platform.access.authenticator import AnonymousAuthenticator
from support_service.platform.access.component import AUTHENTICATOR, BROWSER_SESSIONS
from support_service.platform.audit.component import AUDIT_SEALER
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE, read_secret
from support_service.platform.idempotency.component import IDEMPOTENCY_SERVICE
from support_service.platform.settings.process import AccessSettings
from support_service.platform.settings.resources import AttachmentSettings, EventSettings, LinkSettings
from support_service.platform.telemetry.component import INSTRUMENTS, LOOP_LAG, METRICS, REQUEST_METRICS
from support_service.stream.component import CHANGE_STREAM
from support_service.timeline.component import OVERRIDE_SERVICE, TIMELINE_AGGREGATOR, TIMELINE_CACHE

# Their time series start at 0; those of other statuses appear when they occur.
COMMON_REFUSALS = frozenset({400, 404, 415, 422})


def setup(
    app: web.Application,
    access: AccessSettings,
    attachments: AttachmentSettings,
    events: EventSettings,
    timings: ApiTimings,
    *,
    links: LinkSettings,
    case_cache_bytes: int,
) -> None:
    """Add every route, and serve metrics and health on the admin port if there is one. GET routes also answer HEAD.

    Raises LookupError or TypeError if a route and its handler do not fit together, see `compile_route`.
    """
    options = ApiOptions(
        public_url=app[PUBLIC_URL],
        uploads=UploadOptions(attachments.max_bytes, attachments.min_rate, attachments.deadline),
        streams=(events.stream, events.inbound_stream),
        redirect_downloads=attachments.download == "redirect",
        secured=not isinstance(app[AUTHENTICATOR], AnonymousAuthenticator),
    )
    token = access.metrics_token.get_secret_value() if access.metrics_token else None
    metrics_access = MetricsAccess(open=access.admin_port is None, token=token)
    scheme = "https" if options.public_url.startswith("https:") else "http"
    for route in ROUTES:
        add = app.router.add_get if route.method == "GET" else partial(app.router.add_route, route.method)
        add(any_segment(route.path), compile_route(route))
        for status in (route.status, *COMMON_REFUSALS & route.problem_statuses):
            app[REQUEST_METRICS].expect(route.method, route.path, status, scheme)

    async def provide_services(app: web.Application) -> AsyncIterator[None]:
        dependencies = DependencyMonitor(
            readiness=app[READINESS],
            database=app[DATABASE],
            authenticator=app[AUTHENTICATOR],
            attachments=app[ATTACHMENT_SERVICE],
            timeline=app[TIMELINE_AGGREGATOR],
            cache=app[TIMELINE_CACHE],
            consumer=app[EVENT_CONSUMER],
            ping_timeout=timings.ping_timeout,
        )
        app[INSTRUMENTS].observe(REPLICA_READY, dependencies.ready)
        app[INSTRUMENTS].observe(DEPENDENCY_STATUS, dependencies.statuses)
        cursor_key = await read_secret(app[DATABASE], "cursors")
        app[SERVICES] = Services(
            authenticator=app[AUTHENTICATOR],
            sessions=app.get(BROWSER_SESSIONS),
            admission=app[ADMISSION],
            readiness=app[READINESS],
            dependencies=dependencies,
            database=app[DATABASE],
            cases=app[CASE_SERVICE],
            turns=FairTurns(timings.turns),
            documents=CaseDocuments(
                app[CASE_SERVICE],
                app[TIMELINE_AGGREGATOR],
                app[MASKER],
                app[INSTRUMENTS],
                app[CLOCK_TRACKER].policies,
                public_url=app[PUBLIC_URL],
                max_bytes=case_cache_bytes,
            ),
            links=app[LINK_SERVICE],
            timeline=app[TIMELINE_AGGREGATOR],
            macros=app[MACRO_SERVICE],
            policies=app[POLICY_SERVICE],
            attachments=app[ATTACHMENT_SERVICE],
            views=app[VIEW_SERVICE],
            overrides=app[OVERRIDE_SERVICE],
            on_call=OnCallParts(
                timeline=app[TIMELINE_AGGREGATOR],
                backlog=app[ATTACHMENT_SERVICE].backlog,
                relay=app[OUTBOX_RELAY],
                consumer=app[EVENT_CONSUMER],
                webhooks=app[WEBHOOK_SENDER],
                sealer=app[AUDIT_SEALER],
                loop_lag=app[LOOP_LAG],
                stale_after=timings.stale_after,
                runbooks_url=links.runbooks_url,
                grafana_url=links.grafana_url,
            ),
            consumer=app[EVENT_CONSUMER],
            dead_letters=app[DEAD_LETTERS],
            deliveries=app[WEBHOOK_DELIVERIES],
            stream=app[CHANGE_STREAM],
            cache=app[TIMELINE_CACHE],
            idempotency=app[IDEMPOTENCY_SERVICE],
            metrics=app[METRICS],
            metrics_access=metrics_access,
            masker=app[MASKER],
            routes=ROUTES,
            cursors=CursorSeal(cursor_key),
            options=options,
            timings=timings,
        )
        checks = run_every(timings.dependency_interval, dependencies.refresh, "Checking the dependencies")
        async with run_in_background(checks):
            yield

    app.cleanup_ctx.append(provide_services)
    if access.admin_port is not None:
        app.cleanup_ctx.append(admin_server(access.admin_host, access.admin_port, MetricsAccess(token=token)))
