"""Measure how much the searches and the saved views of one agent slow down another agent.

    python -m benchmarks.one_caller [--cases N] [--connections N] [--seconds S] [--sources DIR …]

The service has its default rate limits, on PostgreSQL. One agent asks over all connections as fast as answers come,
and after a 429 waits for the time in Retry-After. It asks first for searches of 200 cases, then for its 100 saved
views, each of which searches. Another agent lists its views and reads a case, before and during each attack. The exit
status is 1 if a median of the other agent is over three times its quiet value. `--sources` names the folders of several
releases, which are measured one after the other on the same data.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp
import uvloop

from benchmarks.databases import postgres_cluster
from benchmarks.environment import ROOT, free_port, running
from benchmarks.scale import rows
from benchmarks.scale.load import load
from support_service.platform.access.tokens import TokenEntry, edit_token_file, hash_token, new_token
from support_service.platform.database import migrate

ATTACKER, OTHER = "attacker", "other"
VIEWS = 100  # of the attacker
OTHER_VIEWS = 5
PAUSE = 0.02  # seconds between the requests that save views
INTERVAL = 0.2  # seconds from one read of the other agent to the next, whether it was answered or not
MAX_RATIO = 3.0
LONGEST_WAIT = 30.0  # seconds; an answer that takes longer, or is an error, counts as this
LIST_OF_VIEWS, CASE = "list of views", "case"


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_caller", description=__doc__)
    parser.add_argument("--cases", type=int, default=120_000, help="number of cases (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="of the attack (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12, help="of each phase (default: %(default)s)")
    parser.add_argument("--sources", nargs="+", default=[str(ROOT / "src")], help="of the service (default: src)")
    parser.add_argument("--attack", nargs=3, metavar=("URL", "TOKEN", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        uvloop.run(_attack(arguments.connections, arguments.seconds, *arguments.attack))
        return 0
    with tempfile.TemporaryDirectory(prefix="one-caller-") as name, postgres_cluster({}) as server:
        url = server.url(server.create_database())
        migrate.upgrade(url)
        load(url, arguments.cases, lambda *_: None)
        return max([_run(url, Path(name), source, arguments) for source in arguments.sources])


def _run(database: str, folder: Path, source: str, arguments: argparse.Namespace) -> int:
    print(f"{source}, {arguments.cases:,} cases")
    tokens = {agent: new_token() for agent in (ATTACKER, OTHER)}
    (folder / "tokens.json").unlink(missing_ok=True)
    with edit_token_file(folder / "tokens.json") as entries:
        for number, (agent, token) in enumerate(tokens.items()):
            digest, now = hash_token(token), datetime.now(UTC)
            entries.append(
                TokenEntry(
                    name=agent, sha256=digest, role="agent", created=now, subject=rows.agent(number), teams=["team-1"]
                )
            )
    port = free_port()
    env = {
        "PYTHONPATH": source,
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": database,
        "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
        "SUPPORT_AUTH": "token",
        "SUPPORT_TOKENS_FILE": str(folder / "tokens.json"),
        "SUPPORT_RATE_LIMIT_ADDRESS": "off",  # both agents have the same address
        "SUPPORT_SHED_LAG": "0",  # no request is refused because of the attack
        "SUPPORT_LOG_LEVEL": "error",
    }
    serve = [sys.executable, "-m", "support_service", "serve"]
    with running("service", port, serve, cwd=folder, env=env, log=folder / "service.log"):
        return uvloop.run(_measure(f"http://127.0.0.1:{port}", tokens, arguments))


async def _measure(url: str, tokens: dict[str, str], arguments: argparse.Namespace) -> int:
    for agent, number in ((ATTACKER, VIEWS), (OTHER, OTHER_VIEWS)):
        await _save_views(url, tokens[agent], number, search=agent == ATTACKER)
    case = await _first_case(url, tokens[OTHER])
    paths = {LIST_OF_VIEWS: f"/support/views?limit={OTHER_VIEWS}", CASE: f"/support/cases/{case}"}
    too_slow = False
    for kind in ("searches", "views"):
        quiet = await _read_all(url, tokens[OTHER], paths, arguments.seconds)
        command = ["-m", "benchmarks.one_caller", "--connections", str(arguments.connections)]
        command += ["--seconds", str(arguments.seconds + 1), "--attack", url, tokens[ATTACKER], kind]
        attack = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert attack.stdout  # noqa: S101 - a pipe
        await attack.stdout.readline()  # the attack runs
        during = await _read_all(url, tokens[OTHER], paths, arguments.seconds)
        output, _ = await attack.communicate()
        print(f"attack with {kind}: answers by status {json.loads(output)}")
        for name in paths:
            ratio = during[name] / quiet[name]
            too_slow |= ratio > MAX_RATIO
            print(
                f"  {name} of the other agent, median: {quiet[name] * 1000:.1f} ms quiet, "
                f"{during[name] * 1000:.1f} ms during ({ratio:.1f}x)"
            )
    return int(too_slow)


async def _save_views(url: str, token: str, number: int, *, search: bool) -> None:
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as http:
        for view in range(number):
            query = {"status": "open,pending", "priority": ("high", "normal", "low", "urgent")[view % 4]}
            if search:
                query = {"q": f"{rows.FREQUENT} {rows.VOCABULARY[view][:1]}", "sort": "updated"}
            body = {"name": f"View {view}", "query": query}
            async with http.post("/support/views", json=body) as response:
                if response.status not in (201, 409):  # 409: saved for the release before
                    response.raise_for_status()
            await asyncio.sleep(PAUSE)


async def _first_case(url: str, token: str) -> str:
    async with (
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as http,
        http.get("/support/cases?limit=1", raise_for_status=True) as response,
    ):
        return str((await response.json())["items"][0]["id"])


async def _read_all(url: str, token: str, paths: dict[str, str], seconds: float) -> dict[str, float]:
    """Read each path in turn; return the median time of each in seconds."""
    took: dict[str, list[float]] = {name: [] for name in paths}
    timeout = aiohttp.ClientTimeout(total=LONGEST_WAIT)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(url, headers=headers, timeout=timeout, connector=connector) as http,
        asyncio.TaskGroup() as reads,
    ):

        async def read(name: str, path: str) -> None:
            started = perf_counter()
            try:
                async with http.get(path, raise_for_status=True) as response:
                    await response.read()
                took[name].append(perf_counter() - started)
            except (TimeoutError, aiohttp.ClientError):
                took[name].append(LONGEST_WAIT)

        for _ in range(round(seconds / INTERVAL)):
            for name, path in paths.items():
                reads.create_task(read(name, path))
            await asyncio.sleep(INTERVAL)
    return {name: median(each) for name, each in took.items()}


def _path(kind: str) -> Callable[[int], str]:
    if kind == "views":
        return lambda _: f"/support/views?limit={VIEWS}"
    return lambda number: (
        f"/support/cases?q={rows.FREQUENT}+{rows.VOCABULARY[number % rows.WORDS][:1]}&sort=updated&limit=200"
    )


async def _attack(connections: int, seconds: float, url: str, token: str, kind: str) -> None:
    """Ask over all connections; print the number of answers by status as JSON."""
    statuses: Counter[int] = Counter()
    path = _path(kind)
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=timeout) as http:

        async def ask(number: int) -> None:
            while True:
                number += connections
                async with http.get(path(number)) as response:
                    await response.read()
                statuses[response.status] += 1
                if response.status != 200:
                    await asyncio.sleep(float(response.headers.get("Retry-After", "1")))

        tasks = [asyncio.create_task(ask(number)) for number in range(connections)]
        await asyncio.sleep(1)
        print("running", flush=True)
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(statuses))


if __name__ == "__main__":
    sys.exit(main())
