"""Measure how much one customer who reads a full case slows down the reads of others.

    python -m benchmarks.large_reads [--connections N] [--seconds S]

The service has its default rate limits, on SQLite. A customer with a case of 4,096 messages reads it with its timeline
over all connections as fast as answers come. After a 429 the customer waits for the time in Retry-After. Other
customers read small cases, 20 times a second each, without the attack and during it. The exit status is 1 if a read of
theirs failed.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import aiohttp
import uvloop

from benchmarks.environment import ROOT, free_port, running
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token

MESSAGES = 4096
TEXT = "x" * 650  # a message of 1 KiB as JSON
OTHERS = 8  # customers who read small cases
PAUSE = 0.05  # seconds between the reads of one of them
FILLERS = 16  # concurrent requests that fill the case


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_reads", description=__doc__)
    parser.add_argument("--connections", type=int, default=16, help="of the attack (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of each of the two phases (default: %(default)s)")
    parser.add_argument("--attack", nargs=3, metavar=("URL", "TOKEN", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        uvloop.run(_attack(arguments.connections, arguments.seconds, *arguments.attack))
        return 0
    with tempfile.TemporaryDirectory(prefix="large-reads-") as name:
        found = _run(Path(name), arguments)
    percentiles = {phase: quantiles([each * 1000 for each in found[phase]], n=100) for phase in ("without", "during")}
    for percent in (50, 90, 99):
        without, during = percentiles["without"][percent - 1], percentiles["during"][percent - 1]
        print(f"p{percent} of others: {without:.1f} ms without, {during:.1f} ms during ({during / without:.1f}x)")
    print(
        f"reads of the full case: {found['admitted']} ({found['bytes'] / 1e6:.1f} MB each), "
        f"refused: {found['refused']}; failed reads of others: {found['failed']}"
    )
    return 1 if found["failed"] else 0


def _run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    tokens = {f"customer-{number}": new_token() for number in range(OTHERS + 1)}
    with edit_token_file(folder / "tokens.json") as entries:
        for customer, token in tokens.items():
            digest, now = hash_token(token), datetime.now(UTC)
            entries.append(TokenEntry(name=customer, sha256=digest, role="customer", created=now, subject=customer))
    port = free_port()
    settings = {
        "PYTHONPATH": str(ROOT / "src"),
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": f"sqlite:///{folder / 'support.db'}",
        "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
        "SUPPORT_TOKENS_FILE": str(folder / "tokens.json"),
        "SUPPORT_RATE_LIMIT_ADDRESS": "off",  # all callers have the same address
        "SUPPORT_SHED_LAG": "0",  # no request is refused because of the attack
        "SUPPORT_LOG_LEVEL": "error",
    }
    serve, url = [sys.executable, "-m", "support_service", "serve"], f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    with running("service", port, serve, cwd=folder, env=settings, log=log):
        cases = uvloop.run(fill_cases(url, list(tokens)))
    with running("service", port, serve, cwd=folder, env=settings | {"SUPPORT_AUTH": "token"}, log=log):
        return uvloop.run(_measure(url, tokens, cases, arguments))


async def fill_cases(url: str, customers: list[str]) -> dict[str, str]:
    """Open a case for each customer, and fill the first one. Return the id of each customer's case."""
    async with aiohttp.ClientSession(url) as http:

        async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            async with http.post(path, json=body, raise_for_status=True) as response:
                return dict(await response.json())

        cases = {}
        for customer in customers:
            case = {"subject": "A parcel", "channel": "email", "customerId": customer}
            cases[customer] = (await post("/support/cases", case))["id"]
        path = f"/support/cases/{cases[customers[0]]}/messages"
        for _ in range(MESSAGES // FILLERS):
            message = {"authorType": "agent", "message": TEXT}
            await asyncio.gather(*(post(path, message) for _ in range(FILLERS)))
    return cases


async def _measure(
    url: str, tokens: dict[str, str], cases: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    attacker, *others = tokens
    found: dict[str, Any] = {"failed": 0}

    async def read(customer: str, until: float, took: list[float]) -> None:
        headers = {"Authorization": f"Bearer {tokens[customer]}"}
        async with aiohttp.ClientSession(url, headers=headers) as http:
            while (started := perf_counter()) < until:
                async with http.get(f"/support/cases/{cases[customer]}") as response:
                    await response.read()
                    found["failed"] += response.status != 200
                took.append(perf_counter() - started)
                await asyncio.sleep(PAUSE)

    async def read_all() -> list[float]:
        took: list[float] = []
        until = perf_counter() + arguments.seconds
        await asyncio.gather(*(read(customer, until, took) for customer in others))
        return took

    found["without"] = await read_all()
    command = ["-m", "benchmarks.large_reads", "--connections", str(arguments.connections)]
    command += ["--seconds", str(arguments.seconds)]
    attack = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--attack", url, tokens[attacker], cases[attacker],
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    found["during"] = await read_all()
    output, _ = await attack.communicate()
    counts: dict[str, int] = json.loads(output)
    return found | counts


async def _attack(connections: int, seconds: float, url: str, token: str, case: str) -> None:
    """Read a case over all connections; print the counts as JSON."""
    counts = {"admitted": 0, "refused": 0, "bytes": 0}
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=timeout) as http:

        async def read() -> None:
            while True:
                async with http.get(f"/support/cases/{case}?includeTimeline=true") as response:
                    size = len(await response.read())
                if response.status == 200:
                    counts["admitted"] += 1
                    counts["bytes"] = size
                else:
                    counts["refused"] += 1
                    await asyncio.sleep(float(response.headers.get("Retry-After", "1")))

        readers = [asyncio.create_task(read()) for _ in range(connections)]
        await asyncio.sleep(seconds)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    sys.exit(main())
