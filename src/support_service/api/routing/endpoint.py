"""Endpoints: routes that are ready to be served, with what provides each parameter of their handlers.

Each is made once, when the app is built.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from support_service.api.routing.call import Call, Headers
from support_service.api.routing.etags import KnownTags, expected_versions, known_tags
from support_service.api.routing.route import Permission, Route, Routes
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.core.personal import models_in, rules_of
from support_service.guard.json_body import query_reader, read_body_and_query, read_model
from support_service.platform.access.sessions import SAFE_METHODS

ArgumentProvider = Callable[[web.Request, Call, Any], Any]  # takes the parsed body, too

ARGUMENT_PROVIDER_BY_TYPE: dict[object, ArgumentProvider] = {
    Call: lambda _request, call, _body: call,
    web.Request: lambda request, _call, _body: request,
    Headers: lambda request, _call, _body: request.headers,
    ExpectedVersions: lambda request, call, _body: expected_versions(
        request.method, request.headers, call.service.version_base
    ),
    KnownTags: lambda request, _call, _body: known_tags(request.headers),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route, and what is derived from it once instead of for each request."""

    route: Route
    permission: Permission | None  # None: everybody may call it, without authentication
    takes_key: bool  # an Idempotency-Key
    has_pages: bool
    is_change: bool
    read_body: Callable[[web.Request], Awaitable[Any]] | None  # None if the handler takes no parsed body
    arguments: tuple[ArgumentProvider, ...]  # of the handler, in their order


def compile_route(route: Route, routes: Routes) -> Endpoint:
    """Return the endpoint of one of the routes.

    Raises LookupError if the route would send analysts what is not masked, or declares what its handler does not take.
    Raises TypeError if the handler has a parameter of an unknown kind, or if analysts would get a field without a rule
    of privacy.
    """
    _check_masking(route)
    _check_declarations(route)
    read_body = None
    if route.body is not None and "body" in route.parameters:  # else the handler reads the body, or there is none
        read_body = partial(read_model if route.body_required else read_body_and_query, model=route.body)
    return Endpoint(
        route,
        permission=route.access if isinstance(route.access, Permission) else None,
        takes_key=route.takes_idempotency_key,
        has_pages=route.has_pages,
        is_change=route.method not in SAFE_METHODS,
        read_body=read_body,
        arguments=tuple(_argument_provider(route, routes, name, hint) for name, hint in route.parameters.items()),
    )


def _argument_provider(route: Route, routes: Routes, name: str, hint: Any) -> ArgumentProvider:
    """Return the function that provides a parameter. Raises TypeError if there is none."""
    if hint in ARGUMENT_PROVIDER_BY_TYPE:
        return ARGUMENT_PROVIDER_BY_TYPE[hint]
    if hint == Routes:
        return lambda _request, _call, _body: routes
    if name == "body":
        return lambda _request, _call, body: body
    if name == "query":
        read = query_reader(hint)
        if route.has_pages:
            return lambda request, call, _body: _with_open_cursor(call, route.operation, read(request))
        return lambda request, _call, _body: read(request)
    if hint is str and name in route.path_parameters:
        return lambda request, _call, _body: request.match_info[name]
    raise TypeError(f"{route.operation}: nothing provides the handler's parameter {name!r}")


def _with_open_cursor(call: Call, operation: str, query: Any) -> Any:
    """Return a query with the cursor that this list has sealed."""
    if query.cursor is None:
        return query
    return query.model_copy(update={"cursor": call.service.cursors.open(operation, query.cursor)})


def _check_masking(route: Route) -> None:
    """Raise LookupError if analysts would get something unmasked, and TypeError if a field has no rule."""
    if not isinstance(route.access, Permission) or "masked" not in route.access.scopes.values():
        return
    for model in models_in(route.response_model, *(each.model for each in route.other_responses)):
        rules_of(model)
    if not (route.returns_models or route.masks_itself):
        raise LookupError(f"{route.operation}: mask what analysts get, and declare `masks_itself`")


def _check_declarations(route: Route) -> None:
    """Raise LookupError if the route declares what its handler does not take.

    A handler that takes the request may read all but the query from it.
    """
    wanted = ["query"] if route.query and route.query is not route.body else []
    if web.Request not in route.parameters.values():
        wanted += [*(["body"] if route.body else []), *route.path_parameters]
    if missing := [name for name in wanted if name not in route.parameters]:
        raise LookupError(f"{route.operation}: the handler does not take what the route declares: {', '.join(missing)}")
