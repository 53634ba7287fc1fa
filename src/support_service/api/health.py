"""Health: liveness, readiness and metrics."""

import asyncio
import hmac
from typing import Literal

from aiohttp import web

from support_service.access.bearer import extract_bearer_token
from support_service.api.models.health import Health, Ready
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.endpoint import Headers
from support_service.api.routing.route import PUBLIC, Route, RouteResponse, Tag
from support_service.api.routing.services import MetricsAccess, Services
from support_service.core.errors import Forbidden, Unauthenticated, Unavailable
from support_service.database.failures import DATABASE_READ_ONLY, DATABASE_UNAVAILABLE
from support_service.timeline.cache.base import CacheUnavailable

TAG = Tag("health", "Health: liveness, readiness and metrics.")
OK = "ok"
CACHE_UNAVAILABLE = "cache_unavailable"
SERVES_READS = (OK, DATABASE_READ_ONLY)  # a replica that answers reads stays behind the load balancer


async def health() -> Reply[Health]:
    """Get the status of the service.

    For clients of the old service; orchestrators use `/livez` and `/readyz`.
    """
    return Reply(Health(status="ok"))


async def livez() -> Reply[Health]:
    """Check liveness.

    Restart a process that does not answer: its event loop is blocked.
    """
    return Reply(Health(status="ok"))


async def readyz(call: Call) -> Reply[Ready]:
    """Check readiness.

    The service is ready while the database answers reads and no shutdown has begun. The other dependencies are
    reported, and not required.
    """
    services = call.services
    database, cache = await asyncio.gather(database_status(services), _cache_status(services))
    status: Literal["ready", "unavailable", "stopping"] = "ready" if database in SERVES_READS else "unavailable"
    if not services.readiness.accepting:
        status = "stopping"
    ready = Ready(
        status=status,
        database=database,
        cache=cache,
        storage=services.attachments.uploader.store_fault or OK,
        access=services.authenticator.fault or OK,
    )
    return Reply(ready, status=200 if status == "ready" else 503)


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


def _expect_scraper(access: MetricsAccess, headers: Headers) -> None:
    """Raise Forbidden if only the admin port serves metrics, Unauthenticated if the token is wrong."""
    if not access.open:
        raise Forbidden("metrics_closed", "Metrics are served on the port of SUPPORT_ADMIN_PORT only.")
    if access.token is not None:
        given = extract_bearer_token(headers.getall("Authorization", ()))
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), access.token.encode()):
            raise Unauthenticated("token_invalid", "The token is not that of SUPPORT_METRICS_TOKEN.")


async def database_status(services: Services) -> str:
    """Ping the database; return OK or a problem code.

    A ping is a separate task, because cancelling a hanging one takes longer than its timeout. At most one runs at a
    time; concurrent requests share it.
    """
    readiness = services.readiness
    if readiness.ping is None or readiness.ping.done():
        readiness.ping = asyncio.create_task(services.database.ping())
    ping = readiness.ping
    done, _ = await asyncio.wait({ping}, timeout=services.timings.ping_timeout)
    if not done:
        if not ping.cancelling():
            ping.cancel()
            ping.add_done_callback(_retrieve_exception)
        return DATABASE_UNAVAILABLE
    failure = asyncio.CancelledError() if ping.cancelled() else ping.exception()
    if failure is None:
        return OK
    return failure.code if isinstance(failure, Unavailable) else DATABASE_UNAVAILABLE


def _retrieve_exception(ping: asyncio.Task[None]) -> None:
    """Retrieve the exception of an abandoned ping, or asyncio would log it as never retrieved."""
    if not ping.cancelled():
        ping.exception()


async def _cache_status(services: Services) -> str:
    try:
        await services.cache.ping()
    except CacheUnavailable:
        return CACHE_UNAVAILABLE
    return OK


ROUTES = (
    Route(
        operation="metrics",
        tag=TAG,
        method="GET",
        path="/metrics",
        handler=metrics,
        access=PUBLIC,  # it has a token of its own
        response_media_types=("text/plain", "application/openmetrics-text"),
        problems=("answers_unread", "metrics_closed", "token_invalid", "token_missing"),
    ),
    Route(
        operation="health", tag=TAG, method="GET", path="/health", handler=health, access=PUBLIC, response_model=Health
    ),
    Route(operation="livez", tag=TAG, method="GET", path="/livez", handler=livez, access=PUBLIC, response_model=Health),
    Route(
        operation="readyz",
        tag=TAG,
        method="GET",
        path="/readyz",
        handler=readyz,
        access=PUBLIC,
        response_model=Ready,
        other_responses=(RouteResponse(503, "Not ready: send requests to another replica.", Ready),),
    ),
)
