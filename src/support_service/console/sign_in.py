"""Sign-in at the provider: the way there, the way back, and the logout at both."""

import logging
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple, cast

from aiohttp import web

from support_service.console.pages import HOME_PATH, SIGN_IN_PAGE, SIGN_IN_PATH, redirect, shell_response
from support_service.console.sessions import browser_sessions, check_https
from support_service.core.errors import Unauthenticated, Unavailable, problem
from support_service.guard.exchange import EXCHANGE
from support_service.platform.access.sessions import (
    SEC_FETCH_SITE,
    SECRET_BYTES,
    read_cookie,
    remove_session_cookie,
    set_cookie,
)
from support_service.platform.access.sign_ins import LIFETIME, SignIn
from support_service.service import SERVICE

if TYPE_CHECKING:  # loads the packages that verify JWTs
    from support_service.platform.access.oidc import Grant, OidcProvider

LOGIN_PATH = "/console/login"
CALLBACK_PATH = "/console/callback"
LOGOUT_PATH = "/console/logout"
COOKIE_NAME = "support-sign-in"
# Pages of the console, to which a sign-in may lead: no other host, and nothing of the sign-in itself.
OWN_PAGE = re.compile(r"/console/(?:(?:cases|customers)/[^/\\?#]+|oncall|audit)?(?:\?[^#\\]*)?")

log = logging.getLogger(__name__)


class FailedSignIn(NamedTuple):
    """A sign-in that has failed: the code of the text that the page shows, the status and the outcome that counts."""

    code: str
    status: int
    outcome: str = "invalid"


UNAVAILABLE = FailedSignIn("provider_unavailable", 503, "unavailable")


def add_routes(app: web.Application) -> None:
    """Add the routes of a service with a provider."""
    app.router.add_get(LOGIN_PATH, begin_sign_in, allow_head=False)
    app.router.add_get(CALLBACK_PATH, end_sign_in, allow_head=False)
    app.router.add_get(LOGOUT_PATH, log_out, allow_head=False)


async def begin_sign_in(request: web.Request) -> web.StreamResponse:
    """Send the browser to the provider, with a sign-in that only this browser can end."""
    check_https(request)
    provider = _provider(request)
    sign_in = SignIn(
        nonce=secrets.token_urlsafe(SECRET_BYTES),
        code_verifier=secrets.token_urlsafe(SECRET_BYTES),
        redirect_uri=_own_url(request) + CALLBACK_PATH,
        next=own_page(request.query.get("next", "")),
        replaced=read_cookie(request),
    )
    state = secrets.token_urlsafe(SECRET_BYTES)
    try:
        await provider.check_available()
        location = provider.authorization_url(
            state=state, nonce=sign_in.nonce, code_verifier=sign_in.code_verifier, redirect_uri=sign_in.redirect_uri
        )
    except Unavailable:
        return _failure_page(request, provider, UNAVAILABLE)
    # The sign-ins of two tabs share the cookie, so that both can end.
    secret = read_cookie(request, COOKIE_NAME) or secrets.token_urlsafe(SECRET_BYTES)
    address = request[EXCHANGE].address
    await request.app[SERVICE].sign_ins.begin(secret, state, sign_in, address)
    response = redirect(location)
    # Lax: the provider's page leads back here.
    set_cookie(request, response, secret, LIFETIME, name=COOKIE_NAME, samesite="Lax")
    return response


async def end_sign_in(request: web.Request) -> web.StreamResponse:
    """Start a session for the person whom the provider has sent back, or say why there is none."""
    provider = _provider(request)
    sign_in = await _taken(request)
    if isinstance(sign_in, FailedSignIn):
        return _failure_page(request, provider, sign_in)
    grant = await _redeemed(request, provider, sign_in)
    if isinstance(grant, FailedSignIn):
        return _failure_page(request, provider, grant)
    sessions = browser_sessions(request)
    secret = await sessions.start_for_grant(grant)
    if sign_in.replaced is not None:
        await sessions.end(sign_in.replaced)
    provider.count("accepted")
    response = _leading_page(sign_in.next)
    set_cookie(request, response, secret, sessions.limits.lifetime)
    return response


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session here and at the provider. Another site's page ends none."""
    if request.headers.get(SEC_FETCH_SITE, "same-origin") not in ("same-origin", "none"):
        return redirect(SIGN_IN_PATH)
    secret = read_cookie(request)
    grant = await browser_sessions(request).end(secret) if secret is not None else None
    url = _provider(request).logout_url(grant, _own_url(request) + SIGN_IN_PATH) if grant is not None else None
    response = redirect(url or SIGN_IN_PATH)
    remove_session_cookie(request, response)
    return response


