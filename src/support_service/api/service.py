"""The service itself: its health and metrics, and the descriptions of the API and of the events.

The modules that build the descriptions are imported on first use, because most processes never need them.
"""

import hmac
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, RootModel

from support_service.api.models.service import Health, Ready
from support_service.api.routing.call import Call, EncodedReply, Headers, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import PUBLIC, RouteResponse, Routes, Tag
from support_service.core.errors import problem
from support_service.platform.access.authenticator import extract_bearer_token
from support_service.service import Service

TAG = Tag("health", "Health: liveness, readiness and metrics.")
API_DOCS_TAG = Tag(
    "api_docs", "Descriptions of this API, for programs and for people, and of inbound and published events."
)

DEFAULT_BASE_URL = "http://127.0.0.1:8000"  # base URL of the page's curl examples if no public URL is set


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
    _check_scraper(call.service, headers)
    exposition = await call.service.metrics.render_async(headers.get("Accept", ""), headers.get("Accept-Encoding", ""))
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
    found = await call.service.dependencies.read_readiness()
    return Reply(found, status=200 if found.status == "ready" else 503)


def _check_scraper(service: Service, headers: Headers) -> None:
    """Raise Forbidden if only the admin port serves metrics, Unauthenticated if the token is wrong."""
    if not service.serves_metrics:
        raise problem("metrics_closed", "Metrics are served on the port of SUPPORT_ADMIN_PORT only.")
    token = service.settings.access.metrics_token
    if token is not None:
        given = extract_bearer_token(headers.getall("Authorization", ()))
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.get_secret_value().encode()):
            raise problem("token_invalid", "The token is not that of SUPPORT_METRICS_TOKEN.")


class Document(RootModel[dict[str, Any]]):
    """A description in the named format."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"info": {"title": "support-service", "version": "1.0.0"}}]},
        defer_build=True,  # it only describes the documents
    )


@get("/openapi.json", tag=API_DOCS_TAG, access=PUBLIC)
async def openapi(call: Call, routes: Routes) -> EncodedReply[Document]:
    """Describe the API for programs.

    The OpenAPI 3.1 document behind the page `/docs`. `support-service openapi` prints it too.
    """
    from support_service.api.openapi import document

    server = call.service.settings.server
    body = document.openapi_json(routes, secured=server.auth != "open", public_url=server.url_prefix)
    return EncodedReply(body)


@get("/asyncapi.json", tag=API_DOCS_TAG, access=PUBLIC)
async def asyncapi(call: Call) -> EncodedReply[Document]:
    """Describe the events for programs.

    An AsyncAPI 3.0 document: events published to a Redis stream and webhooks, and events received by stream and HTTP.
    """
    from support_service.api.openapi import asyncapi as events

    streams = call.service.settings.events
    return EncodedReply(events.asyncapi_json(streams.stream, streams.inbound_stream))


@get("/docs", tag=API_DOCS_TAG, access=PUBLIC, response_media_types=("text/html",))
async def docs(call: Call, routes: Routes) -> web.Response:
    """Describe the API for people.

    An HTML page without scripts and external resources.
    """
    from support_service.api.openapi import page

    server = call.service.settings.server
    text = page.render_page(routes, server.public_url or DEFAULT_BASE_URL, secured=server.auth != "open")
    headers = {"Content-Security-Policy": page.content_security_policy()}
    return web.Response(text=text, content_type="text/html", headers=headers)
