"""With Prometheus, the verdict knows of the other replicas and of the probe; without an answer of it, it says so."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import yaml
from aiohttp import ClientError, ClientSession, web
from aiohttp.test_utils import TestServer

from support_service.oncall.judge import OncallTimings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json
from tests.support.servers import START_TIMEOUT, find_binary, free_port
from tests.support.timings import patient_timings

LABELS = {"severity": "warning", "team": "data-ops", "service": "support-service"}


@pytest.fixture
def timings():
    """The replica takes one sample: so it finds nothing itself, however slow this machine is."""
    return patient_timings(oncall=OncallTimings(sample_interval=3600, prometheus_timeout=GENEROUS_TIMEOUT))


def alert(name, expr, summary="", **labels):
    return {"alert": name, "expr": expr, "labels": LABELS | labels, "annotations": {"summary": summary}}


@asynccontextmanager
async def prometheus(folder, *rules):
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": list(rules)}]}))
    settings = {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yml"]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        find_binary("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        cwd=folder,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with ClientSession() as session:

            async def evaluated():
                try:
                    async with session.get(f"{url}/api/v1/alerts") as response:
                        return len((await response.json())["data"]["alerts"]) >= len(rules)
                except (ClientError, ValueError, KeyError):
                    return False

            await eventually(evaluated, START_TIMEOUT)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def read_verdict(client):
    return (await expect_json(client.get("/support/oncall")))["verdict"]


@pytest.mark.usefixtures("servers")
async def test_alerts_of_prometheus_are_part_of_the_verdict(make_client, tmp_path):
    """They name the replicas that they concern; what follows from a cause is folded under it."""
    rules = (
        alert("SupportReplicaDown", "vector(0)", "The replica b does not answer", instance="b"),
        alert("SupportProbeFlapping", "vector(0.5)", "The synthetic check fails again and again"),
        alert("SupportDatabaseFailing", "vector(0.4)", severity="critical", instance="a"),
        alert("SupportProbeFailing", "vector(0)", severity="critical"),
        alert("Watchdog", "vector(1)", severity="none"),
        alert("OtherAlert", "vector(1)"),
    )
    async with prometheus(tmp_path, *rules) as url:
        client = await make_client(SUPPORT_PROMETHEUS_URL=url)
        found = await read_verdict(client)
    assert found["level"] == "bad"
    database, replica = found["problems"]
    assert (database["alert"], database["figure"], database["scope"]) == ("SupportDatabaseFailing", 0.4, "replica")
    assert database["text"] == f"{database['summary']['en']}: 40 %"
    assert {each["alert"] for each in database["symptoms"]} == {"SupportProbeFlapping", "SupportProbeFailing"}
    assert (replica["alert"], replica["text"]) == ("SupportReplicaDown", "The replica b does not answer")
    assert (replica["replicas"], replica["foundBy"], replica["state"]) == (["b"], ["prometheus"], "firing")


async def test_unreadable_prometheus_is_a_problem_of_its_own(make_client, subtests):
    """On-call answers all the same, and says what it does not know."""
    not_one, answers = "not one of Prometheus", []
    application = web.Application()

    async def answer_request(_):
        return answers.pop()

    async def expect(url, why):
        found = await read_verdict(await make_client(SUPPORT_PROMETHEUS_URL=url))
        (problem,) = found["problems"]
        assert (found["level"], problem["part"], problem["alert"]) == ("degraded", "prometheus", None)
        assert why in problem["text"]

    application.router.add_get("/api/v1/alerts", answer_request)
    async with TestServer(application) as server:
        for answer, why in (
            ({"status": 503}, "It answers with status 503."),
            ({"text": "no JSON"}, not_one),
            ({"text": json.dumps({"data": {"alerts": [{"labels": {}}]}})}, not_one),
            ({"text": json.dumps({"data": []})}, not_one),
            ({"text": json.dumps({"data": {"alerts": []}})}, "Watchdog is missing"),
        ):
            with subtests.test(why):
                answers[:] = [web.Response(**answer) for _ in range(9)]
                await expect(str(server.make_url("")).rstrip("/"), why)
    await expect(f"http://127.0.0.1:{free_port()}", "")
