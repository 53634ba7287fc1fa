"""`support-service demo`: a new user sees a merged timeline and live metrics at once."""

import asyncio
import re
import signal
import subprocess
import sys

import aiohttp
import pytest

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from tests.support.calls import eventually, expect_json, list_cases, parse_log, read_detail
from tests.support.process import LONG_TIMEOUTS, PATIENT_SOURCES, START_TIMEOUT, environment, running
from tests.support.scrape import parse

pytestmark = pytest.mark.usefixtures("processes")


async def test_demo_shows_merged_timelines_and_what_people_do(tmp_path):
    """Sample cases are merged with three upstream services, on a free port. Ctrl-C stops the demo."""
    async with running("demo", "--port", "0", cwd=tmp_path, **PATIENT_SOURCES, **LONG_TIMEOUTS) as demo:
        welcome = await demo.read_output(until="Ctrl-C")
        address = re.search(r"http://127\.0\.0\.1:\d+", welcome)[0]
        assert welcome.count("curl ") == 3
        async with aiohttp.ClientSession(address) as session:
            cases = (await list_cases(session, limit="200"))["items"]
            assert len(cases) == 83
            await check_people(session, cases)
            assert welcome.index("/console/") < welcome.index("/docs")
            details = [await read_detail(session, case) for case in cases[:40]]
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
            for case, detail in zip(cases, details, strict=False):
                told = [
                    entry["timestamp"] for entry in detail["timeline"] if entry.get("origin", "") in UPSTREAM_SERVICES
                ]
                assert all(at < case["createdAt"] for at in told), case["subject"]  # orders are older than complaints
        types = {entry["type"] for detail in details for entry in detail["timeline"]}
        assert types >= {"order", "order-event", "payment", "shipment", "conversation", "attachment"}
        statuses = {source["status"] for detail in details for source in detail["timelineSources"].values()}
        assert {"fresh", "none"} <= statuses <= {"fresh", "cached", "stale", "none"}
        created = {name: value for name, _, value in samples if name.startswith("support_ticket_created") and value}
        assert created
        demo.stop(signal.SIGINT)
        status, out, log = await demo.wait_for_exit()
        lines = parse_log(log)
        assert status == 0
        assert "The warning below is simulated: fulfillment answers for ORD-1005 once only" in out
        assert [line for line in lines if "fulfillment answered" not in line["message"]] == []  # the stale source


async def read(session, path):
    return await expect_json(session.get(path))


async def check_people(session, cases):
    """Customers have names, cases are snoozed, merged, split, late and followed, and reports cover a month."""
    views = {view["id"]: view for view in (await read(session, "/support/views/counts"))["items"]}
    report = (await read(session, "/support/reports"))["items"]
    notified = await read(session, "/support/notifications")
    person = await read(session, "/support/customers/customer-17")
    people = (await read(session, "/support/agents"))["items"]
    assert [case["customerId"] for case in cases if not case.get("customerName")] == []
    assert [case["subject"] for case in cases if case.get("mergedInto")] == ["Parcel has not arrived again"]
    assert "Invoice for ORD-1006" in {case["subject"] for case in cases}
    assert person["identities"] == ["customer-17", "guest-8812"]
    assert {one["kind"] for one in notified["items"]} == {"mention", "assigned", "message"}
    assert all(views[name]["count"] for name in ("mine", "mentioned", "snoozed", "unassigned", "at-risk"))
    assert views["at-risk"]["late"]
    assert {person["displayName"] for person in people} >= {"An Võ", "Lan Nguyễn"}
    days = [row["day"] for row in report if row["opened"]]
    assert len(days) >= 20
    assert sum(row["opened"] for row in report) == len(cases)


@pytest.mark.long
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
    """A second start in the same folder adds no cases and notifies nobody, and orders keep their times."""
    seen = []
    for _ in range(2):
        async with running("demo", "--port", "0", cwd=tmp_path, **PATIENT_SOURCES) as demo:
            address = re.search(r"http://127\.0\.0\.1:\d+", await demo.read_output(until="Ctrl-C"))[0]
            async with aiohttp.ClientSession(address) as session:
                cases = (await list_cases(session))["items"]
                original = next(case for case in cases if case["subject"] == "Parcel has not arrived")
                timeline = (await read_detail(session, original))["timeline"]
                order = [entry["timestamp"] for entry in timeline if entry["type"] == "order"]
                async with session.get("/support/notifications") as response:
                    notified = [one["id"] for one in (await response.json())["items"]]
                seen.append(([case["id"] for case in cases], order, notified))
            demo.stop()
            assert (await demo.wait_for_exit())[0] == 0
    assert seen[0] == seen[1]
