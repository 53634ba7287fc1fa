"""Measure `support-service import`, and the API beside it: cases and messages per second, on each database.

The same cases are imported from a file into one database, and sent to a service with another one. The service gets a
POST of the case, and of each of its messages, by 32 connections. Needs the packages that `make services` installs.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.databases import databases
from benchmarks.environment import ROOT, free_port, running
from benchmarks.load_generator import Failed
from support_service.platform.database import migrate

CONNECTIONS = 32
MESSAGES = 4  # per case
WORDS_PER_MESSAGE = 40
Case = dict[str, Any]


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_rate", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="cases to import (default: %(default)s)")
    parser.add_argument("--api-cases", type=int, default=2_000, help="cases to send to the API (default: %(default)s)")
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    var = ROOT / "var"  # on a disk; the system's temporary directory may be in memory
    var.mkdir(exist_ok=True)
    for kind in arguments.databases:
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=var) as name, databases(kind, Path(name)) as store:
            folder = Path(name)
            seconds = _import(folder, store.create("imported"), arguments.cases)
            _print(kind, "import", arguments.cases, seconds)
            seconds = _send(folder, store.create("sent"), arguments.api_cases)
            _print(kind, f"API, {CONNECTIONS} connections", arguments.api_cases, seconds)
    return 0


def _print(kind: str, how: str, cases: int, seconds: float) -> None:
    messages = cases * MESSAGES
    print(
        f"{kind}, {how}: {cases:,} cases with {messages:,} messages in {seconds:.1f} s: "
        f"{cases / seconds:,.0f} cases and {messages / seconds:,.0f} messages per second",
        flush=True,
    )


def _cases(count: int) -> Iterator[Case]:
    """Yield cases, the same in each run."""
    chance = random.Random(1)
    words = [f"word{number}" for number in range(5000)]
    for number in range(count):
        day = f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}"
        yield {
            "externalId": f"case-{number}",
            "subject": " ".join(chance.choices(words, k=6)),
            "channel": "email",
            "customerId": f"customer-{number % 20_000}",
            "status": chance.choice(("open", "resolved", "closed", "closed", "closed")),
            "tags": chance.sample(("delivery", "refund", "invoice", "damaged"), 2),
            "context": [{"type": "order", "orderId": f"order-{number}"}],
            "sentAt": f"{day}T10:00:00Z",
            "messages": [
                {
                    "externalId": str(place),
                    "authorType": ("customer", "agent")[place % 2],
                    "message": " ".join(chance.choices(words, k=WORDS_PER_MESSAGE)),
                    "sentAt": f"{day}T1{place}:00:00Z",
                }
                for place in range(MESSAGES)
            ],
        }


def _variables(folder: Path, url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251 - of the process that is started
        "PYTHONPATH": str(ROOT / "src"),  # measure this checkout, whatever is installed
        "SUPPORT_DATABASE_URL": url,
        "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
        "SUPPORT_LOG_LEVEL": "warning",
    }


def _import(folder: Path, url: str, count: int) -> float:
    """Import cases and return the seconds, with the start of the command. Raises Failed."""
    migrate.upgrade(url)
    source = folder / "cases.jsonl"
    with source.open("w") as file:
        file.writelines(f"{json.dumps(case)}\n" for case in _cases(count))
    command = [sys.executable, "-m", "support_service", "import", str(source)]
    started = time.perf_counter()
    ended = subprocess.run(command, env=_variables(folder, url), cwd=folder, capture_output=True, check=False)
    seconds = time.perf_counter() - started
    if ended.returncode or json.loads(ended.stdout.splitlines()[-1])["imported"] != count:
        raise Failed(f"The import ended with {ended.returncode}: {ended.stdout[-500:]!r} {ended.stderr[-500:]!r}")
    return seconds


def _send(folder: Path, url: str, count: int) -> float:
    """Send cases to a service and return the seconds. Raises Failed."""
    migrate.upgrade(url)
    port = free_port()
    env = _variables(folder, url) | {"SUPPORT_PORT": str(port), "SUPPORT_SHED_LAG": "0"}
    command = [sys.executable, "-m", "support_service", "serve"]
    with running("service", port, command, cwd=folder, env=env, log=folder / "service.log"):
        return asyncio.run(_send_all(f"http://127.0.0.1:{port}", count))


async def _send_all(address: str, count: int) -> float:
    cases = _cases(count)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(address, connector=connector) as session:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONNECTIONS):
                clients.create_task(_client(session, cases))
        return time.perf_counter() - started


async def _client(session: aiohttp.ClientSession, cases: Iterator[Case]) -> None:
    for case in cases:
        messages = case.pop("messages")
        case.pop("status")
        opened = await _post(session, "/support/cases", case)
        for message in messages:
            await _post(session, f"/support/cases/{opened['id']}/messages", message)


async def _post(session: aiohttp.ClientSession, path: str, body: Case) -> Case:
    async with session.post(path, json=body) as response:
        if response.status not in (200, 201):
            raise Failed(f"POST {path} was answered with {response.status}: {await response.text()}")
        answer: Case = await response.json()
        return answer


if __name__ == "__main__":
    sys.exit(main())
