"""Sessions of browsers: each stands for the token, or the grant of the provider, that it was started with.

A browser has a random secret in a cookie. The database has only the secret's hash, and the token or grant encrypted
with a key that is derived from the secret. Neither of them can be read there. Each request decrypts the token and
verifies it as if the browser had sent it. So a token that expires or is revoked ends its sessions at once.

A grant has an ID token and a refresh token. The provider renews it before the ID token expires, so that the service
learns within minutes who has left or has other groups. One request of one replica asks for that: many providers end a
grant whose refresh token they get twice. For the same reason the answer is awaited for a minute. While the provider
does not answer, the session goes on for `SUPPORT_OIDC_OUTAGE_GRACE`.

Browsers send cookies with the requests of every page that they show. The cookie is SameSite=Strict, and unsafe methods
are refused unless the browser says that the request comes from the same origin.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiohttp import web
from multidict import istr

from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, Unauthenticated, Unavailable, problem
from support_service.guard.exchange import EXCHANGE
from support_service.guard.security import ORIGIN_HEADER, parse_origin
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.access.timings import SessionLimits, SignInTimings
from support_service.platform.database import Database, Row
from support_service.platform.database.tables import console_sessions

if TYPE_CHECKING:  # loads the packages that verify JWTs
    from support_service.platform.access.oidc import Grant, OidcProvider

SECRET_BYTES = 32
SECRET_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")  # the form of 32 random bytes
POLL_INTERVAL = 0.05  # seconds between reads of a session that another request renews
JWE_ALGORITHMS = ["dir", "A256GCM"]  # the key encrypts the token directly, and detects changes of it

_S = console_sessions.c
FIND_SESSION = sa.select(_S.sealed_token, _S.refresh_at).where(
    _S.id == sa.bindparam("session"), _S.expires_at > sa.bindparam("now")
)
END_SESSION = (
    console_sessions.delete().where(_S.id == sa.bindparam("session")).returning(_S.sealed_token, _S.refresh_at)
)
CLAIM_REFRESH = (
    console_sessions.update()
    .where(
        _S.id == sa.bindparam("session"),
        _S.refresh_at <= sa.bindparam("now"),
        sa.or_(_S.refreshing_until.is_(None), _S.refreshing_until <= sa.bindparam("now")),
    )
    .values(refreshing_until=sa.bindparam("until"))
    .returning(_S.sealed_token)
)
STORE_REFRESHED = (
    console_sessions.update()
    .where(_S.id == sa.bindparam("session"), _S.refreshing_until == sa.bindparam("until"))
    .values(sealed_token=sa.bindparam("sealed"), refresh_at=sa.bindparam("next"), refreshing_until=None)
)
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
SESSION_COOKIE = "support-session"
SECURE_PREFIX = "__Host-"  # browsers accept no such cookie over plain HTTP
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
        *,
        provider: "OidcProvider | None" = None,
        outage_grace: timedelta = timedelta(),
        timings: SignInTimings = SignInTimings(),
    ) -> None:
        self._database = database
        self._authenticator = authenticator
        self._now = now
        self._provider = provider
        self._outage_grace = outage_grace.total_seconds()
        self._timings = timings
        self._refreshes: set[asyncio.Task[Grant]] = set()
        self.limits = limits

    async def start(self, token: str) -> str:
        """Start a session for a token, and return its secret. Raises Unauthenticated and Unavailable."""
        await self._authenticator.authenticate([_as_bearer(token)])
        return await self._start(token, sha256(token.encode()).hexdigest(), None)

    async def start_for_grant(self, grant: "Grant") -> str:
        """Start a session for a verified grant of the provider, and return its secret."""
        person = f"{grant.claims['iss']} {grant.claims['sub']}"
        return await self._start(grant.to_json(), sha256(person.encode()).hexdigest(), self._next_refresh(grant))

    async def _start(self, content: str, owner: str, refresh_at: datetime | None) -> str:
        """Start a session. `owner` is the hash of the token or person, which has a limited number of sessions."""
        secret, now = secrets.token_urlsafe(SECRET_BYTES), self._now()
        row = {
            "id": _session_id(secret),
            "token_hash": owner,
            "sealed_token": seal(content, secret),
            "created_at": now,
            "expires_at": now + self.limits.lifetime,
            "refresh_at": refresh_at,
        }
        async with self._database.transaction() as tx:
            await tx.execute(END_EXPIRED_SESSIONS, {"now": now})
            await tx.execute(END_OLDEST_SESSIONS_OF_TOKEN, {"token": owner, "kept": self.limits.max_per_token - 1})
            await tx.execute(sa.insert(console_sessions).inline(), row)
        return secret

    async def authenticate(self, secret: str) -> Principal:
        """Return the caller that a session stands for."""
        row = await self._find(secret)
        if row.refresh_at is None:
            return await self._authenticator.authenticate([_as_bearer(unseal(row.sealed_token, secret))])
        return await self._authenticate_grant(secret, row)

    async def end(self, secret: str) -> "Grant | None":
        """End a session, unless it has ended. Return its grant, if it had one."""
        async with self._database.transaction() as tx:
            row = await tx.fetch_now(END_SESSION, {"session": _session_id(secret)})
        return None if row is None or row.refresh_at is None else _read_grant(row, secret)

    async def close(self) -> None:
        """Wait for renewals in progress: their refresh tokens are not stored yet."""
        if self._refreshes:
            await asyncio.wait(self._refreshes, timeout=self._timings.refresh_wait)

    async def _find(self, secret: str) -> Row:
        row = await self._database.fetch_now(FIND_SESSION, {"session": _session_id(secret), "now": self._now()})
        if row is None:
            raise _ended()
        return row

    async def _authenticate_grant(self, secret: str, row: Row) -> Principal:
        provider = self._provider
        if provider is None:
            raise _ended()  # it was started when the service had a provider
        grant = _read_grant(row, secret)
        if row.refresh_at <= self._now():
            grant = await self._renewed(provider, secret, grant)
        if grant.until + self._outage_grace <= self._now().timestamp():
            raise problem(
                "provider_unavailable", "The sign-in provider has not confirmed the session for too long; try again."
            )
        principal = provider.principal(grant)
        provider.count("accepted")
        return principal

    async def _renewed(self, provider: "OidcProvider", secret: str, grant: "Grant") -> "Grant":
        """Renew a grant that is due, or wait until another request has done it if the grant has expired."""
        if grant.refresh_token is None:
            await self.end(secret)
            raise _ended()
        now = self._now()
        until = now + timedelta(seconds=self._timings.refresh_claim)
        async with self._database.transaction() as tx:
            row = await tx.fetch_now(CLAIM_REFRESH, {"session": _session_id(secret), "now": now, "until": until})
        if row is not None:
            # The provider's new refresh token is stored also if the client goes away, or does not wait so long.
            task = asyncio.create_task(self._refresh(provider, secret, _read_grant(row, secret), until))
            self._refreshes.add(task)
            task.add_done_callback(self._forget)
            done, _ = await asyncio.wait({task}, timeout=self._timings.refresh_wait)
            return task.result() if done else grant
        deadline = now + timedelta(seconds=self._timings.refresh_wait)
        while grant.until <= self._now().timestamp() and self._now() < deadline:
            await asyncio.sleep(POLL_INTERVAL)
            row = await self._find(secret)
            grant = _read_grant(row, secret)
            if row.refresh_at > self._now():
                break
        return grant

    async def _refresh(self, provider: "OidcProvider", secret: str, grant: "Grant", until: datetime) -> "Grant":
        try:
            grant = await provider.refresh(grant)
        except Unauthenticated as refusal:
            await self.end(secret)
            raise _ended() from refusal
        except Unavailable:
            provider.count("unavailable")
        sealed, following = seal(grant.to_json(), secret), self._next_refresh(grant)
        stored = {"session": _session_id(secret), "until": until, "sealed": sealed, "next": following}
        await self._database.execute(STORE_REFRESHED, stored)
        return grant

    def _forget(self, task: "asyncio.Task[Grant]") -> None:
        self._refreshes.discard(task)
        if not task.cancelled():
            task.exception()  # or asyncio would log that nobody has retrieved it

    def _next_refresh(self, grant: "Grant") -> datetime:
        """Return when to renew a grant: before it expires, but not at once. One that can't be renewed: its end."""
        if grant.refresh_token is None:
            return datetime.fromtimestamp(grant.until, UTC)
        early = datetime.fromtimestamp(grant.until - self._timings.refresh_early, UTC)
        return max(early, self._now() + timedelta(seconds=self._timings.retry_interval))


