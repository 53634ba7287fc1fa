"""What came of asking callers who they are, as a metric."""

from opentelemetry.metrics import Counter

from support_service.access.authenticator import Authenticator
from support_service.callers import Caller
from support_service.errors import Unauthenticated, Unavailable

ACCEPTED = {"outcome": "accepted"}
OUTCOMES = {"token_missing": "missing", "token_invalid": "invalid", "token_expired": "expired"}


class Counted:
    """Counts what another authenticator finds."""

    def __init__(self, inner: Authenticator, authentications: Counter) -> None:
        self._inner = inner
        self._authentications = authentications

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def identify(self, token: str | None) -> Caller:
        """The caller, as the other one has it; raises what that one raises."""
        try:
            caller = await self._inner.identify(token)
        except (Unauthenticated, Unavailable) as refusal:
            self._authentications.add(1, {"outcome": OUTCOMES.get(refusal.code, "unavailable")})
            raise
        self._authentications.add(1, ACCEPTED)
        return caller
