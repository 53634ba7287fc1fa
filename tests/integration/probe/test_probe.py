"""The synthetic check tells a healthy service from a broken one, leaves nothing behind, and counts nowhere."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.telemetry.instruments.probe import PROBE_STEPS
from tests.support.calls import PATIENCE, eventually, files, list_cases, open_case
from tests.support.process import running
from tests.support.scrape import parse

LONG = 90.0  # seconds for a command and all its steps, on a busy machine
PATIENT = ("--threshold", "60", "--event-threshold", "60")  # no verdict here hangs on a clock

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def environment(environment, redis):
    """A service with Redis, and time for all that is behind the timeline on a busy machine too."""
    return environment | {
        "SUPPORT_REDIS_URL": redis.url,
        "SUPPORT_REDIS_TIMEOUT": str(PATIENCE),
        "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60",
        "SUPPORT_TIMELINE_DEADLINE": "60",
    }


def address(client):
    """Where a service is."""
    return str(client.make_url("")).rstrip("/")


async def probe(base_url, tmp_path, *arguments):
    """The exit status and the report of one check, each step by its name."""
    async with running("probe", "--base-url", base_url, *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.ended(LONG)
    report = json.loads(out)
    assert errors == ""
    assert report["baseUrl"] == base_url
    return status, report, {step["step"]: step for step in report["steps"]}


async def nothing_is_left(client, attachment_dir):
    """Whether a check has deleted what it made."""
    return not (await list_cases(client, channel="synthetic"))["items"] and files(attachment_dir) == []


async def test_a_healthy_service(client, attachment_dir, tmp_path):
    """A healthy service is good: every step has its time and threshold, status 0, and nothing is left."""
    status, report, steps = await probe(address(client), tmp_path, "--once", *PATIENT)
    assert (status, report["verdict"], report["reason"]) == (0, "good", None)
    assert tuple(steps) == PROBE_STEPS
    for name, step in steps.items():
        assert step["verdict"] == "good", step
        assert 0 < step["seconds"] < step["threshold"] == 60, name
    assert await nothing_is_left(client, attachment_dir)


async def test_a_stopped_consumer(make_client, attachment_dir, tmp_path):
    """Where events don't come in the timeline step is wrong, status 2, and nothing is left."""
    client = await make_client(SUPPORT_EVENTS_CONSUME="false")
    status, report, steps = await probe(address(client), tmp_path, "--threshold", "60", "--event-threshold", "0.2s")
    assert (status, report["verdict"]) == (2, "wrong")
    assert steps["event"]["verdict"] == "good"
    assert steps["timeline"]["verdict"] == "wrong"
    assert steps["timeline"]["detail"].startswith("the event did not appear in the timeline")
    assert steps["refresh"]["verdict"] == "skipped"
    assert steps["delete"]["verdict"] == "good"
    assert await nothing_is_left(client, attachment_dir)


async def test_a_source_that_hangs(make_client, orders, attachment_dir, tmp_path):
    """A service behind the timeline that hangs is named, status 2, and nothing is left."""
    client = await make_client(SUPPORT_TIMELINE_SOURCE_TIMEOUT="0.2")
    release = orders.hang()
    status, report, steps = await probe(address(client), tmp_path, *PATIENT)
    release.set()
    assert (status, report["verdict"]) == (2, "wrong")
    assert "the timeline source order is unavailable" in steps["timeline"]["detail"]
    assert await nothing_is_left(client, attachment_dir)


async def test_a_corrupted_file(client, attachment_dir, tmp_path):
    """A file that comes back with one bit changed is wrong, status 2, and nothing is left."""

    async def hand_on(request):
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"{address(client)}{request.raw_path}",
                data=await request.read(),
                headers={name: text for name, text in request.headers.items() if name != "Host"},
            ) as response,
        ):
            body = bytearray(await response.read())
            if request.path.endswith("probe.bin"):
                body[1000] ^= 1
            return web.Response(body=bytes(body), status=response.status, content_type=response.content_type)

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{tail:.*}", hand_on)
    async with TestServer(app) as between:
        status, report, steps = await probe(str(between.make_url("")).rstrip("/"), tmp_path, *PATIENT)
    assert (status, report["verdict"]) == (2, "wrong")
    assert steps["upload"]["verdict"] == "good"
    assert steps["download"]["detail"] == "the downloaded file differs from the uploaded one"
    assert await nothing_is_left(client, attachment_dir)


async def test_too_slow_is_not_good(client, attachment_dir, tmp_path):
    """What works and takes longer than allowed is slow, status 2."""
    status, report, _ = await probe(address(client), tmp_path, "--threshold", "0.000001")
    assert (status, report["verdict"]) == (2, "slow")
    assert await nothing_is_left(client, attachment_dir)


async def test_a_service_out_of_reach(tmp_path):
    """Where nothing answers the check could not run: status 3, with the reason."""
    status, report, steps = await probe("http://127.0.0.1:1", tmp_path)
    assert (status, report["verdict"], steps) == (3, "not run", {})
    assert "127.0.0.1" in report["reason"]


