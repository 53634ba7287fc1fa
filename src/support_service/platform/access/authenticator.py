"""Authenticators: they tell who calls, by the bearer token of a request (RFC 6750) or without authentication.

No package that only one kind of token needs is imported here.
"""

from collections.abc import Sequence
from typing import Protocol

from multidict import istr

from support_service.core.domain.principals import ANONYMOUS, Principal
from support_service.core.errors import Unauthenticated, Unavailable, problem
from support_service.core.part_state import OK
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

AUTHORIZATION = istr("Authorization")
MAX_TOKEN_LENGTH = 8192  # characters; a longer token is refused

ACCESS_AUTHENTICATIONS = InstrumentSpec(
    "support.access.authentications",
    "counter",
    "{request}",
    "Authentications of requests by outcome; unavailable: keys or tokens can't be read. No values with "
    "SUPPORT_AUTH=open",
    {"outcome": ("accepted", "missing", "invalid", "expired", "unavailable")},
)
ACCESS_TOKENS_AGE = InstrumentSpec(
    "support.access.tokens_age",
    "gauge",
    "s",
    "Time since the token file was last read, or found to be unchanged; 0 without SUPPORT_AUTH=token",
)
ACCESS_KEYS_AGE = InstrumentSpec(
    "support.access.keys_age",
    "gauge",
    "s",
    "Time since the keys that verify JWTs were last read, or since the first attempt; 0 without JWTs",
)


class Authenticator(Protocol):
    """The interface of authenticators, which identify callers by their Authorization headers."""

    def status(self) -> str:
        """Return OK, or the problem code of the last attempt to read the tokens or keys."""

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """Return the caller that a request's Authorization headers, possibly none, identify.

        Raises Unauthenticated, and Unavailable if callers cannot be verified at present.
        """


class AnonymousAuthenticator:
    """The authenticator of a service without authentication: every request is anonymous."""

    def status(self) -> str:
        return OK

    async def authenticate(self, authorization: Sequence[str]) -> Principal:  # noqa: ARG002 - the interface has it
        return ANONYMOUS


class TokenVerifier(Protocol):
    """The interface of token verifiers."""

    @property
    def fault_code(self) -> str | None:
        """The problem code of the last attempt to read the tokens or keys, or None if it succeeded."""

    async def verify(self, token: str) -> Principal:
        """Return the caller that a token identifies.

        Raises Unauthenticated, and Unavailable if tokens cannot be verified at present.
        """


class BearerAuthenticator:
    """An authenticator that accepts bearer tokens which its verifier accepts."""

    def __init__(self, verifier: TokenVerifier, instruments: Instruments) -> None:
        self._verifier = verifier
        self._instruments = instruments
        self._accepted = instruments.start_series(ACCESS_AUTHENTICATIONS, {"outcome": "accepted"})

    def status(self) -> str:
        """Return OK, or the problem code of the last attempt to read the tokens or keys."""
        return self._verifier.fault_code or OK

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """Return the caller that the bearer token identifies, and count the outcome."""
        try:
            caller = await self._verifier.verify(extract_bearer_token(authorization))
        except Unauthenticated as refusal:
            self._instruments.add(ACCESS_AUTHENTICATIONS, 1, {"outcome": refusal.code.removeprefix("token_")})
            raise
        except Unavailable:
            self._instruments.add(ACCESS_AUTHENTICATIONS, 1, {"outcome": "unavailable"})
            raise
        self._accepted.record(1)
        return caller


def extract_bearer_token(authorization: Sequence[str]) -> str:
    """Return the token in a request's Authorization headers. Raises Unauthenticated unless there is exactly one."""
    if not authorization:
        raise problem("token_missing", "Send a token: Authorization: Bearer TOKEN.")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
        raise problem("token_invalid", "Send one header of the form `Authorization: Bearer TOKEN`.")
    if len(token) > MAX_TOKEN_LENGTH:
        raise problem("token_invalid", f"The token is longer than {MAX_TOKEN_LENGTH} characters.")
    return token
