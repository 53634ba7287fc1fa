"""Health: whether the loop turns, whether requests are welcome, and what the metrics say."""

import asyncio
import hmac
from typing import Literal

from aiohttp import web

from support_service.access.bearer import extract_bearer_token
from support_service.api import app_keys
from support_service.cases.model import ApiModel, example_config
from support_service.core.errors import Forbidden, Unauthenticated
from support_service.database.component import DATABASE
from support_service.http.component import READINESS
from support_service.http.json_body import json_response
from support_service.telemetry.component import METRICS
from support_service.timeline.cache.base import CacheUnavailable
from support_service.timeline.component import CACHE

PING_TIMEOUT = 1.0  # timeout of the database ping in seconds: readiness probes wait no longer


ComponentStatus = Literal["ok", "unavailable"]


class Health(ApiModel):
    """What the clients of the old service know."""

    model_config = example_config({"status": "ok"})

    status: str


class Ready(ApiModel):
    """Whether requests are welcome, and how each part is."""

    model_config = example_config({"status": "ready", "database": "ok", "cache": "ok"})

    status: Literal["ready", "unavailable", "stopping"]
    database: ComponentStatus
    cache: ComponentStatus


async def health(_: web.Request) -> web.Response:
    """Say that the service is up.

    For clients of the old service; orchestrators ask `/livez` and `/readyz`.
    """
    return json_response(Health(status="ok"))


async def livez(_: web.Request) -> web.Response:
    """Say that the process lives.

    A process that can't say so, since its event loop does not turn, should be restarted.
    """
    return json_response(Health(status="ok"))


async def readyz(request: web.Request) -> web.Response:
    """Say whether to send requests here.

    They are welcome while the database answers and no stop has begun; the cache is not required.
    """
    database, cache = await asyncio.gather(_database_status(request), _cache_status(request))
    if not request.app[READINESS].accepting:
        return json_response(Ready(status="stopping", database=database, cache=cache), 503)
    if database != "ok":
        return json_response(Ready(status="unavailable", database=database, cache=cache), 503)
    return json_response(Ready(status="ready", database=database, cache=cache))


async def metrics(request: web.Request) -> web.Response:
    """Give every metric.

    In Prometheus's text format, or OpenMetrics where `Accept` asks for it; compressed where the client takes that.
    """
    _expect_scraper(request)
    exposition = await request.app[METRICS].answer(
        request.headers.get("Accept", ""), request.headers.get("Accept-Encoding", "")
    )
    headers = {"Content-Type": exposition.content_type, "Vary": "Accept, Accept-Encoding"}
    if exposition.content_encoding:
        headers["Content-Encoding"] = exposition.content_encoding
    return web.Response(body=exposition.body, headers=headers)


def _expect_scraper(request: web.Request) -> None:
    """Raise Forbidden if /metrics is closed here, Unauthenticated if the token is wrong."""
    scrapes = request.app[app_keys.METRICS_ACCESS]
    if not scrapes.open:
        raise Forbidden(
            "metrics_closed", "Metrics are not open here: SUPPORT_ADMIN_PORT or SUPPORT_METRICS_TOKEN opens them."
        )
    if scrapes.token is not None:
        given = extract_bearer_token(request.headers.getall("Authorization", ()))
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), scrapes.token.encode()):
            raise Unauthenticated("token_invalid", "The token is not that of SUPPORT_METRICS_TOKEN.")


async def _database_status(request: web.Request) -> ComponentStatus:
    """Ping the database in a separate task, because cancelling a hanging ping takes longer than PATIENCE.

    At most one ping runs at a time; concurrent requests share it.
    """
    readiness = request.app[READINESS]
    if readiness.ping is None or readiness.ping.done():
        readiness.ping = asyncio.create_task(request.app[DATABASE].ping())
    ping = readiness.ping
    done, _ = await asyncio.wait({ping}, timeout=PING_TIMEOUT)
    if not done:
        if not ping.cancelling():
            ping.cancel()
            ping.add_done_callback(_retrieve_exception)
        return "unavailable"
    return "ok" if not ping.cancelled() and ping.exception() is None else "unavailable"


def _retrieve_exception(ping: asyncio.Task[None]) -> None:
    """Retrieve the exception of an abandoned ping, or asyncio would log it as never retrieved."""
    if not ping.cancelled():
        ping.exception()


async def _cache_status(request: web.Request) -> ComponentStatus:
    try:
        await request.app[CACHE].ping()
    except CacheUnavailable:
        return "unavailable"
    return "ok"
