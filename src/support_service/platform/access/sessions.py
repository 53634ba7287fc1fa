"""Sessions of browsers: each stands for the token that it was started with, and ends with it.

A browser has a random secret in a cookie. The database has only the secret's hash, and the token encrypted with a key
that is derived from the secret: neither of them can be read there. Each request decrypts the token and verifies it as
if the browser had sent it, so that a token that expires or is revoked ends its sessions at once.
"""

import hmac
import secrets
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.errors import Unauthenticated
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database import Database
from support_service.platform.database.tables import console_sessions

SECRET_BYTES = 32
ALGORITHMS = ["dir", "A256GCM"]  # the key encrypts the token directly, and detects changes of it

_S = console_sessions.c
FIND = sa.select(_S.sealed_token).where(_S.id == sa.bindparam("session"), _S.expires_at > sa.bindparam("now"))
END = console_sessions.delete().where(_S.id == sa.bindparam("session"))
END_EXPIRED = console_sessions.delete().where(_S.expires_at <= sa.bindparam("now"))
_NEWEST = (
    sa.select(_S.id)
    .where(_S.token_hash == sa.bindparam("token"))
    .order_by(_S.created_at.desc(), _S.id)
    .limit(sa.bindparam("kept"))
)
END_OLDEST = console_sessions.delete().where(_S.token_hash == sa.bindparam("token"), _S.id.not_in(_NEWEST))


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
            await tx.execute(END_EXPIRED, {"now": now})
            await tx.execute(END_OLDEST, {"token": token_hash, "kept": self.limits.max_per_token - 1})
            await tx.execute(sa.insert(console_sessions).inline(), row)
        return secret

    async def authorization(self, secret: str) -> str:
        """Return the Authorization header that a session stands for; the caller verifies its token.

        Raises Unauthenticated if there is no such session.
        """
        row = await self._database.fetch_one(FIND, {"session": _session_id(secret), "now": self._now()})
        if row is None:
            raise Unauthenticated("session_ended", "The session has ended; sign in again.")
        return _as_bearer(_unseal(row.sealed_token, secret))

    async def end(self, secret: str) -> None:
        """End a session; one that has ended stays so."""
        async with self._database.transaction() as tx:
            await tx.execute(END, {"session": _session_id(secret)})


def _as_bearer(token: str) -> str:
    return f"Bearer {token}"


def _derive(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode("utf-8", "surrogateescape"), purpose.encode(), "sha256")


def _session_id(secret: str) -> str:
    return _derive(secret, "id").hex()


def _seal(token: str, secret: str) -> str:
    from joserfc import jwe  # noqa: PLC0415 - only sign-ins need it
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(_derive(secret, "key"))
    return jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, token.encode(), key, algorithms=ALGORITHMS)


def _unseal(sealed: str, secret: str) -> str:
    from joserfc import jwe  # noqa: PLC0415
    from joserfc.jwk import OctKey  # noqa: PLC0415

    key = OctKey.import_key(_derive(secret, "key"))
    return (jwe.decrypt_compact(sealed, key, algorithms=ALGORITHMS).plaintext or b"").decode()
