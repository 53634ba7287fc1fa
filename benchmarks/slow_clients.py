"""Besiege the service with idle and slow connections, and see how good clients fare meanwhile.

    python -m benchmarks.siege [--idle N] [--slow N] [--seconds S]

The figure is the p99 of good clients under siege as a multiple of theirs before and after it, in one run. It
exits with 1 where that is over 2, a good request failed, or fewer connections stood than were asked for.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import psutil

from benchmarks.bed import ROOT, free_port, running

BUDGET = 2.0
CLIENTS, PACE = 8, 0.03  # good clients, and seconds between the requests of each, so that the service is far from busy
PLACES = 18_000
OPEN, CUT = "support_connection_open", "support_connection_cut_total"


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.siege", description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000, help="connections that ask nothing (default: %(default)s)")
    parser.add_argument("--slow", type=int, default=1_000, help="connections that drip (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12, help="of each of the three parts (default: %(default)s)")
    given = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="siege-") as name:
        folder = Path(name)
        serve = [sys.executable, "-m", "support_service", "serve"]
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_CONNECTIONS": str(PLACES),
            "SUPPORT_IDLE_TIMEOUT": "600",
        }
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log") as pid:
            return asyncio.run(_besiege(port, psutil.Process(pid), given))


async def _besiege(port: int, service: psutil.Process, given: argparse.Namespace) -> int:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        case = await _open_case(session)
        before, failed_before = await _ask(session, case, given.seconds)
        calm_memory = service.memory_info().rss
        command = ("-m", "benchmarks.besieger", "127.0.0.1", str(port), str(given.idle), str(given.slow))
        besieger = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert besieger.stdout is not None  # noqa: S101 - the process was started with a pipe
            await besieger.stdout.readline()  # all connections are open
            cpu, started = service.cpu_times(), perf_counter()
            under, failed_under = await _ask(session, case, given.seconds)
            spent = sum(service.cpu_times()[:2]) - sum(cpu[:2])
            busy = spent / (perf_counter() - started)
            metrics = await _metrics(session)
            memory = service.memory_info().rss - calm_memory
        finally:
            besieger.terminate()
            await besieger.wait()
        after, failed_after = await _ask(session, case, given.seconds)
    ratio = 2 * under[99] / (before[99] + after[99])
    stood = metrics[OPEN]
    wanted = given.idle + given.slow
    verdict = ratio <= BUDGET and not failed_before + failed_under + failed_after and stood >= 0.95 * wanted
    print("| good clients | p50, ms | p99, ms | failed |\n| --- | --- | --- | --- |")
    for part, times, failed in (
        ("before", before, failed_before),
        ("besieged", under, failed_under),
        ("after", after, failed_after),
    ):
        print(f"| {part} | {times[50]:.2f} | {times[99]:.2f} | {failed} |")
    cut = ", ".join(f"{reason} {number:g}" for reason, number in metrics.items() if reason != OPEN and number)
    print(
        f"\np99 under siege is {ratio:.2f}x the usual one (budget {BUDGET:g}x); {stood:g} connections stood, "
        f"{memory / wanted / 1024:.1f} KiB each; the service used {busy:.0%} of a core; ended: {cut or 'none'}: "
        f"{'ok' if verdict else 'missed'}"
    )
    return 0 if verdict else 1


async def _open_case(session: aiohttp.ClientSession) -> str:
    async with session.post("/support/cases", json={"subject": "Siege", "channel": "email"}) as response:
        response.raise_for_status()
        case: dict[str, Any] = await response.json()
        return f"/support/cases/{case['id']}"


async def _ask(session: aiohttp.ClientSession, path: str, seconds: float) -> tuple[dict[int, float], int]:
    """Return what good clients measure: milliseconds by percentile, and the number of failed requests."""
    until, times, failed = perf_counter() + seconds, [], 0

    async def client() -> None:
        nonlocal failed
        while (started := perf_counter()) < until:
            try:
                async with session.get(path, timeout=aiohttp.ClientTimeout(total=10)) as response:
                    await response.read()
                    failed += response.status != 200
            except (aiohttp.ClientError, TimeoutError):
                failed += 1
            times.append((perf_counter() - started) * 1000)
            await asyncio.sleep(PACE)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    times.sort()
    return {each: times[len(times) * each // 100] for each in (50, 99)}, failed


async def _metrics(session: aiohttp.ClientSession) -> dict[str, float]:
    async with session.get("/metrics") as response:
        text = await response.text()
    found = {
        reason: float(number) for reason, number in re.findall(rf'^{CUT}{{reason="(\w+)"}} (\S+)$', text, re.MULTILINE)
    }
    standing = re.search(rf"^{OPEN} (\S+)$", text, re.MULTILINE)
    return found | {OPEN: float(standing[1]) if standing else 0.0}


if __name__ == "__main__":
    sys.exit(main())
