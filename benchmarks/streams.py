"""Measure reads of a case beside open streams of changes, and the memory of each stream.

    python -m benchmarks.streams [--streams N] [--seconds S] [--changes RATE]

The result is the p99 latency of reads with the streams as a multiple of the p99 before and after them. The exit status
is 1 if it is above 1.3, if a request failed, or if fewer than 95 % of the streams were open. Each stream is of another
customer; a supervisor's stream measures the time from a change to its client.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import psutil

from benchmarks.environment import ROOT, free_port, running
from benchmarks.slow_clients import _measure_latency as measure_latency
from benchmarks.slow_clients import _open_case as open_case
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token

BUDGET = 1.3
SETTLING = 5.0  # seconds in which the service closes the streams
OPENING = 100  # streams that are opened at once


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=5_000, help="open streams (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each of the three phases (default: %(default)s)")
    parser.add_argument("--changes", type=float, default=5, help="changes of cases in a second (default: %(default)s)")
    parser.add_argument("--hold", nargs=2, metavar=("PORT", "TOKENS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        return asyncio.run(_hold(int(arguments.hold[0]), Path(arguments.hold[1]).read_text().split()))
    port = free_port()
    most = arguments.streams + 1000
    with tempfile.TemporaryDirectory(prefix="streams-") as name:
        folder = Path(name)
        tokens = _write_tokens(folder / "tokens.json", arguments.streams)
        (folder / "customers.txt").write_text("\n".join(tokens[1:]))
        settings = {
            "SUPPORT_AUTH": "token",
            "SUPPORT_TOKENS_FILE": str(folder / "tokens.json"),
            "SUPPORT_RATE_LIMIT": "off",
            "SUPPORT_RATE_LIMIT_ADDRESS": "off",
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_CONNECTIONS": str(2 * most),  # streams take half of them
            "SUPPORT_TRUSTED_PROXIES": "127.0.0.1",
        }
        serve = [sys.executable, "-m", "support_service", "serve"]
        with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log") as pid:
            return asyncio.run(_measure(port, psutil.Process(pid), arguments, tokens[0], folder / "customers.txt"))


def _write_tokens(path: Path, customers: int) -> list[str]:
    """Write a token file; return the tokens of a supervisor and of so many customers."""
    tokens = [new_token() for _ in range(customers + 1)]
    who: list[dict[str, Any]] = [{"name": "supervisor", "role": "supervisor"}]
    who += [{"name": f"c{each}", "role": "customer", "subject": f"customer-{each}"} for each in range(customers)]
    with edit_token_file(path) as entries:
        for token, fields in zip(tokens, who, strict=True):
            entries.append(TokenEntry(sha256=hash_token(token), created=datetime.now(UTC), **fields))
    return tokens


async def _measure(
    port: int, service: psutil.Process, arguments: argparse.Namespace, token: str, customers: Path
) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        case = await open_case(session)
        changing = asyncio.create_task(_change(session, arguments.changes))
        before, failed_before = await measure_latency(session, case, arguments.seconds)
        memory_before = service.memory_info().rss
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.streams", "--hold", str(port), str(customers)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        lags: list[float] = []
        watching = asyncio.create_task(_watch(session, lags))
        try:
            assert holder.stdout is not None  # noqa: S101 - the process was started with a pipe
            opened = int(await holder.stdout.readline())
            memory = service.memory_info().rss - memory_before
            during, failed_during = await measure_latency(session, case, arguments.seconds)
        finally:
            for task in (watching, changing):
                task.cancel()
            holder.terminate()
            await holder.wait()
        await asyncio.sleep(SETTLING)
        changing = asyncio.create_task(_change(session, arguments.changes))
        after, failed_after = await measure_latency(session, case, arguments.seconds)
        changing.cancel()
    ratio = 2 * during[99] / (before[99] + after[99])
    failed = failed_before + failed_during + failed_after
    verdict = ratio <= BUDGET and not failed and opened >= 0.95 * arguments.streams
    print("| reads | p50, ms | p99, ms |\n| --- | --- | --- |")
    for part, times in (("before", before), ("with streams", during), ("after", after)):
        print(f"| {part} | {times[50]:.2f} | {times[99]:.2f} |")
    lags.sort()
    told = f"{lags[len(lags) * 95 // 100] * 1000:.0f} ms (p95 of {len(lags)})" if lags else "never"
    print(
        f"\np99 with {opened} streams: {ratio:.2f}x the p99 without (budget {BUDGET:g}x); {memory / opened / 1024:.1f} "
        f"KiB each; {failed} failed; from a change to its client: {told}: {'ok' if verdict else 'missed'}"
    )
    return 0 if verdict else 1


async def _change(session: aiohttp.ClientSession, rate: float) -> None:
    """Open cases until cancelled."""
    number = 0
    while True:
        new = {"subject": "A parcel", "channel": "web", "customerId": f"customer-{number % 1000}"}
        async with session.post("/support/cases", json=new) as response:
            await response.read()
        number += 1
        await asyncio.sleep(1 / rate)


async def _watch(session: aiohttp.ClientSession, lags: list[float]) -> None:
    """Note how many seconds each change needs to arrive, until cancelled."""
    async with session.get("/support/stream", timeout=aiohttp.ClientTimeout(total=None)) as response:
        async for line in response.content:
            if line.startswith(b"data: ") and b'"at"' in line:
                at = datetime.fromisoformat(json.loads(line[6:])["at"])
                lags.append(time() - at.astimezone(UTC).timestamp())


async def _hold(port: int, tokens: list[str]) -> int:
    """Open a stream for each token, print how many are open, and read them until terminated."""
    opened = 0

    async def follow(number: int) -> None:
        nonlocal opened
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        address = f"10.0.{number // 250}.{number % 250}"  # as behind a proxy
        head = f"GET /support/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {tokens[number]}\r\n"
        writer.write(f"{head}X-Forwarded-For: {address}\r\n\r\n".encode())
        await reader.readuntil(b"retry: ")
        opened += 1
        while await reader.read(4096):
            pass

    tasks: list[asyncio.Task[None]] = []
    while len(tasks) < len(tokens):
        tasks += [asyncio.create_task(follow(each)) for each in range(len(tokens))[len(tasks) : len(tasks) + OPENING]]
        until = asyncio.get_running_loop().time() + 30
        while opened < len(tasks) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - of many tasks
            await asyncio.sleep(0.01)
    print(opened, flush=True)
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(3600)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
