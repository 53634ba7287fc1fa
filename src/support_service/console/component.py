"""The console component: the routes of its pages, and the sessions of browsers."""

from typing import Literal

from aiohttp import web

from support_service.console import pages
from support_service.console.sessions import SESSION, sign_in, sign_out
from support_service.core.http import any_segment


def setup(app: web.Application, auth: Literal["open", "token", "jwt"]) -> None:
    """Add the pages, and sign-in and sign-out unless authentication is off."""
    app.router.add_get("/", pages.redirect_home)
    app.router.add_get(pages.HOME.rstrip("/"), pages.add_slash)
    for page in pages.PAGES:
        app.router.add_get(any_segment(page.path), pages.page_handler(auth, page))
    app.router.add_get(pages.SIGN_IN, pages.sign_in_handler(auth))
    app.router.add_get(pages.ASSET, pages.serve_asset)
    if auth == "open":
        return

    app.router.add_post(SESSION, sign_in)
    app.router.add_delete(SESSION, sign_out)
