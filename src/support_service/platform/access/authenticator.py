"""The interface of authenticators, and the authenticator of a service without authentication."""

from collections.abc import Sequence
from typing import Protocol

from support_service.core.domain.principals import ANONYMOUS, Principal


class Authenticator(Protocol):
    """The interface of authenticators, which identify callers by their Authorization headers."""

    @property
    def fault(self) -> str | None:
        """The problem code of the last attempt to read the tokens or keys, or None if it succeeded."""

    async def open(self) -> None:
        """Load the tokens or keys. Raises Unavailable if they cannot be loaded."""

    async def close(self) -> None:
        """Release the resources that `open` acquired."""

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """Return the caller that a request's Authorization headers, possibly none, identify.

        Raises Unauthenticated, and Unavailable if callers cannot be verified at present.
        """


class AnonymousAuthenticator:
    """The authenticator of a service without authentication: every request is anonymous."""

    fault = None

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def authenticate(self, authorization: Sequence[str]) -> Principal:  # noqa: ARG002 - the interface has it
        return ANONYMOUS
