"""`support-service demo traffic` feeds a service, and with faults what broken clients send, too."""

import asyncio
import signal

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.demo import traffic as traffic_module
from support_service.demo.traffic import TrafficGenerator
from tests.support.calls import eventually
from tests.support.process import running
from tests.support.servers import free_port


async def test_traffic_is_what_clients_do(client, metrics):
    """Its requests open, read, change and close cases, add files and send events; without faults none is refused."""
    async with aiohttp.ClientSession(str(client.make_url("/"))) as session:
        traffic = TrafficGenerator(session, faults=False, seed=6)
        for _ in range(150):
            await traffic.act()
    assert set(traffic.answers) == {"2xx"}
    for name in ("ticket_created", "conversation_added", "ticket_status_changed", "attachment_stored"):
        assert metrics.total(f"support_{name}_total") > 0
    await eventually(lambda: metrics.total("support_events_consumed_total"))


async def test_faults_are_refused_and_harm_nothing(client):
    """What broken clients send is refused with 4xx, and nothing with 5xx."""
    async with aiohttp.ClientSession(str(client.make_url("/"))) as session:
        traffic = TrafficGenerator(session, faults=True, seed=6)
        for _ in range(150):
            await traffic.act()
    assert set(traffic.answers) == {"2xx", "4xx"}


@pytest.mark.usefixtures("processes")
async def test_a_service_below_a_path(tmp_path):
    """An address with a path is a service's too, and one request in a day ends in time all the same."""
    paths = []

    async def answer(request):
        paths.append(request.path)
        return web.json_response({"id": "c-1"}, status=201)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as below:
        url = str(below.make_url("/desk/"))
        arguments = ("--base-url", url, "--rate", "0.00001", "--duration", "3")
        async with running("demo", "traffic", *arguments, cwd=tmp_path) as process:
            assert await process.wait_for_exit(90) == (0, "1 2xx\n", "")
    assert paths == ["/desk/support/cases"]


@pytest.mark.usefixtures("processes")
async def test_the_command(client, tmp_path):
    """It runs as long as it is told, and says what was answered."""
    url = str(client.make_url("")).rstrip("/")
    arguments = ("--base-url", url, "--rate", "100", "--duration", "3s", "--faults")
    async with running("demo", "traffic", *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.wait_for_exit(90)
    assert (status, errors) == (0, "")
    assert "2xx" in out


async def test_a_service_that_does_not_answer_is_counted():
    """Traffic goes on where nobody listens, and says how often it had no answer."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{free_port()}/") as session:
        traffic = TrafficGenerator(session, faults=False, seed=6)
        await traffic.act()
    assert traffic.answers == {"no answer": 1}


async def test_what_is_answered_is_told_while_traffic_goes_on(client, monkeypatch, capsys):
    """No more requests are under way at once than are allowed, and what was answered is told again and again."""
    monkeypatch.setattr(traffic_module, "MAX_CONCURRENT_REQUESTS", 1)
    monkeypatch.setattr(traffic_module, "REPORT_INTERVAL", 0.0)
    url = str(client.make_url("")).rstrip("/")
    running = asyncio.create_task(traffic_module.run(url, {}, 1000.0, None, faults=False))
    shown = ""

    def told():
        nonlocal shown
        shown += capsys.readouterr().out
        return "2xx" in shown

    await eventually(told)
    signal.raise_signal(signal.SIGTERM)
    await running
    assert "nothing yet" in shown
