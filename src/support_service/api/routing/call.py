"""What a handler is called with, and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from multidict import CIMultiDictProxy
from pydantic import BaseModel

from support_service.core.domain.principals import AccessScope, CaseView, Principal
from support_service.core.errors import Unauthenticated, problem
from support_service.guard.exchange import Exchange
from support_service.platform.idempotency_keys import IdempotencyClaim
from support_service.platform.unit_of_work import WriteOrigin
from support_service.service import Service

Headers: TypeAlias = CIMultiDictProxy[str]
ModelT = TypeVar("ModelT", bound=BaseModel)
ContentT_co = TypeVar("ContentT_co", bound=BaseModel | Sequence[BaseModel] | bytes | None, covariant=True)


@dataclass(slots=True)  # not frozen: one is created for each request, in a third of the time
class Call:
    """A request of a known caller: the scope of its permission, the service, and the exchange with its principal."""

    scope: AccessScope
    service: Service
    exchange: Exchange
    claim: IdempotencyClaim | None = None  # of the request's Idempotency-Key
    authorization: Sequence[str] = ()  # the request's Authorization headers
    session: str | None = None  # the secret of the browser's session that authorizes the request

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.exchange.principal

    @property
    def origin(self) -> WriteOrigin:
        return WriteOrigin(self.principal, self.exchange.request_id, self.claim)

    async def authenticate_again(self) -> Principal:
        """Return the caller as its credentials are now. Raises Unauthenticated and Unavailable."""
        sessions = self.service.sessions
        if self.session is not None and sessions is not None:
            return await sessions.authenticate(self.session)
        return await self.service.authenticator.authenticate(self.authorization)

    async def check_same_principal(self) -> None:
        """Authenticate the caller again, after minutes in which its token may have been revoked.

        A token that has only expired was valid when the request began, and still counts. Raises Unauthenticated, also
        if the token now has other rights, and Unavailable if callers cannot be verified at present.
        """
        try:
            current = await self.authenticate_again()
        except Unauthenticated as refusal:
            if refusal.code == "token_expired":
                return
            raise
        if current != self.principal:
            raise problem("token_invalid", "The rights of the token have changed; send the request again.")

    @property
    def is_masked(self) -> bool:
        """Return True if customers' data must be masked in the response."""
        return self.scope == "masked"

    @property
    def view(self) -> CaseView:
        """What the principal gets of a case that it may see."""
        if self.scope == "masked":
            return "masked"
        return "public" if self.principal.reads_only_public else "full"


@dataclass(slots=True)
class Reply(Generic[ContentT_co]):
    """A handler's answer: a model or a list of models, sent as JSON; or None for a response without a body."""

    content: ContentT_co
    headers: dict[str, str] | None = None
    status: int | None = None  # None: the status of the route


class EncodedReply(Reply[bytes | None], Generic[ModelT]):
    """A handler's answer as the JSON of a model; or None for a response without a body."""

    __slots__ = ()
