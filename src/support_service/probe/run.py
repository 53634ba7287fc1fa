"""Runs the checks once, or repeatedly with the last results as metrics."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence

from aiohttp import web

from support_service.platform.settings import ServerSettings
from support_service.platform.telemetry.instruments import InstrumentSpec, Observations, observe
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.probe.check import PROBE_STEPS, CheckReport, Step, SyntheticCheck
from support_service.server import open_server, wait_for_stop_signal

PROBE_PATHS = ("service", "ingress")  # by which a check reaches the service: `--base-url`, or `--ingress-url`
PROBE_SUCCESS = InstrumentSpec(
    "support.probe.success",
    "gauge",
    "{check}",
    "1 where the last synthetic check was good, else 0; checks reach the service directly (service) or through its "
    "ingress",
    {"via": PROBE_PATHS},
)
PROBE_STEP = InstrumentSpec(
    "support.probe.step",
    "gauge",
    "s",
    "Duration of each step of the last synthetic check",
    {"via": PROBE_PATHS, "step": PROBE_STEPS},
)
PROBE_STEP_SUCCESS = InstrumentSpec(
    "support.probe.step_success",
    "gauge",
    "{check}",
    "1 for each step of the last synthetic check that was good, 0 for one that was slow or wrong. A skipped step has "
    "no value",
    {"via": PROBE_PATHS, "step": PROBE_STEPS},
)
PROBE_STEP_FAILURE = InstrumentSpec(
    "support.probe.step_failure",
    "gauge",
    "{check}",
    "1 for each step of the last synthetic check that was not good. An unexpected answer has its HTTP status and its "
    "problem code. The code is event_missing if timelines are read, and none has the event. Without status and code, "
    "the step was slow, got no answer, or got one with wrong content",
    {"via": PROBE_PATHS, "step": PROBE_STEPS, "status": None, "code": None},
)
PROBE_UPLOAD_SIZE = InstrumentSpec(
    "support.probe.upload_size", "gauge", "By", "Size of the file of the last synthetic check", {"via": PROBE_PATHS}
)
PROBE_LAST_SUCCESS = InstrumentSpec(
    "support.probe.last_success_timestamp",
    "gauge",
    "s",
    "When a synthetic check was last good, in Unix time",
    {"via": PROBE_PATHS},
)


class CheckMetrics:
    """Metrics of the last check by each way to the service."""

    def __init__(self, exporters: Sequence[str]) -> None:
        self.provider = Metrics(exporters, build_resource("support-probe"))
        self._last: dict[str, CheckReport] = {}
        self._last_good: dict[str, float] = {}
        meter = self.provider.meter
        observe(meter, PROBE_SUCCESS, self._observe_successes)
        observe(meter, PROBE_STEP, lambda: [(step.seconds, labels) for step, labels in self._steps_with_labels()])
        observe(
            meter,
            PROBE_STEP_SUCCESS,
            lambda: [(int(step.verdict == "good"), of) for step, of in self._steps_with_labels()],
        )
        observe(meter, PROBE_STEP_FAILURE, lambda: [(1, labels) for labels in self._labels_of_failed_steps()])
        observe(
            meter, PROBE_UPLOAD_SIZE, lambda: [(last.upload_bytes, {"via": via}) for via, last in self._last.items()]
        )
        observe(meter, PROBE_LAST_SUCCESS, lambda: [(at, {"via": via}) for via, at in self._last_good.items()])

    def application(self) -> web.Application:
        """Return an app that serves `/metrics`."""

        async def metrics(request: web.Request) -> web.Response:
            found = await self.provider.render_async(request.headers.get("Accept", ""), "")
            return web.Response(body=found.body, headers={"Content-Type": found.content_type})

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        return app

    def keep_report(self, report: CheckReport) -> None:
        """Store a report as the last check by its way."""
        self._last[report.via] = report
        if report.verdict == "good":
            self._last_good[report.via] = time.time()

    def close(self) -> None:
        """Shut down the metrics provider."""
        self.provider.close()

    def _observe_successes(self) -> Observations:
        return [(int(report.verdict == "good"), {"via": via}) for via, report in self._last.items()]

    def _steps_with_labels(self) -> Iterator[tuple[Step, dict[str, str]]]:
        for via, report in self._last.items():
            for step in report.steps:
                if step.verdict != "skipped":
                    yield step, {"via": via, "step": step.step}

    def _labels_of_failed_steps(self) -> Iterator[dict[str, str]]:
        """Yield the labels of every step that failed; opening the case is one where nothing answered."""
        for via, report in self._last.items():
            if report.reason is not None:
                yield {"via": via, "step": "open", "status": "", "code": ""}
        for step, labels in self._steps_with_labels():
            if step.verdict != "good":
                yield {**labels, "status": str(step.status or ""), "code": step.code or ""}


async def run_once(checks: Sequence[SyntheticCheck]) -> int:
    """Run the checks, print a report of each and return the highest exit status."""
    reports = await asyncio.gather(*(check.run() for check in checks))
    for report in reports:
        print(json.dumps(report.document(), indent=2), flush=True)
    return max(report.status for report in reports)


async def run_every(
    checks: Sequence[SyntheticCheck], interval: float, listen: tuple[str, int], exporters: Sequence[str]
) -> None:
    """Run the checks every `interval` seconds until SIGTERM or SIGINT.

    Prints one report per line, and serves and exports the last ones as metrics. Raises UserError if they can't be
    served.
    """
    stopped = asyncio.ensure_future(wait_for_stop_signal())
    results = CheckMetrics(exporters)
    host, port = listen
    server = ServerSettings.model_validate({"SUPPORT_HOST": host, "SUPPORT_PORT": port})
    async with open_server(results.application(), server, chosen_by=f"--listen {host}:{port}") as address:
        print(json.dumps({"metrics": f"{address}/metrics"}), flush=True)
        while not stopped.done():
            started = time.monotonic()
            # A check that has begun finishes, so that it deletes its case.
            for report in await asyncio.gather(*(check.run() for check in checks)):
                results.keep_report(report)
                print(json.dumps(report.document()), flush=True)
            await asyncio.wait([stopped], timeout=max(0.0, started + interval - time.monotonic()))
    results.close()
