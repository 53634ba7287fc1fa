"""Every operation of the table of routes has a method of the client, which sends what the route takes."""

import inspect
import re
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import RootModel

from support_service.api.openapi import schemas
from support_service.api.routes import ROUTES
from support_service.client import Attachment, PolicyTargets, SupportClient
from support_service.client.transport import Transport
from support_service.core.clock import utc_now
from tests.support.each import each_row

TARGETS = PolicyTargets(first_response=timedelta(hours=1))
FILE = Attachment.model_construct(id="x", ticket_id="x", filename="x", size_bytes=1, sha256="", created_at=utc_now())
# A call of each method that is written by hand, or with more than its ids and required fields.
CALLS = {
    "get_case": lambda client: client.get_case("x", include_timeline=True),
    "change_case": lambda client: client.change_case("x", version=3, priority="high"),
    "close_case": lambda client: client.close_case("x", message="Bye"),
    "add_link": lambda client: client.add_link("x", "other", "related"),
    "upload": lambda client: client.upload("x", b"bytes"),
    "download": lambda client: client.download(FILE),
    "change_view": lambda client: client.change_view("x", name="Other"),
    "list_audit_log": lambda client: client.list_audit_log(action="case.opened"),
    "follow": lambda client: client.stream(),
    "export_report": lambda client: client.export_report(),
    "receive_event": lambda client: client.send_event({"eventType": "order.status.changed"}),
    "metrics": lambda client: client.metrics(),
    "openapi": lambda client: client.openapi(),
    "asyncapi": lambda client: client.asyncapi(),
    "docs": lambda client: client.docs(),
}
# Other names than those of the operations and fields.
METHODS = {"follow": "stream", "receive_event": "send_event", "remove": "remove_attachment"}
RENAMED = {("add_link", "case_id"): "other_case_id", ("follow", "last_event_id"): "after"}
each_route = each_row("route", ROUTES, [route.operation for route in ROUTES])


class Sent(Exception):
    """Ends a call with what it would have sent."""


@pytest.fixture
def send(monkeypatch):
    """Make a call with a client; gives the request that it would send, and its form."""

    @asynccontextmanager
    async def stop(_self, request, _limits, data=None):
        raise Sent(request, data)
        yield

    monkeypatch.setattr(Transport, "open", stop)

    async def call(route):
        client = SupportClient("http://127.0.0.1:1")
        make = CALLS.get(route.operation)
        pending = make(client) if make else smallest_call(client, route)
        with pytest.raises(Sent) as sent:
            await (anext(pending) if isinstance(pending, AsyncIterator) else pending)
        return sent.value.args

    return call


def smallest_call(client, route):
    """Call the method of an operation with "x" for each id, and with the fields that its body requires."""
    ids = dict.fromkeys(route.path_parameters, "x")
    example = {} if route.body is None else route.body.model_validate(schemas.first_example(route.body))
    fields = {name: getattr(example, name) for name, field in _fields(route.body).items() if field.is_required()}
    nested = {name: value.as_query() for name, value in fields.items() if hasattr(value, "as_query")}
    return getattr(client, METHODS.get(route.operation, route.operation))(**ids, **fields | nested)


@each_route
async def test_operation_has_a_method_for_its_route(route, send):
    """`make generate` writes it, unless it is written by hand."""
    request, form = await send(route)
    assert request.method == route.method
    assert "/" + "/".join(request.path) == re.sub(r"{\w+}", "x", route.path)
    assert ("Idempotency-Key" in request.headers) >= route.takes_idempotency_key
    assert (request.body is not None or form is not None) >= (route.body is not None and route.body_required)


@each_route
def test_method_takes_every_field_of_its_route(route):
    """A field in snake_case is a keyword of the method, or of the fields that it takes."""
    method = getattr(SupportClient, METHODS.get(route.operation, route.operation))
    is_list = {"items", "next_cursor"} <= getattr(route.response_model, "model_fields", {}).keys()
    wanted = {"version"} if "If-Match" in route.request_headers else set()
    for model in (route.query, route.body):
        if model is None or issubclass(model, RootModel):
            continue
        wanted |= {RENAMED.get((route.operation, name), name) for name in model.model_fields}
    if is_list:  # pages are read when they are needed
        wanted = wanted - {"limit", "cursor"} | {"page_size"}
    assert wanted <= _keywords(method)


@each_row(
    ("operation", "fields", "body"),
    [
        ("put_customer", {"name": "Ann"}, b'{"name":"Ann"}'),
        ("put_customer", {"notes": None}, b'{"notes":null}'),
        ("put_customer", {}, b"{}"),
        ("put_agent", {"display_name": None, "away": True}, b'{"displayName":null,"away":true}'),
        ("put_agent", {}, b"{}"),
    ],
)
async def test_change_of_a_person_sends_only_what_is_given(monkeypatch, send, operation, fields, body):
    """What is left out stays as it is; None clears a field. The version becomes If-Match."""
    (route,) = (route for route in ROUTES if route.operation == operation)
    monkeypatch.setitem(CALLS, operation, lambda client: getattr(client, operation)("x", version=3, **fields))
    request, _ = await send(route)
    assert (request.body, request.headers["If-Match"]) == (body, '"3"')


async def test_durations_and_times_are_sent_as_the_service_reads_them(monkeypatch):
    sent = []

    async def note(_self, request):
        sent.append(request)
        raise Sent

    monkeypatch.setattr(Transport, "send", note)
    client = SupportClient("http://127.0.0.1:1")
    for pending in (
        client.set_override("ttl", duration=timedelta(days=1, minutes=30), value=1800),
        anext(client.list_cases(sort="due", due_within=timedelta(days=365))),
        client.put_sla_policy("x", targets=TARGETS),
    ):
        with pytest.raises(Sent):
            await pending
    override, cases, policy = sent
    assert b'"duration":"PT24H30M"' in override.body
    assert cases.query["dueWithin"] == "PT8760H"
    assert policy.body == b'{"targets":{"firstResponse":"PT1H"}}'


def _fields(model):
    return {} if model is None else model.model_fields


def _keywords(method):
    found = set()
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            (fields,) = typing.get_args(parameter.annotation)
            found |= fields.__annotations__.keys()
        else:
            found.add(parameter.name)
    return found
