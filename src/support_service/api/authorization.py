"""Authentication and authorization: identifies the caller of a request, and checks the role's permission."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from support_service.access.authenticator import Authenticator
from support_service.api import app_keys
from support_service.api.permissions import PUBLIC, RULES
from support_service.core.errors import Forbidden
from support_service.core.principals import CALLER
from support_service.http.admission import GATE


def admitted(authenticator: Authenticator) -> Middleware:
    """Return a middleware that authenticates and authorizes requests, and sets CALLER and REACH.

    Raises Unauthenticated for a missing or invalid token, Forbidden for a missing permission.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        rule = RULES.get(operation(request))
        if rule is None:
            return await handler(request)
        caller = await authenticator.identify(request.headers.getall("Authorization", ()))
        request.app[GATE].charge(request, caller.name)
        reach = rule.reach.get(caller.role)
        if reach is None:
            raise Forbidden(
                "permission_missing", f"The permission {rule.permission!r} is missing: {caller.role}s don't have it."
            )
        request[app_keys.REACH] = reach
        before = CALLER.set(caller)
        try:
            return await handler(request)
        finally:
            CALLER.reset(before)

    return admit


def operation(request: web.Request) -> str:
    """Return the operation's name, which is its handler's. The name for an unknown path has no rule."""
    return request.match_info.handler.__name__


def is_bound(request: web.Request) -> bool:
    """Return True if the request is limited to the cases that the caller may see (`Caller.sees`)."""
    return request.get(app_keys.REACH) == "theirs"


def is_masked(request: web.Request) -> bool:
    """Return True if customers' data must be masked in the response."""
    return request.get(app_keys.REACH) == "masked"


def expect_ruled(app: web.Application) -> None:
    """Raise LookupError if a route of the app is neither in RULES nor in PUBLIC."""
    for route in app.router.routes():
        name = route.handler.__name__
        if name not in RULES and name not in PUBLIC:
            raise LookupError(f"api/permissions.py has no row for {route.method} {route.resource} ({name})")
