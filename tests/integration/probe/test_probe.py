"""The synthetic check detects faults of a service, leaves nothing behind, and is not counted as traffic."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.cases.model.examples import CASE, MESSAGE
from support_service.commands.parser import build_parser
from support_service.probe.check import PROBE_STEPS
from tests.support.calls import eventually, list_cases, open_case, stored_files
from tests.support.each import each_row
from tests.support.process import running
from tests.support.scrape import parse

COMMAND_TIMEOUT = 90.0  # seconds for a command and all its steps, on a busy machine
GENEROUS_THRESHOLDS = ("--threshold", "60", "--event-threshold", "60")  # the verdict must not depend on the clock

pytestmark = pytest.mark.usefixtures("upstream_services")


@pytest.fixture
def environment(environment, redis, patient_cache):
    return environment | {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60"}


def base_url_of(client):
    return str(client.make_url("")).rstrip("/")


async def run_probe(base_url, tmp_path, *arguments):
    async with running("probe", "--base-url", base_url, *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.wait_for_exit(COMMAND_TIMEOUT)
    report = json.loads(out)
    assert (errors, report["baseUrl"]) == ("", base_url)
    return status, report, {step["step"]: step for step in report["steps"]}


async def run_probe_of(answer, tmp_path):
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(app) as server:
        return await run_probe(base_url_of(server), tmp_path, *GENEROUS_THRESHOLDS)


async def everything_is_deleted(client, attachment_dir):
    return not (await list_cases(client, channel="synthetic"))["items"] and stored_files(attachment_dir) == []


async def test_healthy_service_is_good(client, metrics, attachment_dir, tmp_path):
    """Each step reports its time and threshold, the exit status is 0, and everything is deleted.

    A step that succeeds and takes too long gives exit status 2. Checks change no metric of real cases. Synthetic cases
    are in no workload, and in a list only on request.
    """
    status, report, steps = await run_probe(base_url_of(client), tmp_path, "--once", *GENEROUS_THRESHOLDS)
    assert (status, report["verdict"], report["reason"]) == (0, "good", None)
    assert tuple(steps) == PROBE_STEPS
    for name, step in steps.items():
        assert step["verdict"] == "good", step
        assert 0 < step["seconds"] < step["threshold"] == 60, name
    status, report, _ = await run_probe(base_url_of(client), tmp_path, "--threshold", "0.000001")
    assert (status, report["verdict"]) == (2, "slow")
    assert await everything_is_deleted(client, attachment_dir)
    synthetic = await open_case(client, channel="synthetic", assignedAgentId="a", priority="high")
    assert metrics.nonzero("support_ticket_created_total") == {"synthetic": 3}
    for name in ("conversation_added_total", "ticket_status_changed_total", "attachment_stored_total"):
        assert metrics.total(f"support_{name}") == 0
    for name in ("attachment_deleted_total", "ticket_resolution_seconds_count", "ticket_open"):
        assert metrics.total(f"support_{name}") == 0
    assert (await list_cases(client))["items"] == []
    assert (await list_cases(client, q="parcel"))["items"] == []
    assert [case["id"] for case in (await list_cases(client, channel="synthetic"))["items"]] == [synthetic["id"]]
    async with client.get("/support/agents/a/workload") as response:
        assert await response.json() == {"agentId": "a", "open": 0, "pending": 0, "resolved": 0, "closed": 0}


async def test_stopped_event_consumer_is_wrong(make_client, attachment_dir, tmp_path, no_consumer):
    """If events are not consumed, the timeline step is wrong, and the exit status is 2."""
    client = await make_client()
    status, report, steps = await run_probe(
        base_url_of(client), tmp_path, "--threshold", "60", "--event-threshold", "0.2s"
    )
    assert (status, report["verdict"]) == (2, "wrong")
    assert (steps["event"]["verdict"], steps["timeline"]["verdict"]) == ("good", "wrong")
    assert steps["timeline"]["detail"].startswith("the event did not appear in the timeline")
    assert (steps["refresh"]["verdict"], steps["delete"]["verdict"]) == ("skipped", "good")
    assert await everything_is_deleted(client, attachment_dir)


async def test_hanging_source_is_named_in_the_report(make_client, orders, attachment_dir, tmp_path):
    """The exit status is 2, and everything is deleted."""
    client = await make_client(SUPPORT_TIMELINE_SOURCE_TIMEOUT="0.2")
    release = orders.hang()
    status, report, steps = await run_probe(base_url_of(client), tmp_path, *GENEROUS_THRESHOLDS)
    release.set()
    assert (status, report["verdict"]) == (2, "wrong")
    assert "the timeline source order is unavailable" in steps["timeline"]["detail"]
    assert await everything_is_deleted(client, attachment_dir)


async def test_corrupted_download_is_wrong(client, attachment_dir, tmp_path):
    """A download with one changed bit gives exit status 2, and everything is deleted."""

    async def forward(request):
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"{base_url_of(client)}{request.raw_path}",
                data=await request.read(),
                headers={name: text for name, text in request.headers.items() if name != "Host"},
            ) as response,
        ):
            body = bytearray(await response.read())
            if request.path.endswith("probe.bin"):
                body[1000] ^= 1
            return web.Response(body=bytes(body), status=response.status, content_type=response.content_type)

    status, report, steps = await run_probe_of(forward, tmp_path)
    assert (status, report["verdict"]) == (2, "wrong")
    assert steps["upload"]["verdict"] == "good"
    assert steps["download"]["detail"] == "the bytes of probe.bin differ from the uploaded ones"
    assert await everything_is_deleted(client, attachment_dir)


async def test_unreachable_service_is_not_run(tmp_path):
    """If nothing answers, the check could not run: exit status 3, with the reason."""
    status, report, steps = await run_probe("http://127.0.0.1:1", tmp_path)
    assert (status, report["verdict"], steps) == (3, "not run", {})
    assert "127.0.0.1" in report["reason"]


async def test_response_of_another_shape_is_wrong(tmp_path):
    """Unexpected JSON gives exit status 2, and the case is still deleted."""
    deleted = []

    async def answer(request):
        if request.method == "DELETE":
            deleted.append(request.path)
            return web.Response(status=204)
        if request.path.endswith("/attachments"):
            await request.read()
            return web.json_response({"uri": None, "sha256": None}, status=201)
        if request.path.endswith("/messages"):
            return web.json_response(MESSAGE | await request.json())
        return web.json_response(CASE, status=201)

    status, report, steps = await run_probe_of(answer, tmp_path)
    assert (status, report["verdict"]) == (2, "wrong")
    assert (steps["upload"]["verdict"], deleted) == ("wrong", [f"/support/cases/{CASE['id']}"])


@pytest.mark.parametrize("text", ['{"code": "database_read_only"}', "Bad Gateway", '{"code": "<b>"}'])
async def test_status_and_code_of_a_refusal_are_reported(tmp_path, text):
    """The step names the HTTP status, and the problem code unless something else than the service answered."""
    agents = []

    async def answer(request):
        agents.append(request.headers["User-Agent"])
        await request.read()
        if request.path == "/support/cases":
            return web.json_response(CASE, status=201)
        return web.Response(status=204 if request.method == "DELETE" else 503, text=text)

    _, report, steps = await run_probe_of(answer, tmp_path)
    assert report["verdict"] == "wrong"
    code = "database_read_only" if "read_only" in text else None
    assert (steps["message"]["verdict"], steps["message"]["status"], steps["message"]["code"]) == ("wrong", 503, code)
    assert (steps["open"]["status"], steps["open"]["code"]) == (None, None)
    assert agents[0].startswith("support-service-probe/")


@each_row(
    ("arguments", "reason"),
    [
        ([], "required: --base-url"),
        *(
            (["--base-url", url], "--base-url")
            for url in ("ftp://127.0.0.1", "http://[", "http://a..b", "http://h:99999")
        ),
        (["--base-url", "x", "--interval", "0"], "--interval"),
        (["--base-url", "x", "--fast"], "--fast"),
        (["--base-url", "x", "--header", "X: one\ntwo"], "--header"),
        (["--base-url", "x", "--header", "a name: value"], "--header"),
        *(
            (
                ["--base-url", "x", "--interval", "5s", f"--listen={address}"],
                f"argument --listen: invalid address {address!r}: expected HOST:PORT with a port from 0 to 65535\n",
            )
            for address in ("127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1", "")
        ),
    ],
)
def test_invalid_arguments_exit_with_status_3(capsys, arguments, reason):
    """The error names the option, and says which addresses are allowed."""
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args(["probe", *arguments])
    out, errors = capsys.readouterr()
    assert (end.value.code, out, errors.startswith("usage: support-service probe")) == (3, "", True)
    assert reason in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b"])
async def test_unavailable_listen_address_exits_with_status_3(tmp_path, host):
    """If the address is in use or can't be resolved, one line names it."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"{host}:{server.sockets[0].getsockname()[1]}"
    arguments = ("--base-url", "http://127.0.0.1:1", "--interval", "5s", "--listen", address)
    async with server, running("probe", *arguments, cwd=tmp_path) as process:
        status, out, errors = await process.wait_for_exit(COMMAND_TIMEOUT)
    assert (status, out) == (3, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"support-service: --listen {address}: can't listen there: ")


