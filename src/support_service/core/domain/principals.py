"""Principals: callers with a role, and what each role may see: which cases, and of these public or internal parts.

`cases/sql/visibility.py` has the same rule as SQL. Endpoints pass the principal of a request to services. Background
jobs and the command line use `SYSTEM`.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

Role = Literal["agent", "supervisor", "analyst", "customer", "service"]
AccessScope = Literal["all", "own", "masked"]  # of a permission, see api/routing/route.py
CaseView = Literal["full", "public", "masked"]  # of a case: for staff, customers and analysts
ROLES: tuple[Role, ...] = get_args(Role)
# Roles restricted to certain cases; their callers need a subject.
CASE_SCOPED_ROLES: tuple[Role, ...] = ("agent", "customer")


class HasOwner(Protocol):
    """The attributes of a case that decide who may see it."""

    @property
    def customer_id(self) -> str | None:
        """Id of the case's customer, or None."""

    @property
    def assigned_agent_id(self) -> str | None:
        """Id of the agent that the case is assigned to, or None."""

    @property
    def team(self) -> str | None:
        """Id of the team that the case is assigned to, or None."""


@dataclass(frozen=True, slots=True)
class CaseOwnership:
    """The `HasOwner` attributes of a case, for code that loads nothing else of it."""

    customer_id: str | None
    assigned_agent_id: str | None
    team: str | None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller; `subject` is the id of the agent or customer, as it is used in cases."""

    name: str
    role: Role
    subject: str | None = None
    teams: AbstractSet[str] = frozenset()
    display_name: str | None = field(default=None, compare=False)  # as the provider calls a member of staff

    @property
    def id(self) -> str:
        """What cases and messages call the principal: its subject, or its name if it has none."""
        return self.subject or self.name

    def may_see(self, case: HasOwner) -> bool:
        """Return whether the caller may see a case.

        A customer sees their own cases. An agent sees cases assigned to them or to one of their teams, and cases
        without an assignee and team. Other roles see every case.
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

    @property
    def reads_only_public(self) -> bool:
        """Whether the caller reads no internal message, file or entry of the cases that they may see.

        These are for staff. A service has no permission to read cases: it gets one only as the answer to a repeated
        opening.
        """
        return self.role in ("customer", "service")

    def may_see_visibility(self, visibility: str) -> bool:
        """Return whether the caller may see a message or file with this visibility, in a case that they may see."""
        return not self.reads_only_public or visibility == "public"


SYSTEM = Principal("support-service", "supervisor")  # principal of background jobs and the command line
# Principal of every request when authentication is off (SUPPORT_AUTH=open).
ANONYMOUS = Principal("anyone", "supervisor")
