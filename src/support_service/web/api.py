"""The whole API on an app: every route of the table, and those that describe it."""

from aiohttp import web

from support_service.web.access import expect_ruled
from support_service.web.asyncapi import asyncapi
from support_service.web.openapi import docs, openapi
from support_service.web.routes import ROUTES


def install(app: web.Application) -> None:
    """Give an app every route; a GET answers HEAD too."""
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)
    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/asyncapi.json", asyncapi)
    app.router.add_get("/docs", docs)
    expect_ruled(app)
