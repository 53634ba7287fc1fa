"""Runs the checks once, or repeatedly with the last results as metrics."""

import asyncio
import json
import time
from collections.abc import Sequence

from support_service.platform.settings import ServerSettings
from support_service.probe.check import SyntheticCheck
from support_service.probe.metrics import CheckMetrics
from support_service.server import serving, stop_signal


async def run_once(checks: Sequence[SyntheticCheck]) -> int:
    """Run the checks, print a report of each and return the highest exit status."""
    reports = await asyncio.gather(*(check.run() for check in checks))
    for report in reports:
        print(json.dumps(report.document(), indent=2), flush=True)
    return max(report.status for report in reports)


async def run_every(checks: Sequence[SyntheticCheck], interval: float, listen: tuple[str, int]) -> None:
    """Run the checks every `interval` seconds until SIGTERM or SIGINT.

    Prints one report per line and serves the last ones as metrics. Raises WrongSetting if they can't be served.
    """
    stopped = asyncio.ensure_future(stop_signal())
    results = CheckMetrics()
    host, port = listen
    server = ServerSettings.model_validate({"SUPPORT_HOST": host, "SUPPORT_PORT": port})
    async with serving(results.application(), server, chosen_by=f"--listen {host}:{port}") as address:
        print(json.dumps({"metrics": f"{address}/metrics"}), flush=True)
        while not stopped.done():
            started = time.monotonic()
            # A check that has begun finishes, so that it deletes its case.
            for report in await asyncio.gather(*(check.run() for check in checks)):
                results.keep(report)
                print(json.dumps(report.document()), flush=True)
            await asyncio.wait([stopped], timeout=max(0.0, started + interval - time.monotonic()))
    results.close()
