"""Descriptions: this API for programs and for people, and the events in both directions."""

from typing import Any

from aiohttp import web
from pydantic import ConfigDict, RootModel

from support_service.api import app_keys


class Document(RootModel[dict[str, Any]]):
    """A description in the form that its name says."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"info": {"title": "support-service", "version": "1.0.0"}}]},
        defer_build=True,  # it only describes the documents
    )


async def openapi(request: web.Request) -> web.Response:
    """Describe every call for programs.

    An OpenAPI 3.1 document, which this page is made of. `support-service openapi` prints it too.
    """
    return web.Response(body=request.app[app_keys.API_DOCUMENTS].openapi(), content_type="application/json")


async def asyncapi(request: web.Request) -> web.Response:
    """Describe every event for programs.

    An AsyncAPI 3.0 document: what goes out by Redis stream and webhook, and what comes in by stream and by HTTP.
    """
    return web.Response(body=request.app[app_keys.API_DOCUMENTS].asyncapi(), content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    """Describe every call for people.

    This page. It runs no script, and loads nothing from anywhere else.
    """
    description = request.app[app_keys.API_DOCUMENTS]
    headers = {"Content-Security-Policy": description.page_policy()}
    return web.Response(text=description.page(), content_type="text/html", headers=headers)
