"""Setup of the API: adds the routes of the table and the API descriptions to an app."""

from functools import partial

from aiohttp import web

from support_service.api import app_keys
from support_service.api.authorization import require_access_rules
from support_service.api.routes import ROUTES

DEFAULT_BASE_URL = "http://127.0.0.1:8000"  # base URL of the page's curl examples if no public URL is set


def add_routes(app: web.Application) -> None:
    """Add every route and the API descriptions to the app. GET routes also answer HEAD.

    Raises LookupError if a route has no access rule.
    """
    options = app[app_keys.HTTP_OPTIONS]
    app[app_keys.API_DOCUMENTS] = app_keys.ApiDocuments(
        openapi=partial(_openapi, secured=options.secured),
        asyncapi=partial(_asyncapi, *options.streams),
        page=partial(_page, options.public_url or DEFAULT_BASE_URL, secured=options.secured),
        page_policy=_page_policy,
    )
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)
    require_access_rules(app)


# Descriptions, and the modules that build them, are loaded on first request, because most processes never need them.


def _openapi(*, secured: bool) -> bytes:
    from support_service.api.openapi import document

    return document.body(secured=secured)


def _asyncapi(outbound: str, inbound: str) -> bytes:
    from support_service.api.openapi import asyncapi

    return asyncapi.body(outbound, inbound)


def _page(base: str, *, secured: bool) -> str:
    from support_service.api.openapi import page

    return page.page(base, secured=secured)


def _page_policy() -> str:
    from support_service.api.openapi import page

    return page.content_security_policy()