def _read_grant(row: Row, secret: str) -> "Grant":
    from support_service.platform.access.oidc import Grant  # noqa: PLC0415 - loads the packages that verify JWTs

    return Grant.from_json(unseal(row.sealed_token, secret))


def _ended() -> SupportError:
    return problem("session_ended", "The session has ended; sign in again.")


def _as_bearer(token: str) -> str:
    return f"Bearer {token}"


def derive_key(secret: str, purpose: str) -> bytes:
    """Return a key for one purpose, from which the secret can't be computed."""
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), purpose.encode(), "sha256")


def _session_id(secret: str) -> str:
    return derive_key(secret, "id").hex()


def seal(text: str, secret: str) -> str:
    """Encrypt a text, which only the holder of the secret can read and change."""
    from joserfc import jwe  # noqa: PLC0415 - only sign-ins need it
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(derive_key(secret, "key"))
    return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, text.encode(), key, algorithms=JWE_ALGORITHMS)


def unseal(sealed: str, secret: str) -> str:
    from joserfc import jwe  # noqa: PLC0415
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(derive_key(secret, "key"))
    return (jwe.decrypt_compact(sealed, key, algorithms=JWE_ALGORITHMS).plaintext or b"").decode()


def cookie_name(request: web.Request, name: str = SESSION_COOKIE) -> str:
    """Return the name of the cookie that counts for a request: with `__Host-`, except for plain HTTP on loopback.

    Browsers send cookies of both names to loopback, after sign-ins over HTTPS and over plain HTTP; one may have ended.
    """
    own = request[EXCHANGE].own_origin()
    return name if own.scheme == "http" and own.is_loopback else f"{SECURE_PREFIX}{name}"


