"""Measure the latency of regular clients while idle and slow connections are open.

    python -m benchmarks.slow_clients [--idle N] [--slow N] [--seconds S]
    python -m benchmarks.slow_clients --unread [--seconds S]    (see benchmarks/unread_answers.py)

The result is the p99 latency under attack as a multiple of the p99 before and after it. The exit status is 1 if it is
above 2, or if a regular request failed. It is also 1 if fewer than 95 % of the requested connections were open.
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

from benchmarks import unread_answers
from benchmarks.environment import ROOT, free_port, running

BUDGET = 2.0
CLIENTS = 8  # regular clients
REQUEST_INTERVAL = 0.03  # seconds between the requests of each, so that the service has little load
MAX_CONNECTIONS = 18_000
OPEN, CLOSED = "support_connection_open", "support_connection_cut_total"


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_clients", description=__doc__)
    parser.add_argument("--idle", type=int, default=10_000, help="connections without requests (default: %(default)s)")
    parser.add_argument(
        "--slow", type=int, default=1_000, help="connections that send slowly or don't read (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=12,
        help="of each of the three phases: before, attack, after (default: %(default)s)",
    )
    parser.add_argument("--unread", action="store_true", help="measure the memory of large answers that are not read")
    arguments = parser.parse_args()
    if arguments.unread:
        return unread_answers.run(arguments.seconds)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="slow-clients-") as name:
        folder = Path(name)
        serve = [sys.executable, "-m", "support_service", "serve"]
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_CONNECTIONS": str(MAX_CONNECTIONS),
        }
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log") as pid:
            return asyncio.run(_measure(port, psutil.Process(pid), arguments))


async def _measure(port: int, service: psutil.Process, arguments: argparse.Namespace) -> int:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        case = await _open_case(session)
        before, failed_before = await _measure_latency(session, case, arguments.seconds)
        memory_before = service.memory_info().rss
        command = ("-m", "benchmarks.slowloris", "127.0.0.1", str(port), str(arguments.idle), str(arguments.slow))
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert attacker.stdout is not None  # noqa: S101 - the process was started with a pipe
            await attacker.stdout.readline()  # all connections are open
            cpu, started = service.cpu_times(), perf_counter()
            attack, failed_attack = await _measure_latency(session, case, arguments.seconds)
            spent = sum(service.cpu_times()[:2]) - sum(cpu[:2])
            busy = spent / (perf_counter() - started)
            metrics = await _metrics(session)
            memory = service.memory_info().rss - memory_before
        finally:
            attacker.terminate()
            await attacker.wait()
        after, failed_after = await _measure_latency(session, case, arguments.seconds)
    ratio = 2 * attack[99] / (before[99] + after[99])
    open_connections = metrics[OPEN]
    requested = arguments.idle + arguments.slow
    verdict = (
        ratio <= BUDGET and not failed_before + failed_attack + failed_after and open_connections >= 0.95 * requested
    )
    print("| regular clients | p50, ms | p99, ms | failed |\n| --- | --- | --- | --- |")
    for part, times, failed in (
        ("before", before, failed_before),
        ("under attack", attack, failed_attack),
        ("after", after, failed_after),
    ):
        print(f"| {part} | {times[50]:.2f} | {times[99]:.2f} | {failed} |")
    closed = ", ".join(f"{reason} {number:g}" for reason, number in metrics.items() if reason != OPEN and number)
    print(
        f"\np99 under attack: {ratio:.2f}x the p99 without (budget {BUDGET:g}x); {open_connections:g} connections were "
        f"open, {memory / requested / 1024:.1f} KiB each; the service used {busy:.0%} of a core; "
        f"closed by the service: {closed or 'none'}: {'ok' if verdict else 'missed'}"
    )
    return 0 if verdict else 1


async def _open_case(session: aiohttp.ClientSession) -> str:
    async with session.post("/support/cases", json={"subject": "Slow clients", "channel": "email"}) as response:
        response.raise_for_status()
        case: dict[str, Any] = await response.json()
        return f"/support/cases/{case['id']}"


async def _measure_latency(session: aiohttp.ClientSession, path: str, seconds: float) -> tuple[dict[int, float], int]:
    """Return the latency of regular clients in ms by percentile, and the number of failed requests."""
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
            await asyncio.sleep(REQUEST_INTERVAL)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    times.sort()
    return {each: times[len(times) * each // 100] for each in (50, 99)}, failed


async def _metrics(session: aiohttp.ClientSession) -> dict[str, float]:
    async with session.get("/metrics") as response:
        text = await response.text()
    found = {
        reason: float(number)
        for reason, number in re.findall(rf'^{CLOSED}{{reason="(\w+)"}} (\S+)$', text, re.MULTILINE)
    }
    found_open = re.search(rf"^{OPEN} (\S+)$", text, re.MULTILINE)
    return found | {OPEN: float(found_open[1]) if found_open else 0.0}


if __name__ == "__main__":
    sys.exit(main())