async def test_interval_mode_exposes_the_last_check_as_metrics(client, orders, attachment_dir, tmp_path):
    """The metrics show the last check, good or not; a stop lets the running check end."""
    arguments = ("--interval", "0.1s", "--listen", "127.0.0.1:0", *GENEROUS_THRESHOLDS)

    async def metrics():
        async with aiohttp.ClientSession() as session, session.get(metrics_url) as response:
            return {(name, labels.get("step")): value for name, labels, value in parse(await response.text())}

    async def metrics_after(name, step, value):
        async def reported():
            found = await metrics()
            return found if found.get((name, step)) == value else None

        return await eventually(reported)

    async with running("probe", "--base-url", base_url_of(client), *arguments, cwd=tmp_path) as process:
        metrics_url = json.loads(await process.read_output(until="metrics"))["metrics"]
        await process.read_output(until='"good"')
        good = await metrics_after("support_probe_success", None, 1)
        assert good["support_probe_last_success_timestamp_seconds", None] > 1_700_000_000
        assert {step for name, step in good if name == "support_probe_step_seconds"} == set(PROBE_STEPS)
        assert {good["support_probe_step_success", step] for step in PROBE_STEPS} == {1}
        orders.fail_with(503)
        await process.read_output(until='"wrong"')
        # The failure may have begun between two steps of a check.
        bad = await metrics_after("support_probe_step_success", "timeline", 0)
        assert bad["support_probe_success", None] == 0
        steps = {step: value for (name, step), value in bad.items() if name == "support_probe_step_success"}
        assert (steps["open"], steps["timeline"], steps.get("refresh")) == (1, 0, None)
        assert bad["support_probe_last_success_timestamp_seconds", None] > 1_700_000_000
        process.stop()
        assert (await process.wait_for_exit(COMMAND_TIMEOUT))[0] == 0
    assert await everything_is_deleted(client, attachment_dir)


