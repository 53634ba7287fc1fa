"""Authentication and authorization: identifies the caller of a request, and checks the role's permission."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from support_service.access.authenticator import Authenticator
from support_service.api import app_keys
from support_service.api.permissions import ACCESS_RULES, PUBLIC_OPERATIONS
from support_service.core.errors import Forbidden
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.http.component import ADMISSION


def authorize(authenticator: Authenticator) -> Middleware:
    """Return a middleware that authenticates and authorizes requests, and sets CALLER and REACH.

    Raises Unauthenticated for a missing or invalid token, Forbidden for a missing permission.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        rule = ACCESS_RULES.get(operation_name(request))
        if rule is None:
            return await handler(request)
        caller = await authenticator.identify(request.headers.getall("Authorization", ()))
        request.app[ADMISSION].charge(request, caller.name)
        reach = rule.reach.get(caller.role)
        if reach is None:
            raise Forbidden(
                "permission_missing", f"The permission {rule.permission!r} is missing: {caller.role}s don't have it."
            )
        request[app_keys.SCOPE] = reach
        before = CURRENT_PRINCIPAL.set(caller)
        try:
            return await handler(request)
        finally:
            CURRENT_PRINCIPAL.reset(before)

    return admit


def operation_name(request: web.Request) -> str:
    """Return the operation's name, which is its handler's. The name for an unknown path has no rule."""
    return request.match_info.handler.__name__


def is_limited_to_own_cases(request: web.Request) -> bool:
    """Return True if the request is limited to the cases that the caller may see (`Principal.may_see`)."""
    return request.get(app_keys.SCOPE) == "own"


def is_masked(request: web.Request) -> bool:
    """Return True if customers' data must be masked in the response."""
    return request.get(app_keys.SCOPE) == "masked"


def require_access_rules(app: web.Application) -> None:
    """Raise LookupError if a route of the app is neither in RULES nor in PUBLIC."""
    for route in app.router.routes():
        name = route.handler.__name__
        if name not in ACCESS_RULES and name not in PUBLIC_OPERATIONS:
            raise LookupError(f"api/permissions.py has no row for {route.method} {route.resource} ({name})")
