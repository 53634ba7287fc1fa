"""The cookie of a browser's session, and the check that a request which it authorizes comes from a page of the service.

Browsers send cookies with the requests of every page that they show. The cookie is SameSite=Strict, and unsafe methods
are refused unless the browser says that the request comes from the same origin.
"""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web
from multidict import istr

from support_service.core.errors import Forbidden
from support_service.guard.component import ADMISSION
from support_service.guard.security import HOST, ORIGIN, is_loopback, is_same_origin, own_url
from support_service.platform.access.sessions import BrowserSessions

COOKIE = istr("Cookie")
SECURE_NAME = "__Host-support-session"
LOOPBACK_NAME = "support-session"  # plain HTTP: browsers accept no `__Host-` cookie there
SEC_FETCH_SITE = istr("Sec-Fetch-Site")
SAFE_METHODS = frozenset({"GET", "HEAD"})


def is_secure(request: web.Request) -> bool:
    """Return True if the client's request came over HTTPS."""
    return request.app[ADMISSION].scheme(request) == "https"


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie that counts for a request.

    Browsers send cookies of both names to loopback, after sign-ins over HTTPS and over plain HTTP; one may have ended.
    """
    return LOOPBACK_NAME if is_loopback(request.headers.get(HOST, "")) and not is_secure(request) else SECURE_NAME


def session_secret(request: web.Request) -> str | None:
    """Return the secret in the cookie of a request, or None."""
    return request.cookies.get(cookie_name(request)) if COOKIE in request.headers else None


async def session_authorization(request: web.Request, sessions: BrowserSessions) -> tuple[str | None, Sequence[str]]:
    """Return the secret of the session of a request, and the Authorization headers that it stands for; none without.

    Raises Unauthenticated if the session has ended, and Forbidden for a change that another site's page may have sent.
    """
    secret = session_secret(request)
    if secret is None:
        return None, ()
    expect_same_origin(request)
    return secret, (await sessions.authorization(secret),)


def set_session_cookie(request: web.Request, response: web.StreamResponse, secret: str, lifetime: timedelta) -> None:
    """Give the browser a session's secret. Scripts can't read it, and other sites can't make a browser send it."""
    response.set_cookie(
        name := cookie_name(request),
        secret,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=name == SECURE_NAME,
        httponly=True,
        samesite="Strict",
    )


def remove_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Make the browser forget the cookie."""
    name = cookie_name(request)
    response.del_cookie(name, path="/", secure=name == SECURE_NAME, httponly=True, samesite="Strict")


def expect_same_origin(request: web.Request) -> None:
    """Raise Forbidden for an unsafe method that no page of this origin sent.

    `Origin` counts where a browser sends no `Sec-Fetch-Site`. A request without both comes from no known browser.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get(SEC_FETCH_SITE)
    if site is None:
        own = own_url(request, request.app[ADMISSION].scheme(request))
        is_same = is_same_origin(request.headers.get(ORIGIN, ""), own)
    else:
        is_same = site == "same-origin"
    if not is_same:
        raise Forbidden(
            "origin_not_allowed", "With a session, only pages of this origin may change anything; send a token instead."
        )