async def test_ingress_is_checked_as_well(client, attachment_dir, tmp_path):
    """An ingress that leads elsewhere makes its own check wrong; the metrics tell both, with step, status and code."""
    app = web.Application()  # it answers every path with 404
    arguments = ("--interval", "0.1s", "--listen", "127.0.0.1:0", *GENEROUS_THRESHOLDS)
    async with TestServer(app) as ingress:
        elsewhere = ("--ingress-url", base_url_of(ingress))
        async with running("probe", "--base-url", base_url_of(client), *elsewhere, *arguments, cwd=tmp_path) as process:
            metrics_url = json.loads(await process.read_output(until="metrics"))["metrics"]
            await process.read_output(until='"ingress"')

            async def told():
                async with aiohttp.ClientSession() as session, session.get(metrics_url) as response:
                    samples = parse(await response.text())
                success = {labels["via"]: value for name, labels, value in samples if name == "support_probe_success"}
                failures = [labels for name, labels, _ in samples if name == "support_probe_step_failure"]
                return (success, failures) if len(success) == 2 else None

            success, (failure,) = await eventually(told)
            assert success == {"service": 1, "ingress": 0}
            assert failure.items() >= {"via": "ingress", "step": "open", "status": "404", "code": ""}.items()
            process.stop()
            assert (await process.wait_for_exit(COMMAND_TIMEOUT))[0] == 0
        async with running("probe", "--base-url", base_url_of(client), *elsewhere, cwd=tmp_path) as process:
            status, out, _ = await process.wait_for_exit(COMMAND_TIMEOUT)
    # Of the check through the ingress, and of its first step.
    assert (status, out.count('"verdict": "wrong"')) == (2, 2)
    assert await everything_is_deleted(client, attachment_dir)
