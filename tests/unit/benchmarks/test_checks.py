"""A benchmark does not measure a server whose answers lack what was asked for."""

import pytest
from aiohttp import web
from benchmarks import effects, measure, scenarios
from benchmarks.environment import Server
from benchmarks.load_generator import Failed

from support_service.cases.model import examples

CASE = {"id": "1", "subject": "Parcel has not arrived (0)", "status": "open", "context": [{}, {}, {}]}


@pytest.fixture
def serve(aiohttp_server):
    """Start a server with this answer to all requests; return it under a name."""

    async def serve(name, answer):
        async def handler(_: web.Request) -> web.Response:
            return web.json_response(answer)

        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", handler)
        return Server(name, (await aiohttp_server(app)).port, (1,))

    return serve


async def test_answers_are_checked_before_a_measurement(serve):
    """An answer without the message fails the run, and names the server and the scenario."""
    scenario = [scenarios.ALL["get"]]
    await measure.check(await serve("peer", CASE | {"messages": [{"authorType": "customer"}]}), scenario)
    with pytest.raises(Failed, match="peer: get answered"):
        await measure.check(await serve("peer", CASE | {"messages": []}), scenario)


def test_every_scenario_of_a_case_is_checked():
    """Only the metrics, which differ between the servers, are not."""
    assert set(scenarios.CHECKS) == set(scenarios.EXPECTED) == set(scenarios.ALL) - {"metrics"}


async def test_effects_of_writes_are_checked_before_a_measurement(serve):
    """A service whose case lacks the message that was answered is not measured."""
    with pytest.raises(Failed, match="service: what was written can't be read"):
        await effects.check(await serve("service", examples.CASE | examples.ATTACHMENT))
