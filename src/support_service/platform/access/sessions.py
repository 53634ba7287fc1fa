"""Sessions of browsers: each stands for the token that it was started with, and ends with it.

A browser has a random secret in a cookie. The database has only the secret's hash, and the token encrypted with a key
that is derived from the secret: neither of them can be read there. Each request decrypts the token and verifies it as
if the browser had sent it, so that a token that expires or is revoked ends its sessions at once.

Browsers send cookies with the requests of every page that they show. The cookie is SameSite=Strict, and unsafe methods
are refused unless the browser says that the request comes from the same origin.
"""

import hmac
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa
from aiohttp import web
from multidict import istr

from support_service.core.clock import utc_now
from support_service.core.errors import Forbidden, Unauthenticated
from support_service.guard.guard import GUARD
from support_service.guard.security import HOST_HEADER, ORIGIN_HEADER, is_loopback, is_same_origin, own_url
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database import Database
from support_service.platform.database.tables import console_sessions

SECRET_BYTES = 32
JWE_ALGORITHMS = ["dir", "A256GCM"]  # the key encrypts the token directly, and detects changes of it

_S = console_sessions.c
FIND_SEALED_TOKEN = sa.select(_S.sealed_token).where(
    _S.id == sa.bindparam("session"), _S.expires_at > sa.bindparam("now")
)
END_SESSION = console_sessions.delete().where(_S.id == sa.bindparam("session"))
END_EXPIRED_SESSIONS = console_sessions.delete().where(_S.expires_at <= sa.bindparam("now"))
_NEWEST_SESSIONS_OF_TOKEN = (
    sa.select(_S.id)
    .where(_S.token_hash == sa.bindparam("token"))
    .order_by(_S.created_at.desc(), _S.id)
    .limit(sa.bindparam("kept"))
)
END_OLDEST_SESSIONS_OF_TOKEN = console_sessions.delete().where(
    _S.token_hash == sa.bindparam("token"), _S.id.not_in(_NEWEST_SESSIONS_OF_TOKEN)
)

COOKIE = istr("Cookie")
SECURE_COOKIE_NAME = "__Host-support-session"
LOOPBACK_COOKIE_NAME = "support-session"  # plain HTTP: browsers accept no `__Host-` cookie there
SEC_FETCH_SITE = istr("Sec-Fetch-Site")
SAFE_METHODS = frozenset({"GET", "HEAD"})


class BrowserSessions:
    """Starts, reads and ends sessions. They are in the database: replicas share them, and they survive a restart."""

    def __init__(
        self,
        database: Database,
        authenticator: Authenticator,
        limits: SessionLimits = SessionLimits(),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._now = now
        self.limits = limits

    async def start(self, token: str) -> str:
        """Start a session for a token, and return its secret. Raises Unauthenticated and Unavailable."""
        await self._authenticator.authenticate([_as_bearer(token)])
        secret, now = secrets.token_urlsafe(SECRET_BYTES), self._now()
        token_hash = sha256(token.encode()).hexdigest()
        row = {
            "id": _session_id(secret),
            "token_hash": token_hash,
            "sealed_token": _seal(token, secret),
            "created_at": now,
            "expires_at": now + self.limits.lifetime,
        }
        async with self._database.transaction() as tx:
            await tx.execute(END_EXPIRED_SESSIONS, {"now": now})
            await tx.execute(END_OLDEST_SESSIONS_OF_TOKEN, {"token": token_hash, "kept": self.limits.max_per_token - 1})
            await tx.execute(sa.insert(console_sessions).inline(), row)
        return secret

    async def authorization(self, secret: str) -> str:
        """Return the Authorization header that a session stands for; the caller verifies its token.

        Raises Unauthenticated if the session has ended.
        """
        row = await self._database.fetch_one(FIND_SEALED_TOKEN, {"session": _session_id(secret), "now": self._now()})
        if row is None:
            raise Unauthenticated("session_ended", "The session has ended; sign in again.")
        return _as_bearer(_unseal(row.sealed_token, secret))

    async def end(self, secret: str) -> None:
        """End a session, unless it has ended."""
        async with self._database.transaction() as tx:
            await tx.execute(END_SESSION, {"session": _session_id(secret)})


def _as_bearer(token: str) -> str:
    return f"Bearer {token}"


def _derive_key(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), purpose.encode(), "sha256")


def _session_id(secret: str) -> str:
    return _derive_key(secret, "id").hex()


def _seal(token: str, secret: str) -> str:
    from joserfc import jwe  # noqa: PLC0415 - only sign-ins need it
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(_derive_key(secret, "key"))
    return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, token.encode(), key, algorithms=JWE_ALGORITHMS)


def _unseal(sealed: str, secret: str) -> str:
    from joserfc import jwe  # noqa: PLC0415
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(_derive_key(secret, "key"))
    return (jwe.decrypt_compact(sealed, key, algorithms=JWE_ALGORITHMS).plaintext or b"").decode()


def is_secure(request: web.Request) -> bool:
    """Return True if the client's request came over HTTPS."""
    return request[GUARD].admission.scheme(request) == "https"


def cookie_name(request: web.Request) -> str:
    """Return the name of the cookie that counts for a request.

    Browsers send cookies of both names to loopback, after sign-ins over HTTPS and over plain HTTP; one may have ended.
    """
    return (
        LOOPBACK_COOKIE_NAME
        if is_loopback(request.headers.get(HOST_HEADER, "")) and not is_secure(request)
        else SECURE_COOKIE_NAME
    )


def session_secret(request: web.Request) -> str | None:
    """Return the secret in the cookie of a request, or None."""
    return request.cookies.get(cookie_name(request)) if COOKIE in request.headers else None


async def read_session_authorization(
    request: web.Request, sessions: BrowserSessions
) -> tuple[str | None, Sequence[str]]:
    """Return the secret of the session of a request, and the Authorization headers that it stands for; none without.

    Raises Unauthenticated if the session has ended, and Forbidden for a change that another site's page may have sent.
    """
    secret = session_secret(request)
    if secret is None:
        return None, ()
    check_same_origin(request)
    return secret, (await sessions.authorization(secret),)


def set_session_cookie(request: web.Request, response: web.StreamResponse, secret: str, lifetime: timedelta) -> None:
    """Give the browser a session's secret. Scripts can't read it, and other sites can't make a browser send it."""
    response.set_cookie(
        name := cookie_name(request),
        secret,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=name == SECURE_COOKIE_NAME,
        httponly=True,
        samesite="Strict",
    )


def remove_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Make the browser forget the cookie."""
    name = cookie_name(request)
    response.del_cookie(name, path="/", secure=name == SECURE_COOKIE_NAME, httponly=True, samesite="Strict")


def check_same_origin(request: web.Request) -> None:
    """Raise Forbidden for an unsafe method that no page of this origin sent.

    `Origin` counts where a browser sends no `Sec-Fetch-Site`. A request without both comes from no known browser.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get(SEC_FETCH_SITE)
    if site is None:
        own = own_url(request, request[GUARD].admission.scheme(request))
        is_same = is_same_origin(request.headers.get(ORIGIN_HEADER, ""), own)
    else:
        is_same = site == "same-origin"
    if not is_same:
        raise Forbidden(
            "origin_not_allowed", "With a session, only pages of this origin may change anything; send a token instead."
        )