def read_cookie(request: web.Request, name: str = SESSION_COOKIE) -> str | None:
    """Return the secret in a cookie of a request; None without the cookie, or if it has not the form of a secret."""
    value = request.cookies.get(cookie_name(request, name), "") if COOKIE in request.headers else ""
    return value if SECRET_PATTERN.fullmatch(value) else None


def set_cookie(
    request: web.Request,
    response: web.StreamResponse,
    secret: str,
    lifetime: timedelta,
    *,
    name: str = SESSION_COOKIE,
    samesite: str = "Strict",
) -> None:
    """Give the browser a secret. Scripts can't read it, and with `Strict` other sites can't make a browser send it."""
    full_name = cookie_name(request, name)
    response.set_cookie(
        full_name,
        secret,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=full_name.startswith(SECURE_PREFIX),
        httponly=True,
        samesite=samesite,
    )


def remove_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    name = cookie_name(request)
    secure = name.startswith(SECURE_PREFIX)
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def check_same_origin(request: web.Request) -> None:
    """Raise Forbidden for a change by cookie that no page of this origin sent.

    `Origin` counts where a browser sends no `Sec-Fetch-Site`. A request without both comes from no known browser.
    """
    if request.method not in SAFE_METHODS and _is_from_own_page(request) is not True:
        raise problem(
            "origin_not_allowed", "With a session, only pages of this origin may change anything; send a token instead."
        )


def check_not_foreign(request: web.Request, allowed_origins: Collection[str]) -> None:
    """Raise Forbidden for a change by token that a page of another origin sent, unless its origin is allowed.

    A proxy that signs people in adds the token of the person to any request of their browser. A program sends neither
    header, and needs none.
    """
    if request.method in SAFE_METHODS or _is_from_own_page(request) is not False:
        return
    if request.headers.get(ORIGIN_HEADER) not in allowed_origins:
        raise problem(
            "origin_not_allowed", "A page of another origin sent this; SUPPORT_CORS_ORIGINS lists the allowed origins."
        )


def _is_from_own_page(request: web.Request) -> bool | None:
    """Return whether a page of this origin sent a request; None if it comes from no page, or from an unknown one."""
    site, origin = request.headers.get(SEC_FETCH_SITE), request.headers.get(ORIGIN_HEADER)
    if site is not None:
        return None if site == "none" else site == "same-origin"
    return None if origin is None else parse_origin(origin) == request[EXCHANGE].own_origin()
