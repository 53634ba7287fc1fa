"""The whole API on an app: every route of the table, and what describes them."""

from functools import partial

from aiohttp import web

from support_service.web import asyncapi, docs, keys, openapi
from support_service.web.access import expect_ruled
from support_service.web.routes import ROUTES

LOCAL = "http://127.0.0.1:8000"  # where the page's examples call a service that doesn't know its own address


def install(app: web.Application) -> None:
    """Give an app every route; a GET answers HEAD too."""
    options = app[keys.HTTP]
    app[keys.DESCRIPTION] = keys.Description(
        openapi=partial(openapi.body, secured=options.secured),
        asyncapi=partial(asyncapi.body, *options.streams),
        page=partial(docs.page, options.public_url or LOCAL, secured=options.secured),
        page_policy=docs.policy,
    )
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)
    expect_ruled(app)
