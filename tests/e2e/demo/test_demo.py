"""`support-service demo`: a new user sees a merged timeline and live metrics at once."""

import asyncio
import re
import signal
import subprocess
import sys

import aiohttp
import pytest

from tests.support.calls import eventually, list_cases, parse_log, read_detail
from tests.support.process import START_TIMEOUT, environment, running
from tests.support.scrape import parse

pytestmark = pytest.mark.usefixtures("processes")


async def test_demo_shows_merged_timelines(tmp_path):
    """Sample cases are merged with three upstream services, on a free port. Ctrl-C stops the demo."""
    generous_timeouts = {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60", "SUPPORT_TIMELINE_DEADLINE": "60"}
    async with running("demo", "--port", "0", cwd=tmp_path, **generous_timeouts) as demo:
        welcome = await demo.read_output(until="Ctrl-C")
        address = re.search(r"http://127\.0\.0\.1:\d+", welcome)[0]
        assert welcome.count("curl ") == 3
        async with aiohttp.ClientSession(address) as session:
            cases = (await list_cases(session, limit="200"))["items"]
            assert len(cases) == 60
            assert welcome.index("/console/") < welcome.index("/docs")
            details = [await read_detail(session, case) for case in cases]
            cracked = next(case for case in cases if case["subject"] == "Screen arrived cracked")

            async def is_stale():
                detail = await read_detail(session, cracked)
                return detail["timelineSources"]["fulfillment"]["status"] == "stale"

            await eventually(is_stale)
            for url in set(re.findall(r"http://127[^\s'|]+", welcome)):
                method = session.post if url.endswith("/messages") else session.get
                body = {"json": {"authorType": "agent", "message": "On it."}} if url.endswith("/messages") else {}
                async with method(url, **body) as response:
                    assert response.status == 200, url
            async with session.get("/metrics") as response:
                samples = parse(await response.text())
        types = {entry["type"] for detail in details for entry in detail["timeline"]}
        assert types >= {"order", "order-event", "payment", "shipment", "conversation", "attachment"}
        statuses = {source["status"] for detail in details for source in detail["timelineSources"].values()}
        assert {"fresh", "none"} <= statuses <= {"fresh", "cached", "stale", "none"}
        created = {name: value for name, _, value in samples if name.startswith("support_ticket_created") and value}
        assert created
        demo.stop(signal.SIGINT)
        status, _, log = await demo.wait_for_exit()
        lines = parse_log(log)
        assert status == 0
        assert [line for line in lines if "fulfillment answered" not in line["message"]] == []  # the stale source


async def test_demo_prints_the_address_of_the_console_before_anything_is_logged(tmp_path):
    """What a user sees first in the terminal, where output and log are one."""
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support_service", "demo", "--port", "0"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shown = [(await demo.stdout.readline()).decode() for _ in range(4)]
    demo.terminate()
    await demo.communicate()
    assert shown[1].startswith("support-service ")
    assert re.search(r"Console +http://127\.0\.0\.1:\d+/console/", shown[3])


async def test_demo_with_an_invalid_token_ends_with_an_error(tmp_path):
    """One line names the setting and the reason, with status 2."""
    async with running("token", "create", "boss", "--role", "supervisor", cwd=tmp_path) as command:
        assert (await command.wait_for_exit())[0] == 0
    wrong = {"SUPPORT_AUTH": "token", "SUPPORT_TOKEN": "sup_wrong"}
    async with running("demo", "--port", "0", cwd=tmp_path, **wrong) as demo:
        status, out, errors = await demo.wait_for_exit(START_TIMEOUT)
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("support-service: The sample cases can't be opened with SUPPORT_TOKEN: The token is unknown")


async def test_demo_keeps_its_cases_across_restarts(tmp_path):
    """A second start in the same folder adds no cases."""
    seen = []
    for _ in range(2):
        async with running("demo", "--port", "0", cwd=tmp_path) as demo:
            address = re.search(r"http://127\.0\.0\.1:\d+", await demo.read_output(until="Ctrl-C"))[0]
            async with aiohttp.ClientSession(address) as session:
                seen.append([case["id"] for case in (await list_cases(session))["items"]])
            demo.stop()
            assert (await demo.wait_for_exit())[0] == 0
    assert seen[0] == seen[1]
