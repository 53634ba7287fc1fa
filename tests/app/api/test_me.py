"""The caller's own role and permissions."""

from support_service.api.routes import ROUTES
from support_service.api.routing.route import Permission
from support_service.core.domain.principals import ROLES
from tests.support.access.principals import SUBJECTS
from tests.support.calls import expect_json, expect_problem
from tests.support.each import each_row

ME = "/support/me"


@each_row("role", ROLES)
async def test_caller_learns_what_the_table_of_routes_allows(shared_principals, role):
    """Every permission that a role has, with its scope, and no other."""
    me = await shared_principals.read_json(role, "GET", ME)
    permissions = [route.access for route in ROUTES if isinstance(route.access, Permission)]
    assert me == {
        "name": role,
        "role": role,
        "subject": SUBJECTS.get(role),
        "teams": ["returns"] if role == "agent" else [],
        "permissions": {each.name: each.scopes[role] for each in permissions if role in each.scopes},
    }
    assert "me:read" in me["permissions"]


def test_a_permission_has_the_same_scopes_in_every_route():
    """Otherwise one answer could not tell them."""
    scopes = {}
    for route in ROUTES:
        if isinstance(route.access, Permission):
            assert scopes.setdefault(route.access.name, route.access.scopes) == route.access.scopes


async def test_everyone_is_a_supervisor_without_authentication(client):
    """This is what `SUPPORT_AUTH=open` means."""
    me = await expect_json(client.get(ME))
    assert (me["name"], me["role"], me["subject"], me["teams"]) == ("anyone", "supervisor", None, [])
    assert me["permissions"]["cases:write"] == "all"


async def test_caller_without_a_token_learns_nothing(shared_principals):
    await expect_problem(shared_principals.client.get(ME), 401, "token_missing")
