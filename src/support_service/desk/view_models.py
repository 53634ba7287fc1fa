"""Saved views and who may use them. Pure.

A view belongs to one user, or to a team. `query` is a JSON object: the query parameters of the list of cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from support_service.core.domain.principals import Principal
from support_service.core.errors import Forbidden

Query = Mapping[str, Any]


class Holder(NamedTuple):
    """To whom a view belongs: a user (`owner`), or a team; the other one is None."""

    owner: str | None
    team: str | None


@dataclass(frozen=True, slots=True)
class NewView:
    """A view to create, for the team or, without one, for the caller."""

    name: str
    query: Query
    team: str | None = None


@dataclass(frozen=True, slots=True)
class StoredView:
    """A saved view as it is stored; `version` increments with each change."""

    seq: int
    id: str
    owner: str | None
    team: str | None
    name: str
    query: Query
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def holder(self) -> Holder:
        """To whom the view belongs."""
        return Holder(self.owner, self.team)


@dataclass(frozen=True, slots=True)
class CountedView:
    """A saved view with the number of cases that it shows to the caller.

    It is None if the caller can't use its query, or if the count took too long.
    """

    view: StoredView
    count: int | None
    more: bool  # there are more cases than `count`


def owner_of(principal: Principal) -> str:
    """Return the owner of the views that the principal creates for itself: its subject, or its name without one."""
    return principal.subject or principal.name


def holder_for(principal: Principal, team: str | None) -> Holder:
    """Return to whom a view belongs that the principal saves with this team. Raises Forbidden.

    Agents share views with their own teams, supervisors with every team. Analysts share none.
    """
    if team is None:
        return Holder(owner_of(principal), None)
    if not _may_use_views_of(principal, team):
        raise Forbidden(
            "permission_missing",
            "The permission 'views:share' is missing. Members of a team and supervisors change the views of the team.",
        )
    return Holder(None, team)


def may_use(principal: Principal, view: StoredView) -> bool:
    """Return whether the principal may see and change a view."""
    if view.team is None:
        return view.owner == owner_of(principal)
    return _may_use_views_of(principal, view.team)


def _may_use_views_of(principal: Principal, team: str) -> bool:
    return principal.role == "supervisor" or (principal.role == "agent" and team in principal.teams)
