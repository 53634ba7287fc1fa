"""What a handler is called with, and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from support_service.api.routing.route import Scope
from support_service.api.routing.services import Services
from support_service.core.domain.principals import Principal
from support_service.idempotency.claims import IdempotencyClaim
from support_service.idempotency.unit_of_work import WriteOrigin

ContentT_co = TypeVar("ContentT_co", bound=BaseModel | Sequence[BaseModel] | None, covariant=True)


@dataclass(slots=True)  # not frozen: one is created for each request, in a third of the time
class Call:
    """A request that was admitted: its principal, the scope of the principal's permission, and the app's services."""

    principal: Principal
    scope: Scope
    services: Services
    request_id: str
    claim: IdempotencyClaim | None = None  # of the request's Idempotency-Key

    @property
    def write_origin(self) -> WriteOrigin:
        """The origin of the changes that the request makes."""
        return WriteOrigin(self.principal, self.request_id, self.claim)

    @property
    def is_masked(self) -> bool:
        """Return True if customers' data must be masked in the response."""
        return self.scope == "masked"


@dataclass(slots=True)
class Reply(Generic[ContentT_co]):
    """A handler's answer: a model or a list of models, sent as JSON, or None for a response without a body."""

    content: ContentT_co
    headers: dict[str, str] | None = None
    status: int | None = None  # None: the status of the route
