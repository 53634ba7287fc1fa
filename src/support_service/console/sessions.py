"""Sign-in and sign-out: a token is exchanged for a cookie, so that no script keeps the token."""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from support_service.core.errors import problem
from support_service.guard.exchange import EXCHANGE
from support_service.guard.json_body import read_model
from support_service.platform.access.authenticator import MAX_TOKEN_LENGTH
from support_service.platform.access.sessions import (
    BrowserSessions,
    check_same_origin,
    read_cookie,
    remove_session_cookie,
    set_cookie,
)
from support_service.service import SERVICE

SESSION_PATH = "/console/session"


class SignIn(BaseModel):
    """The body of a sign-in."""

    model_config = ConfigDict(hide_input_in_errors=True)

    token: str = Field(min_length=1, max_length=MAX_TOKEN_LENGTH, repr=False)


async def sign_in(request: web.Request) -> web.Response:
    """Start a session for the token in the body, and set its cookie. It replaces the session that the browser had."""
    check_same_origin(request)
    check_https(request)
    sessions = browser_sessions(request)
    secret = await sessions.start((await read_model(request, SignIn)).token.strip())
    replaced = read_cookie(request)
    if replaced is not None:
        await sessions.end(replaced)
    response = web.Response(status=204)
    set_cookie(request, response, secret, sessions.limits.lifetime)
    return response


async def sign_out(request: web.Request) -> web.Response:
    """End the session of the cookie, and remove the cookie."""
    check_same_origin(request)
    secret = read_cookie(request)
    if secret is not None:
        await browser_sessions(request).end(secret)
    response = web.Response(status=204)
    remove_session_cookie(request, response)
    return response


def check_https(request: web.Request) -> None:
    """Raise Forbidden for a sign-in whose secrets could be read on the way."""
    own = request[EXCHANGE].own_origin()
    if own.scheme != "https" and not own.is_loopback:
        raise problem("https_required", "Sign in over HTTPS; plain HTTP works on this machine only.")


def browser_sessions(request: web.Request) -> BrowserSessions:
    sessions = request.app[SERVICE].sessions
    assert sessions is not None  # noqa: S101 - without authentication the app has no route to here
    return sessions
