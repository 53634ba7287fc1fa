"""The caller: who it is, and what it may do."""

from functools import cache

from support_service.api.models.service import Me
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import Permission, Route, Tag
from support_service.core.domain.principals import ROLES, Role, Scope

TAG = Tag("me", "The caller: who it is, and what it may do.")
ME = Permission("me:read", dict.fromkeys(ROLES, "own"))


@cache
def permissions_by_role(routes: tuple[Route, ...]) -> dict[Role, dict[str, Scope]]:
    """Return the permissions that each role has, with their scopes, in the order of their names."""
    permissions = {route.access.name: route.access for route in routes if isinstance(route.access, Permission)}
    return {
        role: {name: permissions[name].scopes[role] for name in sorted(permissions) if role in permissions[name].scopes}
        for role in ROLES
    }


@get("/support/me", access=ME)
async def get_me(call: Call) -> Reply[Me]:
    """Tell the caller who it is and what it may do.

    Each operation that needs a permission names it when it refuses a request. With `SUPPORT_AUTH=open` every caller is
    the supervisor `anyone`.
    """
    principal = call.principal
    return Reply(
        Me(
            name=principal.name,
            role=principal.role,
            subject=principal.subject,
            teams=sorted(principal.teams),
            permissions=permissions_by_role(call.services.routes)[principal.role],
        )
    )
