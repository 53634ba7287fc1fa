"""Ask far more than the service can do, with load shedding and without: what do those see who are let in?

    python -m benchmarks.flood [--connections N] [--seconds S]

Every client asks again as soon as it has its answer, and a second later where it was told 503. It exits with 1 where
the p99 of good answers is no better with shedding, or nobody was let in.
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

from benchmarks.bed import ROOT, free_port, running

SHEDDING = {"on": "0.5", "off": "0"}
PROBE_EVERY = 0.1  # seconds between requests to /livez


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("--connections", type=int, default=5_000, help="clients at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each of the two parts (default: %(default)s)")
    given = parser.parse_args()
    print(
        "| shedding | good answers/s | p50, s | p99, s | told 503 | p99 of /livez, s |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    found = {}
    for name, lag in SHEDDING.items():
        found[name] = each = _flooded(lag, given)
        good, total = each["good"], each["good"] + each["refused"]
        print(
            f"| {name} | {good / given.seconds:.0f} | {each['p50']:.2f} | {each['p99']:.2f} | "
            f"{each['refused'] / max(1, total):.0%} | {each['livez']:.2f} |",
            flush=True,
        )
    return 0 if found["on"]["good"] and found["on"]["p99"] < found["off"]["p99"] else 1


def _flooded(lag: str, given: argparse.Namespace) -> dict[str, Any]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="flood-") as name:
        folder = Path(name)
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_SHED_LAG": lag,
            "SUPPORT_CONNECTIONS": str(2 * given.connections),
            "SUPPORT_LOG_LEVEL": "error",
        }
        serve = [sys.executable, "-m", "support_service", "serve"]
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log"):
            return asyncio.run(_flood(port, given))


async def _flood(port: int, given: argparse.Namespace) -> dict[str, Any]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.post("/support/cases", json={"subject": "Flood", "channel": "email"}) as response:
            response.raise_for_status()
            case = await response.json()
        command = ("-m", "benchmarks.flooder", str(port), case["id"], str(given.connections), str(given.seconds))
        flooder = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        answered = asyncio.ensure_future(flooder.communicate())
        waits = []
        while not answered.done():
            started = perf_counter()
            async with session.get("/livez") as response:
                response.raise_for_status()
            waits.append(perf_counter() - started)
            await asyncio.sleep(PROBE_EVERY)
        out, _ = await answered
    found: dict[str, Any] = json.loads(out)
    return found | {"livez": sorted(waits)[len(waits) * 99 // 100]}


if __name__ == "__main__":
    sys.exit(main())
