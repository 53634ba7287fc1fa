"""Health: liveness, readiness and metrics."""

import hmac
from dataclasses import asdict

from aiohttp import web

from support_service.api.models.service import Health, Ready
from support_service.api.routing.call import Call, Headers, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import PUBLIC, RouteResponse, Tag
from support_service.api.routing.services import MetricsAccess
from support_service.core.errors import Forbidden, Unauthenticated
from support_service.platform.access.authenticator import extract_bearer_token

TAG = Tag("health", "Health: liveness, readiness and metrics.")


@get(
    "/metrics",
    access=PUBLIC,  # it has a token of its own
    response_media_types=("text/plain", "application/openmetrics-text"),
    problems=("answers_unread", "metrics_closed", "token_invalid", "token_missing"),
)
async def metrics(call: Call, headers: Headers) -> web.Response:
    """Get all metrics.

    In the Prometheus text format, or in OpenMetrics if `Accept` asks for it; compressed if the client accepts that.
    """
    _expect_scraper(call.services.metrics_access, headers)
    exposition = await call.services.metrics.render_async(headers.get("Accept", ""), headers.get("Accept-Encoding", ""))
    sent = {"Content-Type": exposition.content_type, "Vary": "Accept, Accept-Encoding"}
    if exposition.content_encoding:
        sent["Content-Encoding"] = exposition.content_encoding
    return web.Response(body=exposition.body, headers=sent)


@get("/health", access=PUBLIC)
async def health() -> Reply[Health]:
    """Get the status of the service.

    For clients of the old service; orchestrators use `/livez` and `/readyz`.
    """
    return Reply(Health(status="ok"))


@get("/livez", access=PUBLIC)
async def livez() -> Reply[Health]:
    """Check liveness.

    Restart a process that does not answer: its event loop is blocked.
    """
    return Reply(Health(status="ok"))


@get(
    "/readyz",
    access=PUBLIC,
    other_responses=(RouteResponse(503, "Not ready: send requests to another replica.", Ready),),
)
async def readyz(call: Call) -> Reply[Ready]:
    """Check readiness.

    The service is ready while the database answers reads and no shutdown has begun. The other dependencies are
    reported, and not required.
    """
    found = await call.services.dependencies.read()
    return Reply(Ready(**asdict(found)), status=200 if found.status == "ready" else 503)


def _expect_scraper(access: MetricsAccess, headers: Headers) -> None:
    """Raise Forbidden if only the admin port serves metrics, Unauthenticated if the token is wrong."""
    if not access.open:
        raise Forbidden("metrics_closed", "Metrics are served on the port of SUPPORT_ADMIN_PORT only.")
    if access.token is not None:
        given = extract_bearer_token(headers.getall("Authorization", ()))
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), access.token.encode()):
            raise Unauthenticated("token_invalid", "The token is not that of SUPPORT_METRICS_TOKEN.")
