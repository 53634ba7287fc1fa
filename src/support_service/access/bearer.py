"""Bearer tokens, as RFC 6750 has them: taken out of a request, handed to who knows them, counted by outcome."""

from collections.abc import Sequence
from typing import Protocol

from opentelemetry.metrics import Counter

from support_service.core.errors import Unauthenticated, Unavailable
from support_service.core.principals import Caller

LONGEST = 8192  # characters of a token that are looked at
ACCEPTED = {"outcome": "accepted"}


class Verifier(Protocol):
    """Knows whose a token is."""

    async def open(self) -> None:
        """Read what tokens are known by; raises Unavailable where that can't be had."""

    async def close(self) -> None:
        """Let go of what `open` took."""

    async def verify(self, token: str) -> Caller:
        """The caller who sends a token; raises Unauthenticated, and Unavailable where nobody can tell."""


class Bearer:
    """Lets in whoever sends a token that a verifier knows."""

    def __init__(self, verifier: Verifier, authentications: Counter) -> None:
        self._verifier = verifier
        self._authentications = authentications

    async def open(self) -> None:
        await self._verifier.open()

    async def close(self) -> None:
        await self._verifier.close()

    async def identify(self, authorization: Sequence[str]) -> Caller:
        """The caller; raises Unauthenticated where none is known, and Unavailable where nobody can tell."""
        try:
            caller = await self._verifier.verify(bearer(authorization))
        except Unauthenticated as refusal:
            self._authentications.add(1, {"outcome": refusal.code.removeprefix("token_")})
            raise
        except Unavailable:
            self._authentications.add(1, {"outcome": "unavailable"})
            raise
        self._authentications.add(1, ACCEPTED)
        return caller


def bearer(authorization: Sequence[str]) -> str:
    """The token in a request's Authorization headers; raises Unauthenticated where there is not exactly one."""
    if not authorization:
        raise Unauthenticated("token_missing", "Send a token: Authorization: Bearer TOKEN.")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
        raise Unauthenticated("token_invalid", "Send one header of the form `Authorization: Bearer TOKEN`.")
    if len(token) > LONGEST:
        raise Unauthenticated("token_invalid", f"The token is longer than {LONGEST} characters.")
    return token
