"""Routes and handlers that do not fit together are refused when the app is built, before the first request."""

import pytest
from aiohttp import web
from pydantic import BaseModel

from support_service.api.routes import ROUTES
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.endpoint import Headers, compile_route
from support_service.api.routing.etags import KnownTags
from support_service.api.routing.route import PUBLIC, Permission, Route, Tag
from support_service.core.optimistic_lock import ExpectedVersions


class Query(BaseModel):
    """A query."""


class Body(BaseModel):
    """A body."""


async def no_parameters() -> Reply[None]:
    return Reply(None)


async def takes_everything(
    call: Call, case_id: str, query: Query, body: Body, expected: ExpectedVersions, known: KnownTags, headers: Headers
) -> Reply[None]:
    return Reply(None)


async def streams(call: Call, request: web.Request) -> web.StreamResponse:
    return web.StreamResponse()


async def takes_a_number(number: int) -> Reply[None]:
    return Reply(None)


async def takes_untyped(case_id) -> Reply[None]:
    return Reply(None)


async def takes_expected(expected: ExpectedVersions) -> Reply[None]:
    return Reply(None)


def route(handler, path="/new", **declared):
    row = {"operation": "new", "tag": Tag("new", "New."), "method": "POST", "access": PUBLIC}
    return Route(handler=handler, path=path, **row | declared)


def test_all_routes_fit_their_handlers():
    """Every row compiles, and no two rows share an operation id."""
    assert all(compile_route(row) for row in ROUTES)
    assert len({row.operation for row in ROUTES}) == len(ROUTES)


def test_handler_may_take_everything_that_its_route_declares():
    """Every kind of parameter is provided."""
    permission = Permission("new:write", {"agent": "own"})
    headers = ("If-Match", "If-None-Match")
    row = route(takes_everything, "/{case_id}", access=permission, query=Query, body=Body, request_headers=headers)
    assert compile_route(row)


def test_route_without_access_is_refused():
    """Every route must state who may call it."""
    with pytest.raises(LookupError, match=r"new: the route needs an access"):
        compile_route(route(no_parameters, access=None))


async def encodes() -> Reply[bytes]:
    return Reply(b"{}")


class Unruled(BaseModel):
    """An answer with a field that says nothing about privacy."""

    language: str


@pytest.mark.parametrize("handler", [encodes, streams])
def test_handler_that_encodes_what_analysts_get_must_mask_it(handler):
    """Models are masked for every handler; it declares that it masks bytes and streams."""
    permission = Permission("new:read", {"analyst": "masked"})
    with pytest.raises(LookupError, match=r"new: mask what analysts get"):
        compile_route(route(handler, access=permission, method="GET"))
    assert compile_route(route(handler, access=permission, method="GET", masks_itself=True))


def test_field_that_analysts_would_get_without_a_rule_is_refused():
    """A new field is named before the first request."""
    permission = Permission("new:read", {"analyst": "masked"})
    with pytest.raises(TypeError, match=r"Unruled\.language"):
        compile_route(route(no_parameters, access=permission, method="GET", response_model=Unruled))


@pytest.mark.parametrize(
    ("declared", "missing"),
    [
        ({"query": Query}, "Query"),
        ({"body": Body}, "Body"),
        ({"request_headers": ("If-Match",)}, "If-Match"),
        ({"request_headers": ("If-None-Match",)}, "If-None-Match"),
        ({"path": "/{case_id}"}, "case_id"),
    ],
)
def test_unused_declaration_of_a_route_is_refused(declared, missing):
    """A documented parameter must have an effect."""
    with pytest.raises(LookupError, match=f"new: the handler does not take what the route declares: {missing}"):
        compile_route(route(no_parameters, **declared))


def test_streaming_handler_reads_the_request_itself_except_the_query():
    """A handler that takes the request needs no parameters for the body, the path and the preconditions."""
    assert compile_route(route(streams, "/{case_id}", body=Body, request_headers=("If-Match",)))
    with pytest.raises(LookupError, match=r"new: the handler does not take what the route declares: Query"):
        compile_route(route(streams, query=Query))


@pytest.mark.parametrize("handler", [takes_a_number, takes_untyped, takes_expected, takes_everything])
def test_undeclared_parameter_of_a_handler_is_refused(handler):
    """A handler takes only documented parameters."""
    with pytest.raises(TypeError, match=r"new: the route declares nothing for the handler's parameter"):
        compile_route(route(handler))
