"""Sign-ins at the provider that have begun: bound to one browser, used once, and for ten minutes.

The browser has a random secret in a cookie. A row has a hash of the secret and of the `state` that the provider sends
back. It has what the sign-in needs, encrypted with the secret. So no other browser can end a sign-in, and any replica
can.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.platform.access.sessions import derive_key, seal, unseal
from support_service.platform.database import Database
from support_service.platform.database.tables import console_sign_ins

LIFETIME = timedelta(minutes=10)

_C = console_sign_ins.c
END_EXPIRED = console_sign_ins.delete().where(_C.expires_at <= sa.bindparam("now"))
TAKE = (
    console_sign_ins.delete()
    .where(_C.id == sa.bindparam("sign_in"), _C.expires_at > sa.bindparam("now"))
    .returning(_C.sealed)
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What ends a sign-in: the secrets of its request, where it leads, and the session that it replaces."""

    nonce: str
    code_verifier: str
    redirect_uri: str
    next: str
    replaced: str | None = None


class PendingSignIns:
    """Stores sign-ins that have begun, and takes each once."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def begin(self, secret: str, state: str, sign_in: SignIn) -> None:
        """Store a sign-in of the browser with this secret."""
        now = self._now()
        row = {
            "id": _id(secret, state),
            "sealed": seal(json.dumps(asdict(sign_in)), secret),
            "expires_at": now + LIFETIME,
        }
        async with self._database.transaction() as tx:
            await tx.execute(END_EXPIRED, {"now": now})
            await tx.execute(sa.insert(console_sign_ins).inline(), row)

    async def take(self, secret: str, state: str) -> SignIn | None:
        """Return a sign-in, and forget it; None if this browser has begun none with this state, or has ended it."""
        async with self._database.transaction() as tx:
            row = await tx.fetch_one(TAKE, {"sign_in": _id(secret, state), "now": self._now()})
        return None if row is None else SignIn(**json.loads(unseal(row.sealed, secret)))


def _id(secret: str, state: str) -> str:
    return derive_key(secret, f"sign-in {state}").hex()
