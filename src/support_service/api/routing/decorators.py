"""Decorators that make a route of a handler: `@get(CASE, access=READ, problems=CASE_PROBLEMS)`.

The operation is the name of the handler, and its documentation the docstring. A handler's parameters select what it is
called with, and thereby what clients send:

    call: Call                  the principal, the scope and the service
    case_id: str                a path parameter, by its name
    query: CaseQuery            the query, as this model
    body: NewCase               the JSON body, as this model
    expected: ExpectedVersions  the versions in If-Match; of a PUT none with `If-None-Match: *`
    known: KnownTags            the tags in If-None-Match
    headers: Headers            all headers
    routes: Routes              all routes
    request: web.Request        the request: the handler streams, or reads the body in a way of its own

What it returns is what clients get: `Reply[Case]`, `Reply[list[Attachment]]`, `EncodedReply[Case]`, or `Reply[None]`
for 204. The decorator declares the rest, such as headers, other responses and problem codes.
"""

import inspect
from collections.abc import Awaitable, Callable
from types import NoneType, UnionType
from typing import Any, Literal, Required, TypedDict, Union, Unpack, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from support_service.api.routing.call import EncodedReply, Reply
from support_service.api.routing.etags import KnownTags
from support_service.api.routing.route import JSON, JSON_BODY_PROBLEMS, Permission, Route, RouteResponse, Tag
from support_service.core.optimistic_lock import ExpectedVersions

REQUEST_HEADER_BY_TYPE: dict[object, str] = {ExpectedVersions: "If-Match", KnownTags: "If-None-Match"}

AnyHandler = Callable[..., Awaitable[Any]]


class RouteOptions(TypedDict, total=False):
    """What a handler's signature does not tell of its route; see `Route`."""

    access: Required[Permission | Literal["public"]]
    tag: Tag  # by default TAG of the handler's module
    query: type[BaseModel]  # of a body that is not required: the model that may be sent as query parameters instead
    body: type[BaseModel]  # if the handler reads it from the request
    body_required: bool
    body_media_types: tuple[str, ...]
    request_headers: tuple[str, ...]  # besides the headers of the handler's parameters
    stores_response: bool
    masks_itself: bool
    status: int  # by default 200, or 204 without an answer
    response_media_types: tuple[str, ...]
    headers: tuple[str, ...]
    other_responses: tuple[RouteResponse, ...]
    problems: tuple[str, ...]  # besides the problems of a JSON body and of a query
    links: tuple[tuple[str, str], ...]


def get(path: str, **declared: Unpack[RouteOptions]) -> Callable[[AnyHandler], Route]:
    return lambda handler: _make_route("GET", path, handler, declared)


def post(path: str, **declared: Unpack[RouteOptions]) -> Callable[[AnyHandler], Route]:
    return lambda handler: _make_route("POST", path, handler, declared)


def put(path: str, **declared: Unpack[RouteOptions]) -> Callable[[AnyHandler], Route]:
    return lambda handler: _make_route("PUT", path, handler, declared)


def patch(path: str, **declared: Unpack[RouteOptions]) -> Callable[[AnyHandler], Route]:
    return lambda handler: _make_route("PATCH", path, handler, declared)


def delete(path: str, **declared: Unpack[RouteOptions]) -> Callable[[AnyHandler], Route]:
    return lambda handler: _make_route("DELETE", path, handler, declared)


def _make_route(method: str, path: str, handler: AnyHandler, declared: RouteOptions) -> Route:
    hints = get_type_hints(handler)
    parameters = {name: hints.get(name) for name in inspect.signature(handler).parameters}
    model, is_list, returns_models = _declared_response(hints.get("return"))
    derived: dict[str, Any] = {
        "tag": handler.__globals__.get("TAG"),
        "query": parameters.get("query"),
        "body": parameters.get("body"),
        "status": 204 if hints.get("return") == Reply[None] else 200,
    }
    members: dict[str, Any] = derived | {**declared}
    if members["tag"] is None:
        raise LookupError(f"{handler.__name__}: the route needs a tag, or its module TAG")
    takes_json = members["body"] and JSON in members.get("body_media_types", (JSON,))
    members["problems"] = (
        *members.get("problems", ()),
        *(JSON_BODY_PROBLEMS if takes_json else ()),
        *(("invalid_request",) if members["query"] else ()),
    )
    members["request_headers"] = (
        *members.get("request_headers", ()),
        *(name for kind, name in REQUEST_HEADER_BY_TYPE.items() if kind in parameters.values()),
        *(("If-None-Match",) if method == "PUT" and ExpectedVersions in parameters.values() else ()),
    )
    return Route(
        operation=handler.__name__,
        method=method,
        path=path,
        handler=handler,
        parameters=parameters,
        response_model=model,
        is_list=is_list,
        returns_models=returns_models,
        **members,
    )


def _declared_response(returned: Any) -> tuple[type[BaseModel] | None, bool, bool]:
    """Return the model of an answer, whether it is a list of it, and whether the handler returns models or nothing."""
    kind = get_origin(returned)
    content = get_args(returned)[0] if kind in (Reply, EncodedReply) else None
    if get_origin(content) in (Union, UnionType):  # or None, for 304
        (content,) = (each for each in get_args(content) if each is not NoneType)
    is_list = get_origin(content) is list
    if is_list:
        (content,) = get_args(content)
    model = content if isinstance(content, type) and issubclass(content, BaseModel) else None
    return model, is_list, kind is Reply and (model is not None or content is NoneType)