def own_page(address: str) -> str:
    """Return the address of a page of the console, or the queue for any other address."""
    return address if OWN_PAGE.fullmatch(address) and address.isprintable() else HOME_PATH


async def _taken(request: web.Request) -> SignIn | FailedSignIn:
    """Return the sign-in that this browser has begun. It fails if there is none, or if it has been ended.

    A repeated parameter is refused (RFC 6749), because a proxy may have checked the other value.
    """
    if any(len(request.query.getall(name, ())) > 1 for name in ("state", "code", "error", "iss")):
        return FailedSignIn("invalid", 400)
    secret, state = read_cookie(request, COOKIE_NAME), request.query.get("state")
    sign_in = await request.app[SERVICE].sign_ins.take(secret, state) if secret and state else None
    if sign_in is None:
        return FailedSignIn("expired", 400, "expired")
    return sign_in


async def _redeemed(request: web.Request, provider: "OidcProvider", sign_in: SignIn) -> "Grant | FailedSignIn":
    """Return the grant of the provider, for a person with a role."""
    query = request.query
    if error := query.get("error"):
        log.warning("The provider refused a sign-in: %r", error[:64])
        failed = FailedSignIn("denied" if error == "access_denied" else "invalid", 403)
        return UNAVAILABLE if error in ("server_error", "temporarily_unavailable") else failed
    if query.get("iss", provider.issuer) != provider.issuer:  # RFC 9207: the answer is of another provider
        return FailedSignIn("invalid", 400)
    try:
        grant = await provider.redeem(
            query.get("code", ""),
            nonce=sign_in.nonce,
            code_verifier=sign_in.code_verifier,
            redirect_uri=sign_in.redirect_uri,
        )
    except Unauthenticated as refusal:
        log.warning("A sign-in failed: %s", refusal)
        return FailedSignIn("invalid", 400)
    except Unavailable:
        return UNAVAILABLE
    try:
        provider.principal(grant)
    except Unauthenticated as refusal:
        log.warning("A person whom the provider has signed in may not use the service: %s", refusal)
        return FailedSignIn("no_role", 403)
    return grant


def _failure_page(request: web.Request, provider: "OidcProvider", failure: FailedSignIn) -> web.Response:
    provider.count(failure.outcome)
    return shell_response(request, SIGN_IN_PAGE, failure.status, failure.code)


def _leading_page(address: str) -> web.Response:
    """Return a page that leads to a page of the console.

    A browser that the provider's page leads here sends no cookie of `SameSite=Strict` along a redirect.
    """
    import htpy as h  # noqa: PLC0415 - most processes never serve a page

    content = h.html(lang="en")[
        h.head[
            h.meta(charset="utf-8"),
            h.title["Support console"],
            h.meta(http_equiv="refresh", content=f"0;url={address}"),
        ],
        h.body[h.a(href=address)["Support console"]],
    ]
    return web.Response(text=str(content), content_type="text/html")


def _provider(request: web.Request) -> "OidcProvider":
    return cast("OidcProvider", request.app[SERVICE].provider)  # without a provider the app has no route to here


def _own_url(request: web.Request) -> str:
    """Return the address of the service as the browser knows it: its cookies belong there. Raises ValidationFailed."""
    own = request[EXCHANGE].own_origin()
    if not own.host:
        raise problem("malformed_request", "The header Host is missing. The sign-in leads back to this host.")
    return str(own)
