"""The verdict of on-call during a fault: it agrees with the alerts that fire, within one evaluation."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from observability.drill import EVALUATION_SECONDS

from support_service.platform.telemetry.http import PROBE_USER_AGENT
from tests.support.servers import free_port

if TYPE_CHECKING:
    from tests.e2e.drill.deployment import Deployment

ANSWER_WITHIN = 5.0  # seconds, on a busy machine


class AlertsOfNow:
    """The alerts of the Prometheus in use, at one address: each fault has a Prometheus of its own."""

    def __init__(self, deployment: "Deployment") -> None:
        self._deployment = deployment
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/api/v1/alerts", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        monitoring = getattr(self._deployment, "monitoring", None)
        if monitoring is None:
            return web.json_response({"status": "success", "data": {"alerts": []}})
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{monitoring.prometheus}/api/v1/alerts") as response,
        ):
            return web.Response(body=await response.read(), content_type="application/json")


@asynccontextmanager
async def verdict_agrees(deployment: "Deployment", *, is_healthy: bool = False) -> AsyncIterator[list[str]]:
    """Poll the verdict while the block runs, and give the list to which each disagreement is added.

    A disagreement lasts for more than one evaluation. An error that ended the polling is in the list, too.

    With some faults no replica answers, or none knows the caller. For a healthy deployment, and if every verdict lacked
    Prometheus, the list says that no verdict was compared.
    """
    found: list[str] = []
    polls: Counter[str] = Counter()
    polling = asyncio.create_task(_poll(deployment, found, polls))
    try:
        yield found
    finally:
        polling.cancel()
        (ended,) = await asyncio.gather(polling, return_exceptions=True)
        if isinstance(ended, Exception):
            found.append(f"the verdict was not read to the end: {ended!r}")
        if not polls["compared"] and (is_healthy or polls["without Prometheus"]):
            found.append("no verdict was compared")


async def _poll(deployment: "Deployment", found: list[str], polls: Counter[str]) -> None:
    """Add to `found` each disagreement, and count the polls."""
    before: set[str] = set()
    # As requests of the probe, they are no traffic, which an alert may miss.
    headers = {"Authorization": f"Bearer {deployment.oncall_token}", "User-Agent": PROBE_USER_AGENT}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN)) as session:
        while True:
            await asyncio.sleep(EVALUATION_SECONDS)
            first = await _firing(deployment)
            verdict = await _read_verdict(deployment, session)
            last = await _firing(deployment)
            if verdict is None:
                before = set()
                continue
            if any(each["part"] == "prometheus" for each in verdict["problems"]):  # too slow on a busy machine
                polls["without Prometheus"] += 1
                before = set()
                continue
            polls["compared"] += 1
            now = _disagreements(verdict, first, last)
            found += sorted((now & before).difference(found))
            before = now


def _disagreements(verdict: dict[str, Any], first: set[str], last: set[str]) -> set[str]:
    """Return what differs. `first` and `last` fire before and after the verdict was read."""
    listed = [each for problem in verdict["problems"] for each in (problem, *problem["symptoms"])]
    explained = [each for override in verdict["deliberate"] for each in override["symptoms"]]
    shown = {each["alert"] for each in (*listed, *explained) if each["state"] == "firing"}
    differences = {f"the verdict does not have {alert}" for alert in (first & last) - shown}
    differences |= {f"the verdict has {alert}, which does not fire" for alert in shown - first - last}
    if verdict["level"] != "bad" and any(each["state"] == "firing" for each in listed):
        differences.add(f"the verdict is {verdict['level']}")
    return differences


async def _firing(deployment: "Deployment") -> set[str]:
    return set().union(*(group.firing for group in await deployment.monitoring.groups()))


async def _read_verdict(deployment: "Deployment", session: aiohttp.ClientSession) -> dict[str, Any] | None:
    """Return the verdict of the first replica that answers, or None: none answers, or none knows the caller."""
    for replica in deployment.replicas:
        try:
            async with session.get(f"{replica.address}/support/oncall") as response:
                if response.status == 200:
                    return (await response.json())["verdict"]
        except (aiohttp.ClientError, TimeoutError):
            continue
    return None
