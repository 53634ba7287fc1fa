"""Send more requests than the service can handle, with load shedding and without, and compare the latency.

    python -m benchmarks.overload [--connections N] [--seconds S]

Each client sends its next request after the response, or a second later after a 503. The exit status is 1 if the p99 of
successful responses is not lower with shedding, or if no request succeeded.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.environment import ROOT, free_port, running

SHED_LAGS = {"on": "0.5", "off": "0"}
PROBE_INTERVAL = 0.1  # seconds between requests to /livez


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--connections", type=int, default=5_000, help="concurrent clients (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each of the two phases (default: %(default)s)")
    arguments = parser.parse_args()
    print(
        "| shedding | successful/s | p50, s | p99, s | 503 | p99 of /livez, s |\n| --- | --- | --- | --- | --- | --- |"
    )
    found = {}
    for name, lag in SHED_LAGS.items():
        found[name] = each = _run(lag, arguments)
        good, total = each["good"], each["good"] + each["refused"]
        print(
            f"| {name} | {good / arguments.seconds:.0f} | {each['p50']:.2f} | {each['p99']:.2f} | "
            f"{each['refused'] / max(1, total):.0%} | {each['livez']:.2f} |",
            flush=True,
        )
    return 0 if found["on"]["good"] and found["on"]["p99"] < found["off"]["p99"] else 1


def _run(lag: str, arguments: argparse.Namespace) -> dict[str, Any]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="overload-") as name:
        folder = Path(name)
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_SHED_LAG": lag,
            "SUPPORT_CONNECTIONS": str(2 * arguments.connections),
            "SUPPORT_LOG_LEVEL": "error",
        }
        serve = [sys.executable, "-m", "support_service", "serve"]
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log"):
            return asyncio.run(_measure(port, arguments))


async def _measure(port: int, arguments: argparse.Namespace) -> dict[str, Any]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.post("/support/cases", json={"subject": "Overload", "channel": "email"}) as response:
            response.raise_for_status()
            case = await response.json()
        command = (
            "-m",
            "benchmarks.closed_loop",
            str(port),
            case["id"],
            str(arguments.connections),
            str(arguments.seconds),
        )
        clients = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        answered = asyncio.ensure_future(clients.communicate())
        waits = []
        while not answered.done():
            started = perf_counter()
            async with session.get("/livez") as response:
                response.raise_for_status()
            waits.append(perf_counter() - started)
            await asyncio.sleep(PROBE_INTERVAL)
        out, _ = await answered
    found: dict[str, Any] = json.loads(out)
    return found | {"livez": sorted(waits)[len(waits) * 99 // 100]}


if __name__ == "__main__":
    sys.exit(main())
