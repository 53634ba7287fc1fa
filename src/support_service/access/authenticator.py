"""What lets callers in, and the one of an open service, which lets in everyone."""

from collections.abc import Sequence
from typing import Protocol

from support_service.core.principals import ANYONE, Caller


class Authenticator(Protocol):
    """Knows callers by what they send."""

    async def open(self) -> None:
        """Read what callers are known by; raises Unavailable where that can't be had."""

    async def close(self) -> None:
        """Let go of what `open` took."""

    async def identify(self, authorization: Sequence[str]) -> Caller:
        """The caller who sent these Authorization headers, or none.

        Raises Unauthenticated, and Unavailable where nobody can tell.
        """


class Everyone:
    """Lets in whoever reaches the port."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def identify(self, authorization: Sequence[str]) -> Caller:  # noqa: ARG002 - nobody is asked
        return ANYONE
