"""A handler becomes a route by its signature, and is refused before the first request if it fits none."""

import pytest
from aiohttp import web
from pydantic import BaseModel

from support_service.api.routes import ROUTES
from support_service.api.routing.call import Call, EncodedReply, Headers, Reply
from support_service.api.routing.decorators import get, post
from support_service.api.routing.endpoint import compile_route
from support_service.api.routing.etags import KnownTags
from support_service.api.routing.route import PUBLIC, Permission, Tag
from support_service.core.optimistic_lock import ExpectedVersions

TAG = Tag("new", "New.")
FOR_ANALYSTS = Permission("new:read", {"analyst": "masked"})


class Query(BaseModel):
    """A query."""


class Body(BaseModel):
    """A body."""


async def no_parameters() -> Reply[None]:
    return Reply(None)


async def takes_everything(
    call: Call, case_id: str, query: Query, body: Body, expected: ExpectedVersions, known: KnownTags, headers: Headers
) -> Reply[Body | None]:
    """Take everything.

    This is a handler.
    """
    return Reply(None)


async def streams(call: Call, request: web.Request) -> web.StreamResponse:
    return web.StreamResponse()


async def takes_a_number(case_id: str, number: int) -> Reply[None]:
    return Reply(None)


async def takes_untyped(case_id) -> Reply[None]:
    return Reply(None)


async def takes_two_parts(case_id: str, link_id: str) -> Reply[None]:
    return Reply(None)


async def lists() -> Reply[list[Body]]:
    return Reply([])


async def encodes() -> EncodedReply[Body]:
    return EncodedReply(b"{}")


async def answers_with_bytes() -> Reply[bytes]:
    return Reply(b"{}")


class Unruled(BaseModel):
    """An answer with a field that says nothing about privacy."""

    language: str


async def answers_unruled() -> Reply[Unruled]:
    return Reply(Unruled(language="en"))


def test_all_routes_fit_their_handlers():
    """Every route compiles, and no two share an operation id."""
    assert all(compile_route(route, ROUTES) for route in ROUTES)
    assert len({route.operation for route in ROUTES}) == len(ROUTES)


def test_route_follows_from_the_signature_of_its_handler():
    """Every kind of parameter is provided and described."""
    route = post("/{case_id}", access=Permission("new:write", {"agent": "own"}))(takes_everything)
    assert compile_route(route, ROUTES)
    assert (route.operation, route.tag, route.method) == ("takes_everything", TAG, "POST")
    assert (route.summary, route.description) == ("Take everything", "This is a handler.")
    assert (route.query, route.body, route.response_model) == (Query, Body, Body)
    assert route.request_headers == ("If-Match", "If-None-Match")
    assert {"invalid_request", "malformed_json"} <= {*route.problems}


@pytest.mark.parametrize(
    ("handler", "model", "is_list", "status"),
    [(lists, Body, True, 200), (encodes, Body, False, 200), (no_parameters, None, False, 204)],
)
def test_answer_follows_from_what_the_handler_returns(handler, model, is_list, status):
    route = get("/new", access=PUBLIC)(handler)
    assert (route.response_model, route.is_list, route.status) == (model, is_list, status)


def test_route_without_access_is_refused():
    """Every route must state who may call it."""
    with pytest.raises(TypeError, match="access"):
        get("/new")(no_parameters)


@pytest.mark.parametrize("handler", [encodes, answers_with_bytes, streams])
def test_handler_that_encodes_what_analysts_get_must_mask_it(handler):
    """Models are masked for every handler; it declares that it masks bytes and streams."""
    with pytest.raises(LookupError, match=r"mask what analysts get"):
        compile_route(get("/new", access=FOR_ANALYSTS)(handler), ROUTES)
    assert compile_route(get("/new", access=FOR_ANALYSTS, masks_itself=True)(handler), ROUTES)


def test_field_that_analysts_would_get_without_a_rule_is_refused():
    """A new field is named before the first request."""
    with pytest.raises(TypeError, match=r"Unruled\.language"):
        compile_route(get("/new", access=FOR_ANALYSTS)(answers_unruled), ROUTES)


@pytest.mark.parametrize(
    ("path", "declared", "missing"),
    [("/new", {"query": Query}, "query"), ("/new", {"body": Body}, "body"), ("/{case_id}", {}, "case_id")],
)
def test_unused_declaration_of_a_route_is_refused(path, declared, missing):
    """A documented parameter must have an effect."""
    with pytest.raises(LookupError, match=f"the handler does not take what the route declares: {missing}"):
        compile_route(post(path, access=PUBLIC, **declared)(no_parameters), ROUTES)


def test_streaming_handler_reads_the_request_itself_except_the_query():
    """A handler that takes the request needs no parameters for the body, the path and the preconditions."""
    assert compile_route(post("/{case_id}", access=PUBLIC, body=Body, request_headers=("If-Match",))(streams), ROUTES)
    with pytest.raises(LookupError, match=r"the handler does not take what the route declares: query"):
        compile_route(post("/new", access=PUBLIC, query=Query)(streams), ROUTES)


@pytest.mark.parametrize("handler", [takes_a_number, takes_untyped, takes_two_parts])
def test_undeclared_parameter_of_a_handler_is_refused(handler):
    """A handler takes only documented parameters."""
    with pytest.raises(TypeError, match=r"nothing provides the handler's parameter"):
        compile_route(post("/{case_id}", access=PUBLIC)(handler), ROUTES)
