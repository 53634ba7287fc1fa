"""Every operation of the table of routes has a method of the client, which sends what the route takes."""

import inspect
import re
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import RootModel

from support_service.api.routes import ROUTES
from support_service.client import Attachment, PolicyTargets, SupportClient
from support_service.client.transport import Transport
from support_service.core.clock import utc_now

TARGETS = PolicyTargets(first_response=timedelta(hours=1))
FILE = Attachment.model_construct(id="x", ticket_id="x", filename="x", size_bytes=1, sha256="", created_at=utc_now())
# One call of each operation. Each argument that becomes part of the path is "x".
CALLS = {
    "open_case": lambda client: client.open_case(subject="A parcel", channel="email"),
    "count_cases": lambda client: client.count_cases(status="open"),
    "list_cases": lambda client: client.list_cases(status="open"),
    "get_case": lambda client: client.get_case("x", include_timeline=True),
    "change_case": lambda client: client.change_case("x", version=3, priority="high"),
    "set_status": lambda client: client.set_status("x", "pending"),
    "close_case": lambda client: client.close_case("x", message="Bye"),
    "delete_case": lambda client: client.delete_case("x"),
    "add_message": lambda client: client.add_message("x", author_type="agent", message="On it."),
    "add_link": lambda client: client.add_link("x", "other", "related"),
    "remove_link": lambda client: client.remove_link("x", "x"),
    "refresh_timeline": lambda client: client.refresh_timeline("x"),
    "upload": lambda client: client.upload("x", b"bytes"),
    "list_attachments": lambda client: client.list_attachments("x"),
    "download": lambda client: client.download(FILE),
    "remove": lambda client: client.remove_attachment("x", "x"),
    "get_customer": lambda client: client.get_customer("x"),
    "list_audit": lambda client: client.list_audit("x"),
    "workload": lambda client: client.workload("x"),
    "create_view": lambda client: client.create_view("Urgent", {"priority": "urgent"}),
    "list_views": lambda client: client.list_views(page_size=10),
    "get_view": lambda client: client.get_view("x"),
    "change_view": lambda client: client.change_view("x", name="Other"),
    "delete_view": lambda client: client.delete_view("x"),
    "get_me": lambda client: client.get_me(),
    "list_macros": lambda client: client.list_macros(),
    "create_macro": lambda client: client.create_macro("late", text="Hello"),
    "get_macro": lambda client: client.get_macro("x"),
    "put_macro": lambda client: client.put_macro("x", text="Hello"),
    "delete_macro": lambda client: client.delete_macro("x"),
    "preview_macro": lambda client: client.preview_macro("x", "x"),
    "list_sla_policies": lambda client: client.list_sla_policies(),
    "get_sla_policy": lambda client: client.get_sla_policy("x"),
    "put_sla_policy": lambda client: client.put_sla_policy("x", targets=TARGETS),
    "delete_sla_policy": lambda client: client.delete_sla_policy("x"),
    "list_audit_log": lambda client: client.list_audit_log(action="case.opened"),
    "verify_audit_log": lambda client: client.verify_audit_log(limit=10),
    "get_oncall": lambda client: client.get_oncall(),
    "set_override": lambda client: client.set_override("x", duration="30m", reason="being restored"),
    "clear_override": lambda client: client.clear_override("x"),
    "list_dead_letters": lambda client: client.list_dead_letters(),
    "replay_dead_letter": lambda client: client.replay_dead_letter("x"),
    "drop_dead_letter": lambda client: client.drop_dead_letter("x"),
    "list_deliveries": lambda client: client.list_deliveries(state="pending"),
    "replay_delivery": lambda client: client.replay_delivery("x"),
    "drop_delivery": lambda client: client.drop_delivery("x"),
    "follow": lambda client: client.stream(),
    "put_presence": lambda client: client.put_presence("x", "typing"),
    "receive_event": lambda client: client.send_event({"eventType": "order.status.changed"}),
    "metrics": lambda client: client.metrics(),
    "health": lambda client: client.health(),
    "livez": lambda client: client.livez(),
    "readyz": lambda client: client.readyz(),
    "openapi": lambda client: client.openapi(),
    "asyncapi": lambda client: client.asyncapi(),
    "docs": lambda client: client.docs(),
}
# Other names than those of the operations and fields.
METHODS = {"follow": "stream", "receive_event": "send_event", "remove": "remove_attachment"}
RENAMED = {("add_link", "case_id"): "other_case_id", ("follow", "last_event_id"): "after"}
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)


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

    async def call(operation):
        client = SupportClient("http://127.0.0.1:1")
        pending = CALLS[operation](client)
        with pytest.raises(Sent) as sent:
            await (anext(pending) if isinstance(pending, AsyncIterator) else pending)
        return sent.value.args

    return call


@each_route
async def test_operation_has_a_method_for_its_route(route, send):
    assert route.operation in CALLS, "add a method to support_service.client, and a call of it above"
    request, form = await send(route.operation)
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


async def test_version_becomes_if_match(send):
    request, _ = await send("change_case")
    assert request.headers["If-Match"] == '"3"'


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


def _keywords(method):
    found = set()
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            (fields,) = typing.get_args(parameter.annotation)
            found |= fields.__annotations__.keys()
        else:
            found.add(parameter.name)
    return found
