"""Who asks: a caller with a role, and which cases that role may see.

Whoever takes a request sets `CALLER` for its length; whatever runs beside requests acts as the service itself.
"""

from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Role = Literal["agent", "supervisor", "analyst", "customer", "service"]
ROLES: tuple[Role, ...] = get_args(Role)
BOUND: tuple[Role, ...] = ("agent", "customer")  # to the cases of someone, whom a caller must name


class Owned(Protocol):
    """Whose a case is."""

    @property
    def customer_id(self) -> str | None:
        """The customer whom it is about."""

    @property
    def assigned_agent_id(self) -> str | None:
        """The agent who works on it."""

    @property
    def team(self) -> str | None:
        """The team that it was given to."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a case is, where only that is known of it."""

    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who was let in; `subject` is the agent's or the customer's id, as cases name them."""

    name: str
    role: Role
    subject: str | None = None
    teams: AbstractSet[str] = frozenset()

    def sees(self, case: Owned) -> bool:
        """Whether a case is one of theirs.

        A customer's are those about them; an agent's those given to them, to a team of theirs, or to nobody yet.
        Other roles are not bound to cases.
        """
        if self.role == "customer":
            return case.customer_id == self.subject is not None
        if self.role == "agent":
            return (
                case.assigned_agent_id == self.subject is not None
                or (case.assigned_agent_id is None and case.team is None)
                or case.team in self.teams
            )
        return True

    def hears(self, visibility: str) -> bool:
        """Whether a message or a file of a case that they see is for them too."""
        return self.role != "customer" or visibility == "public"


ITSELF = Caller("support-service", "supervisor")  # what the service and its operators do beside requests
ANYONE = Caller("anyone", "supervisor")  # whoever reaches an open service
CALLER: ContextVar[Caller] = ContextVar("caller", default=ITSELF)
