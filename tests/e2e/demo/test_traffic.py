"""`support-service demo traffic` as a command: where it sends requests, and when it ends."""

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.cases.model.examples import CASE
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


async def test_traffic_reaches_a_service_below_a_path(tmp_path):
    """A rate of about one request a day still ends after its duration."""
    paths = []

    async def answer(request):
        paths.append(request.path)
        return web.json_response(CASE, status=201)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as below:
        url = str(below.make_url("/desk/"))
        arguments = ("--base-url", url, "--rate", "0.00001", "--duration", "1")
        async with running("demo", "traffic", *arguments, cwd=tmp_path) as process:
            status, out, errors = await process.wait_for_exit(90)
    assert (status, out.splitlines()[0], errors) == (0, "1 2xx", "")
    assert paths == ["/desk/support/cases"]


async def test_traffic_command_ends_after_its_duration(client, tmp_path):
    """It prints the counts of responses, and then the rate that it reached. A busy machine may not send all of them."""
    url = str(client.make_url("")).rstrip("/")
    arguments = ("--base-url", url, "--rate", "100", "--duration", "1s", "--faults")
    async with running("demo", "traffic", *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.wait_for_exit(90)
    assert (status, errors) == (0, "")
    assert "2xx" in out
    assert re.search(r"\n[0-9.]+ requests a second of 100(: [0-9]+ were not sent, .*)?\n$", out)
