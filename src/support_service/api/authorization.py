"""The door: who a request comes from, and whether its route is open to their role."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from support_service.access.authenticator import Authenticator
from support_service.api import app_keys
from support_service.api.permissions import PUBLIC, RULES
from support_service.core.errors import Forbidden
from support_service.core.principals import CALLER
from support_service.http.admission import GATE


def admitted(authenticator: Authenticator) -> Middleware:
    """A middleware that lets a request through as its caller; raises Unauthenticated and Forbidden."""

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
    """The name of what a request asks for; of a path where nothing is, it has no rule."""
    return request.match_info.handler.__name__


def is_bound(request: web.Request) -> bool:
    """Whether what is asked reaches only those cases that the caller is bound to."""
    return request.get(app_keys.REACH) == "theirs"


def is_masked(request: web.Request) -> bool:
    """Whether the caller sees customers' data masked."""
    return request.get(app_keys.REACH) == "masked"


def expect_ruled(app: web.Application) -> None:
    """Raise LookupError where an app has a route that nobody decided on."""
    for route in app.router.routes():
        name = route.handler.__name__
        if name not in RULES and name not in PUBLIC:
            raise LookupError(f"api/permissions.py has no row for {route.method} {route.resource} ({name})")
