"""Descriptions of this API, for programs and for people, and of inbound and published events.

The modules that build the documents are imported on first use, because most processes never need them.
"""

from typing import Any

from aiohttp import web
from pydantic import ConfigDict, RootModel

from support_service.api.routing.call import Call, EncodedReply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import PUBLIC, Tag

DEFAULT_BASE_URL = "http://127.0.0.1:8000"  # base URL of the page's curl examples if no public URL is set

TAG = Tag("api_docs", "Descriptions of this API, for programs and for people, and of inbound and published events.")


class Document(RootModel[dict[str, Any]]):
    """A description in the named format."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"info": {"title": "support-service", "version": "1.0.0"}}]},
        defer_build=True,  # it only describes the documents
    )


@get("/openapi.json", access=PUBLIC)
async def openapi(call: Call) -> EncodedReply[Document]:
    """Describe the API for programs.

    The OpenAPI 3.1 document behind the page `/docs`. `support-service openapi` prints it too.
    """
    from support_service.api.openapi import document

    options = call.services.options
    body = document.body(call.services.routes, secured=options.secured, public_url=options.public_url)
    return EncodedReply(body)


@get("/asyncapi.json", access=PUBLIC)
async def asyncapi(call: Call) -> EncodedReply[Document]:
    """Describe the events for programs.

    An AsyncAPI 3.0 document: events published to a Redis stream and webhooks, and events received by stream and HTTP.
    """
    from support_service.api.openapi import asyncapi as events

    return EncodedReply(events.body(*call.services.options.streams))


@get("/docs", access=PUBLIC, response_media_types=("text/html",))
async def docs(call: Call) -> web.Response:
    """Describe the API for people.

    An HTML page without scripts and external resources.
    """
    from support_service.api.openapi import page

    options = call.services.options
    text = page.page(call.services.routes, options.public_url or DEFAULT_BASE_URL, secured=options.secured)
    headers = {"Content-Security-Policy": page.content_security_policy()}
    return web.Response(text=text, content_type="text/html", headers=headers)