@pytest.mark.parametrize("base_url", ["x", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999", "http://a..b"])
async def test_what_is_no_address(tmp_path, base_url):
    """Where the address is none the check could not run: status 3, with the reason."""
    status, report, _ = await probe(base_url, tmp_path)
    assert (status, report["verdict"]) == (3, "not run")
    assert report["reason"]


async def test_answers_of_another_shape(tmp_path):
    """An answer that is JSON of any other shape is wrong, status 2, and the case is deleted all the same."""
    deleted = []

    async def answer(request):
        if request.method == "DELETE":
            deleted.append(request.path)
            return web.Response(status=204)
        if request.path.endswith("/attachments"):
            await request.read()
            return web.json_response({"uri": None, "sha256": None}, status=201)
        if request.path.endswith("/messages"):
            return web.json_response(await request.json())
        return web.json_response({"id": "c-1"}, status=201)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as odd:
        status, report, steps = await probe(str(odd.make_url("")).rstrip("/"), tmp_path, *PATIENT)
    assert (status, report["verdict"]) == (2, "wrong")
    assert steps["upload"]["verdict"] == "wrong"
    assert deleted == ["/support/cases/c-1"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--base-url", "x", "--interval", "0"],
        ["--base-url", "x", "--fast"],
        ["--base-url", "x", "--header", "X: one\ntwo"],
        ["--base-url", "x", "--header", "a name: value"],
    ],
)
async def test_wrong_usage(tmp_path, arguments):
    """A probe that is called wrongly could not run either: status 3."""
    async with running("probe", *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.ended(LONG)
    assert (status, out) == (3, "")
    assert errors.startswith("usage: support-service probe")


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1", ""])
async def test_a_wrong_address_to_listen_on(tmp_path, address):
    """What is no address to serve metrics on is wrong usage, and the line says what is allowed."""
    async with running("probe", "--base-url", "x", "--interval", "5s", f"--listen={address}", cwd=tmp_path) as process:
        status, out, errors = await process.ended(LONG)
    assert (status, out) == (3, "")
    allowed = f"argument --listen: invalid address {address!r}: expected HOST:PORT with a port from 0 to 65535"
    assert errors.endswith(f"support-service probe: error: {allowed}\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b"])
async def test_an_address_that_can_not_be_listened_on(tmp_path, host):
    """Where someone else listens, or nobody can, the check could not run: status 3, and one line that names it."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"{host}:{server.sockets[0].getsockname()[1]}"
    arguments = ("--base-url", "http://127.0.0.1:1", "--interval", "5s", "--listen", address)
    async with server, running("probe", *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.ended(LONG)
    assert (status, out) == (3, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"support-service: --listen {address}: can't listen there: ")


async def test_again_and_again_with_metrics(client, orders, attachment_dir, tmp_path):
    """In interval mode the last check is there as metrics, good or not; a stop lets the check end."""
    arguments = ("--interval", "0.1s", "--listen", "127.0.0.1:0", *PATIENT)

    async def metrics():
        async with aiohttp.ClientSession() as session, session.get(where) as response:
            return {(name, labels.get("step")): value for name, labels, value in parse(await response.text())}

    async def once(success):
        async def reported():
            found = await metrics()
            return found if found.get(("support_probe_success", None)) == success else None

        return await eventually(reported)

    async with running("probe", "--base-url", address(client), *arguments, cwd=tmp_path) as process:
        where = json.loads(await process.printed(until="metrics"))["metrics"]
        await process.printed(until='"good"')
        good = await once(1)
        assert good["support_probe_last_success_timestamp_seconds", None] > 1_700_000_000
        assert {step for name, step in good if name == "support_probe_step_seconds"} == set(PROBE_STEPS)
        orders.fail_with(503)
        await process.printed(until='"wrong"')
        bad = await once(0)
        assert bad["support_probe_last_success_timestamp_seconds", None] > 1_700_000_000
        process.stop()
        assert (await process.ended(LONG))[0] == 0
    assert await nothing_is_left(client, attachment_dir)


async def test_synthetic_cases_count_nowhere(client, metrics, tmp_path):
    """A check moves no metric of real cases, and a synthetic case is in no list or workload unless it is asked for."""
    synthetic = await open_case(client, channel="synthetic", assignedAgentId="a", priority="high")
    await probe(address(client), tmp_path, *PATIENT)
    assert metrics.moved("support_ticket_created_total") == {"synthetic": 2}
    for name in ("support_conversation_added_total", "support_ticket_status_changed_total"):
        assert metrics.total(name) == 0
    assert metrics.total("support_attachment_stored_total") == 0
    assert metrics.total("support_attachment_deleted_total") == 0
    assert metrics.total("support_ticket_resolution_seconds_count") == 0
    assert metrics.total("support_ticket_open") == 0
    assert (await list_cases(client))["items"] == []
    assert (await list_cases(client, q="parcel"))["items"] == []
    assert [case["id"] for case in (await list_cases(client, channel="synthetic"))["items"]] == [synthetic["id"]]
    async with client.get("/support/agents/a/workload") as response:
        assert await response.json() == {"agentId": "a", "open": 0, "pending": 0, "resolved": 0, "closed": 0}


async def test_only_synthetic_cases_can_be_deleted(client, metrics, attachment_dir):
    """A case of a real channel is not deleted, and says why; one that is not there is 404."""
    real = await open_case(client)
    async with client.delete(f"/support/cases/{real['id']}") as response:
        assert response.status == 409
        assert (await response.json())["code"] == "case_not_synthetic"
    async with client.delete("/support/cases/nobody") as response:
        assert response.status == 404
    assert len((await list_cases(client))["items"]) == 1
