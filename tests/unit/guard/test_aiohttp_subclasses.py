"""Subclasses of aiohttp's classes use only public names, so that a release of aiohttp cannot break them unnoticed."""

import inspect
import re

import aiohttp
import pytest
from aiohttp import web

from support_service.guard.connection import HttpConnection
from support_service.guard.server import GuardedRunner, HttpServer
from support_service.platform.http_client import LimitedConnector
from tests.support.each import each_row

PRIVATE_NAME = re.compile(r"(?:self\.|super\(\)\.|def )(_(?!_)\w+)")
SUBCLASSES = [HttpConnection, HttpServer, GuardedRunner, LimitedConnector]
# Public names that aiohttp does not document. Each is called or overridden by the class beside it.
UNDOCUMENTED = [
    (web.RequestHandler, "handle_error", ["self", "request", "status", "exc", "message"]),
    (web.RequestHandler, "log_access", ["self", "request", "response", "time"]),
    *((web.RequestHandler, name, ["self"]) for name in ("close", "force_close")),
    (web.RequestHandler, "data_received", ["self", "data"]),
    (aiohttp.BaseConnector, "connect", ["self", "req", "traces", "timeout"]),
    (aiohttp.connector.Connection, "add_callback", ["self", "callback"]),
    (aiohttp.client_proto.ResponseHandler, "set_exception", ["self", "exc", "exc_cause"]),
]


@pytest.mark.parametrize("subclass", SUBCLASSES)
def test_subclass_shares_no_private_name_with_aiohttp(subclass):
    """A private name in both would mean that we use aiohttp's, or replace it by accident."""
    bases = [base for base in subclass.__mro__[1:] if base.__module__.startswith("aiohttp.")]
    theirs = {name for base in bases for name in PRIVATE_NAME.findall(inspect.getsource(base))}
    ours = set(PRIVATE_NAME.findall(inspect.getsource(subclass)))
    assert theirs, f"no base class of {subclass.__name__} is aiohttp's any more"
    assert not ours & theirs, f"{subclass.__name__} uses private names of aiohttp: {sorted(ours & theirs)}"


@each_row(("owner", "name", "parameters"), UNDOCUMENTED)
def test_undocumented_method_of_aiohttp_is_unchanged(owner, name, parameters):
    """A release that renames one of these methods, or its parameters, would switch a protection off silently."""
    method = getattr(owner, name, None)
    assert method is not None, f"aiohttp has no {owner.__name__}.{name} any more"
    found = list(inspect.signature(method).parameters)
    assert found == parameters, f"aiohttp changed the parameters of {owner.__name__}.{name} to {found}"


async def test_server_of_an_app_runner_tells_its_handler_and_request_factory():
    """`HttpServer` passes requests to the application through these two attributes."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    found = [callable(each) for each in (runner.server.request_handler, runner.server.request_factory)]
    await runner.cleanup()
    assert found == [True, True]
