"""Sign-ins at the provider that have begun: bound to one browser, used once, and for ten minutes.

The browser has a random secret in a cookie. A row has a hash of the secret and of the `state` that the provider sends
back. It has what the sign-in needs, encrypted with the secret. So no other browser can end a sign-in, and any replica
can.

Anybody can begin a sign-in. So the oldest sign-ins give way: of one address at one replica, and of all addresses. A
refusal would let one client lock out all others behind the same address.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.platform.access.sessions import derive_key, seal, unseal
from support_service.platform.access.timings import SessionLimits
from support_service.platform.database import Database
from support_service.platform.database.tables import console_sign_ins

LIFETIME = timedelta(minutes=10)

_C = console_sign_ins.c
END_EXPIRED = console_sign_ins.delete().where(_C.expires_at <= sa.bindparam("now"))
END = console_sign_ins.delete().where(_C.id == sa.bindparam("sign_in"))
END_OLDEST = console_sign_ins.delete().where(
    _C.expires_at
    <= sa.select(_C.expires_at).order_by(_C.expires_at.desc()).limit(1).offset(sa.bindparam("kept")).scalar_subquery()
)
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

    def __init__(
        self, database: Database, limits: SessionLimits = SessionLimits(), now: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._now = now
        self._limits = limits
        self._begun: dict[str, str] = {}  # the address of each sign-in that began at this replica, the oldest first

    async def begin(self, secret: str, state: str, sign_in: SignIn, address: str) -> None:
        """Store a sign-in of the browser with this secret, which has this address."""
        now = self._now()
        row = {
            "id": (begun := _id(secret, state)),
            "sealed": seal(json.dumps(asdict(sign_in)), secret),
            "expires_at": now + LIFETIME,
        }
        async with self._database.transaction() as tx:
            await tx.execute(END_EXPIRED, {"now": now})
            await tx.execute(END_OLDEST, {"kept": self._limits.max_sign_ins - 1})
            if oldest := self._note(begun, address):
                await tx.execute(END, {"sign_in": oldest})
            await tx.execute(sa.insert(console_sign_ins).inline(), row)

    async def take(self, secret: str, state: str) -> SignIn | None:
        """Return a sign-in, and forget it; None if this browser has begun none with this state, or has ended it."""
        taken = _id(secret, state)
        self._begun.pop(taken, None)
        async with self._database.transaction() as tx:
            row = await tx.fetch_now(TAKE, {"sign_in": taken, "now": self._now()})
        return None if row is None else SignIn(**json.loads(unseal(row.sealed, secret)))

    def _note(self, begun: str, address: str) -> str | None:
        """Note a sign-in that begins at an address. Return the oldest one of the address if that is one too many."""
        of_address = [each for each, its_address in self._begun.items() if its_address == address]
        oldest = of_address[0] if len(of_address) >= self._limits.max_sign_ins_per_address else None
        if oldest is not None or len(self._begun) >= self._limits.max_sign_ins:
            del self._begun[oldest or next(iter(self._begun))]
        self._begun[begun] = address
        return oldest


def _id(secret: str, state: str) -> str:
    return derive_key(secret, f"sign-in {state}").hex()
