"""Endpoints: each route is compiled to one function when the app is built.

The function authenticates and authorizes the request, claims its idempotency key (writes only), parses what the handler
takes, calls the handler and encodes its reply. `decorators.py` lists what a handler may take.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from support_service.api.routing.call import Call, Headers, Reply
from support_service.api.routing.etags import KnownTags, if_match_versions, known_tags, put_versions
from support_service.api.routing.idempotency import IDEMPOTENCY_KEY, respond_once
from support_service.api.routing.route import PUBLIC, Permission, Route, Routes
from support_service.core.domain.principals import ANONYMOUS, Principal
from support_service.core.errors import Forbidden, Unauthenticated, Unavailable, problem
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.core.personal import models_in, rules_of
from support_service.guard.instrumentation import REQUEST_ID, is_probe
from support_service.guard.json_body import json_response, query_reader, read_body_and_query, read_model
from support_service.guard.unread_answers import CALLERS
from support_service.platform.access.authenticator import AUTHORIZATION
from support_service.platform.access.sessions import SAFE_METHODS, check_not_foreign, check_same_origin, read_cookie
from support_service.service import SERVICE

ArgumentProvider = Callable[[web.Request, Call, Any], Any]  # takes the parsed body, too

ARGUMENT_PROVIDER_BY_TYPE: dict[object, ArgumentProvider] = {
    Call: lambda _request, call, _body: call,
    web.Request: lambda request, _call, _body: request,
    Headers: lambda request, _call, _body: request.headers,
    ExpectedVersions: lambda request, call, _body: _expected_versions(request, call),
    KnownTags: lambda request, _call, _body: known_tags(request.headers),
}


def _expected_versions(request: web.Request, call: Call) -> ExpectedVersions:
    read = put_versions if request.method == "PUT" else if_match_versions
    return read(request.headers, call.service.version_base)


def compile_route(route: Route, routes: Routes) -> Handler:
    """Return the function that serves one of the routes.

    Raises LookupError if the route would send analysts what is not masked, or declares what its handler does not take.
    Raises TypeError if the handler has a parameter of an unknown kind, or if analysts would get a field without a rule
    of privacy.
    """
    permission, takes_key = route.access, route.takes_idempotency_key
    is_change = route.method not in SAFE_METHODS
    _check_masking(route)
    respond = _compile_handler(route, routes)
    if permission == PUBLIC:
        return _serve_public(respond)

    async def serve(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        authorization: Sequence[str] = request.headers.getall(AUTHORIZATION, ())
        sessions = service.sessions if not authorization else None
        session = read_cookie(request) if sessions is not None else None
        if sessions is not None and session is not None:
            check_same_origin(request)
            principal = await sessions.authenticate(session)
        else:
            if authorization:
                check_not_foreign(request, service.settings.limits.cors_origins)
            principal = await service.authenticator.authenticate(authorization)
        service.admission.check_principal(request, principal.name)
        _note_accepted(request, principal, is_change=is_change)
        service.agents.note_claims(principal)
        scope = permission.scopes.get(principal.role)
        if scope is None:
            raise problem(
                "permission_missing", f"The permission {permission.name!r} is missing: {principal.role}s don't have it."
            )
        call = Call(principal, scope, service, request[REQUEST_ID], authorization=authorization, session=session)
        if takes_key:  # its answer reports a change, so it is sent in any case
            once = IDEMPOTENCY_KEY in request.headers
            response = await (respond_once(request, call, route, respond) if once else respond(request, call))
            service.admission.charge_answer(request, principal.name, _body_size(response), may_owe=True)
        else:
            response = await respond(request, call)
            if size := _body_size(response):
                service.admission.check_answer(request, size)
                service.admission.charge_answer(request, principal.name, size)
        return response

    return _noting_refusals(serve, is_change=is_change)


def _noting_refusals(serve: Handler, *, is_change: bool) -> Handler:
    """Return the function with a note of whom it refuses, so that alerts and the log tell whom it concerns."""

    async def serve_and_note(request: web.Request) -> web.StreamResponse:
        try:
            return await serve(request)
        except (Unauthenticated, Unavailable, Forbidden) as refusal:
            callers = request.app[SERVICE].callers
            if callers is None or is_probe(request):
                raise
            address, *principals = (each.partition(" ")[2] for each in request.get(CALLERS, ("",)))
            if isinstance(refusal, Forbidden) and is_change:
                name = principals[0] if principals else None
                callers.note_forbidden(_credential(request), name, refusal, address)
            elif not principals and (credential := _credential(request)):
                callers.note_refused(credential, refusal, address)
            raise

    return serve_and_note


def _note_accepted(request: web.Request, principal: Principal, *, is_change: bool) -> None:
    callers = request.app[SERVICE].callers
    if callers is not None and not is_probe(request):
        callers.note_accepted(_credential(request), principal.name, writes=is_change)


def _credential(request: web.Request) -> str:
    """Return the token of a request, or the secret of its browser's session; empty if it has neither."""
    return request.headers.get(AUTHORIZATION) or read_cookie(request) or ""


def _serve_public(respond: Callable[[web.Request, Call], Awaitable[web.StreamResponse]]) -> Handler:
    """Return the function that serves a route without authentication."""

    async def serve(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        response = await respond(request, Call(ANONYMOUS, "all", service, request[REQUEST_ID]))
        if size := _body_size(response):
            service.admission.check_answer(request, size)
        return response

    return serve


def _compile_handler(route: Route, routes: Routes) -> Callable[[web.Request, Call], Awaitable[web.StreamResponse]]:
    """Return a function that parses the handler's arguments, calls the handler and encodes its reply."""
    handler, status = route.handler, route.status
    _check_declarations(route)
    providers = [_argument_provider(route, routes, name, hint) for name, hint in route.parameters.items()]
    has_pages, operation = route.has_pages, route.operation
    is_list, masks_itself = route.is_list, route.masks_itself
    model = route.body if "body" in route.parameters else None  # else the handler reads the body, or there is none
    read = read_model if route.body_required else read_body_and_query

    async def respond(request: web.Request, call: Call) -> web.StreamResponse:
        body = None if model is None else await read(request, model)
        reply: Reply[Any] | web.StreamResponse = await handler(*[provide(request, call, body) for provide in providers])
        if not isinstance(reply, Reply):
            return reply
        if call.is_masked and not masks_itself and reply.content is not None:
            masker = call.service.masker
            reply.content = masker.mask_all(reply.content) if is_list else masker.mask(reply.content)
        if has_pages and reply.content.next_cursor is not None:
            reply.content.next_cursor = call.service.cursors.seal(operation, reply.content.next_cursor)
        if reply.content is None:
            return web.Response(status=reply.status or status, headers=reply.headers)
        return json_response(reply.content, reply.status or status, reply.headers)

    return respond


def _body_size(response: web.StreamResponse) -> int:
    """Return the bytes of the response's body; 0 if its handler streams it."""
    return len(response.body) if isinstance(response, web.Response) and isinstance(response.body, bytes) else 0


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
    """Return a query with the cursor that this list has sealed. Raises ValidationFailed for another one."""
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
