"""A benchmark does not measure a server whose answers lack what was asked for."""

import pytest
from aiohttp import web
from benchmarks import effects, measure, scenarios
from benchmarks.environment import Server
from benchmarks.load_generator import Failed

from support_service.cases.model import examples

CASE = {
    "id": "1",
    "subject": "Parcel has not arrived (0)",
    "status": "open",
    "context": [{}, {}, {}],
    "messages": [{"authorType": "customer"}],
}


@pytest.mark.parametrize(("changed", "accepted"), [({}, True), ({"messages": []}, False)])
async def test_answers_are_checked_before_a_measurement(changed, accepted, aiohttp_server):
    """An answer without the message fails the run, and names the server and the scenario."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(CASE | changed)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = await aiohttp_server(app)
    checked = measure.check(Server("peer", server.port, (1,)), [scenarios.ALL["get"]])
    if accepted:
        await checked
    else:
        with pytest.raises(Failed, match="peer: get answered"):
            await checked


def test_every_scenario_of_a_case_is_checked():
    """Only the metrics, which differ between the servers, are not."""
    assert set(scenarios.CHECKS) == set(scenarios.EXPECTED) == set(scenarios.ALL) - {"metrics"}


async def test_effects_of_writes_are_checked_before_a_measurement(aiohttp_server):
    """A service whose case lacks the message that was answered is not measured."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(examples.CASE | examples.ATTACHMENT)

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{path:.*}", answer)
    server = await aiohttp_server(app)
    with pytest.raises(Failed, match="service: what was written can't be read"):
        await effects.check(Server("service", server.port, (1,)))
