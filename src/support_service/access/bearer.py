"""Bearer tokens (RFC 6750): extracted from a request, passed to a verifier, and counted by outcome."""

from collections.abc import Sequence
from typing import Protocol

from opentelemetry.metrics import Counter

from support_service.core.errors import Unauthenticated, Unavailable
from support_service.core.principals import Caller

LONGEST = 8192  # characters; a longer token is refused
ACCEPTED = {"outcome": "accepted"}


class Verifier(Protocol):
    """The interface of token verifiers."""

    async def open(self) -> None:
        """Load the tokens or keys. Raises Unavailable if they cannot be loaded."""

    async def close(self) -> None:
        """Release the resources that `open` acquired."""

    async def verify(self, token: str) -> Caller:
        """Return the caller that a token identifies.

        Raises Unauthenticated, and Unavailable if tokens cannot be verified at present.
        """


class Bearer:
    """An authenticator that accepts bearer tokens which its verifier accepts."""

    def __init__(self, verifier: Verifier, authentications: Counter) -> None:
        self._verifier = verifier
        self._authentications = authentications

    async def open(self) -> None:
        await self._verifier.open()

    async def close(self) -> None:
        await self._verifier.close()

    async def identify(self, authorization: Sequence[str]) -> Caller:
        """Return the caller that the bearer token identifies, and count the outcome.

        Raises Unauthenticated, and Unavailable if tokens cannot be verified at present.
        """
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
    """Return the token in a request's Authorization headers. Raises Unauthenticated unless there is exactly one."""
    if not authorization:
        raise Unauthenticated("token_missing", "Send a token: Authorization: Bearer TOKEN.")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
        raise Unauthenticated("token_invalid", "Send one header of the form `Authorization: Bearer TOKEN`.")
    if len(token) > LONGEST:
        raise Unauthenticated("token_invalid", f"The token is longer than {LONGEST} characters.")
    return token
