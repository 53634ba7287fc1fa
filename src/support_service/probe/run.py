"""Runs the check once, or repeatedly with the last result as metrics."""

import asyncio
import json
import time

from aiohttp import web

from support_service.probe.check import SyntheticCheck
from support_service.probe.report import CheckReport
from support_service.server import serving, stop_signal
from support_service.settings import ServerSettings
from support_service.telemetry.instruments import Observations, observe
from support_service.telemetry.instruments.probe import (
    PROBE_LAST_SUCCESS,
    PROBE_STEP,
    PROBE_STEP_SUCCESS,
    PROBE_SUCCESS,
)
from support_service.telemetry.provider import Metrics, build_resource


async def run_once(check: SyntheticCheck) -> int:
    """Run the check, print the report and return the exit status."""
    report = await check.run()
    print(json.dumps(report.document(), indent=2), flush=True)
    return report.status


async def run_every(check: SyntheticCheck, interval: float, listen: tuple[str, int]) -> None:
    """Run the check every `interval` seconds until SIGTERM or SIGINT.

    Prints one report per line and serves the last one as metrics. Raises WrongSetting if they can't be served.
    """
    stopped = asyncio.ensure_future(stop_signal())
    results = CheckMetrics()
    host, port = listen
    server = ServerSettings.model_validate({"SUPPORT_HOST": host, "SUPPORT_PORT": port})
    async with serving(results.application(), server, chosen_by=f"--listen {host}:{port}") as address:
        print(json.dumps({"metrics": f"{address}/metrics"}), flush=True)
        while not stopped.done():
            started = time.monotonic()
            report = await check.run()  # a check that has begun finishes, so that it deletes its case
            results.keep(report)
            print(json.dumps(report.document()), flush=True)
            await asyncio.wait([stopped], timeout=max(0.0, started + interval - time.monotonic()))
    results.close()


class CheckMetrics:
    """Metrics of the last check."""

    def __init__(self) -> None:
        self._metrics = Metrics(("prometheus",), build_resource())
        self._last: CheckReport | None = None
        self._last_good: float | None = None
        observe(self._metrics.meter, PROBE_SUCCESS, self._success)
        observe(self._metrics.meter, PROBE_STEP, self._steps)
        observe(self._metrics.meter, PROBE_STEP_SUCCESS, self._step_success)
        observe(
            self._metrics.meter, PROBE_LAST_SUCCESS, lambda: [] if self._last_good is None else [(self._last_good, {})]
        )

    def application(self) -> web.Application:
        """Return an app that serves `/metrics`."""

        async def metrics(request: web.Request) -> web.Response:
            found = await self._metrics.render_async(request.headers.get("Accept", ""), "")
            return web.Response(body=found.body, headers={"Content-Type": found.content_type})

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        return app

    def keep(self, report: CheckReport) -> None:
        """Store a report as the last check."""
        self._last = report
        if report.verdict == "good":
            self._last_good = time.time()

    def close(self) -> None:
        """Shut down the metrics provider."""
        self._metrics.close()

    def _success(self) -> Observations:
        return [] if self._last is None else [(int(self._last.verdict == "good"), {})]

    def _steps(self) -> Observations:
        steps = self._last.steps if self._last else []
        return [(step.seconds, {"step": step.step}) for step in steps if step.verdict != "skipped"]

    def _step_success(self) -> Observations:
        steps = self._last.steps if self._last else []
        return [(int(step.verdict == "good"), {"step": step.step}) for step in steps if step.verdict != "skipped"]
