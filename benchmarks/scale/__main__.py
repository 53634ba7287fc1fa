"""Measure each read with many cases stored, and compare it with the same read with few.

Loads two databases of each kind, starts the service on each, and prints the median time of each call. The budget of a
call is an absolute time at full size, or twice its time at the small size. On PostgreSQL it also prints how often the
calls read each index of the cases.
"""

import argparse
import asyncio
import http.client
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import asyncpg
import psutil
from tests.support.servers import PostgresServer

from benchmarks.environment import ROOT, free_port, running
from benchmarks.process_stats import cpu_seconds
from benchmarks.scale.calls import CALLS, PERIODIC, Body, Call
from benchmarks.scale.load import load
from benchmarks.scale.periodic import measure_periodic
from benchmarks.scale.reports import fill_reports
from support_service.platform.database import migrate

SMALL = 10_000
SIZES = {"postgresql": 1_000_000, "sqlite": 40_000}
SQLITE_BUDGET_MS = 50.0  # of a call that has a lower budget on PostgreSQL
SCANS = """
SELECT indexrelname AS name, idx_scan AS scans, pg_relation_size(indexrelid) AS bytes FROM pg_stat_user_indexes
WHERE relname = 'tickets' ORDER BY idx_scan
"""
JSON = {"Content-Type": "application/json"}
SHORT_FACTOR = 2.0  # budget of a call without an absolute budget


@dataclass(frozen=True, slots=True)
class Database:
    """A database: `create` replaces it, and the file `loaded` says that it has all its cases.

    `pids` returns the processes of its connections, if it has any.
    """

    url: str
    create: Callable[[], object]
    loaded: Path
    pids: Callable[[], list[int]] = list


class Cost(NamedTuple):
    """What a call costs, in ms: the time until it is answered, and the CPU of the service and the database."""

    ms: float
    cpu_ms: float


def main() -> int:
    """Load, measure, print the tables; return 1 if a request failed."""
    arguments = _parser().parse_args()
    calls = [call for call in CALLS if not arguments.calls or any(part in call.name for part in arguments.calls)]
    with ExitStack() as stack:
        folder = arguments.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-", dir=_var())))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        for kind in arguments.databases:
            full = arguments.cases or SIZES[kind]
            with _DATABASES[kind](folder) as database_of:
                costs = [_measure_with(database_of(count), count, folder, calls) for count in (SMALL, full)]
                scans = asyncio.run(index_scans(database_of(full).url)) if kind == "postgresql" else ""
            show_progress("", 0, 0)
            print(table(kind, full, *costs), scans, sep="\n", end="\n\n", flush=True)
    return 0


def _measure_with(database: Database, count: int, folder: Path, calls: Sequence[Call]) -> dict[str, Cost]:
    """Return the costs with a number of cases, which are loaded into the database if it does not have them yet."""
    if not database.loaded.exists():
        database.create()
    migrate.upgrade(database.url)
    if not database.loaded.exists():
        load(database.url, count, show_progress)
        database.loaded.touch()
    asyncio.run(fill_reports(database.url, count, show_progress))
    if database.url.startswith("postgresql:"):
        asyncio.run(_reset_scans(database.url))
    with service(database.url, folder / f"attachments-{database.loaded.stem}") as (port, pid):
        costs = measure(port, count, calls, lambda: [pid, *database.pids()])
        return costs | {name: Cost(ms, math.nan) for name, ms in asyncio.run(measure_periodic(database.url)).items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--databases",
        type=lambda text: text.split(","),
        default=list(SIZES),
        metavar="NAME,…",
        help="postgresql, sqlite or both (default: both)",
    )
    parser.add_argument(
        "--cases", type=int, help=f"full number of cases (default: {SIZES['postgresql']:,} and {SIZES['sqlite']:,})"
    )
    parser.add_argument(
        "--data",
        type=lambda text: Path(text).resolve(),
        metavar="DIR",
        help="keep the loaded databases in this folder, and use those it has",
    )
    parser.add_argument(
        "--call", action="append", dest="calls", metavar="TEXT", help="only calls with this in their name"
    )
    return parser


def measure(port: int, count: int, calls: Sequence[Call], pids: Callable[[], Sequence[int]]) -> dict[str, Cost]:
    """Return the cost of each call. `pids` returns the processes that serve it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(method: str, path: str, body: Body | None) -> bytes:
        encoded = None if body is None else json.dumps(body)
        connection.request(method, path, encoded, JSON if encoded else {})
        response = connection.getresponse()
        answer = response.read()
        if not 200 <= response.status < 300:
            raise SystemExit(f"{method} {path}: status {response.status}: {answer[:500]!r}")
        return answer

    def ask(method: str, path: str, body: Body | None) -> Any:
        return json.loads(send(method, path, body))

    found = {}
    for call in calls:
        show_progress(f"{count:,} cases, {call.name}", 0, 0)
        costs, unmeasured = [], min(5, call.requests // 3)
        for number in range(unmeasured + call.requests):
            if number <= unmeasured:
                serving = pids()  # with the connections that these requests have opened
            request = call.request(ask, number, count)
            before, started = _cpu_of(serving), perf_counter()
            send(*request)
            seconds = perf_counter() - started
            cpu = sum(used - before[pid] for pid, used in _cpu_of(before).items())
            costs.append(Cost(seconds * 1000, cpu * 1000))
        found[call.name] = Cost(*map(statistics.median, zip(*costs[unmeasured:], strict=True)))
    return found


def _cpu_of(pids: Iterable[int]) -> dict[int, float]:
    """Return the CPU time of those processes that have not ended."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            found[pid] = cpu_seconds(pid)
    return found


def table(kind: str, full: int, small_costs: dict[str, Cost], full_costs: dict[str, Cost]) -> str:
    """Return the results as text, one line per call."""
    lines = [f"{kind}: median in ms at {SMALL:,} and at {full:,} cases, and of it the CPU of service and database"]
    lines.append(f"{'call':46} {'small':>8} {'CPU':>8} {'full':>8} {'CPU':>8} {'ratio':>6} {'budget':>8}  verdict")
    for call in (*CALLS, *PERIODIC):
        if call.name not in full_costs:
            continue
        (small, small_cpu), (large, large_cpu) = small_costs[call.name], full_costs[call.name]
        budget = _budget(call, kind) or SHORT_FACTOR * small
        shown = f"{_budget(call, kind):g}" if _budget(call, kind) else f"{SHORT_FACTOR:g}x"
        verdict = "ok" if large <= budget else "miss"
        costs = f"{small:8.2f} {small_cpu:8.2f} {large:8.2f} {large_cpu:8.2f} {large / small:5.2f}x"
        lines.append(f"{call.name:46} {costs} {shown:>8}  {verdict}")
    return "\n".join(lines)


def _budget(call: Call, kind: str) -> float | None:
    return max(call.budget_ms, SQLITE_BUDGET_MS) if call.budget_ms and kind == "sqlite" else call.budget_ms


async def index_scans(url: str) -> str:
    """Return as text how often each index of the cases was read since the service started, and its size."""
    connection = await asyncpg.connect(url)
    found = await connection.fetch(SCANS)
    await connection.close()
    return "\n".join(f"{row['name']:60} {row['scans']:8} scans {row['bytes'] / 1e6:6.1f} MB" for row in found)


async def _reset_scans(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_stat_reset()")
    await connection.close()


@contextmanager
def _sqlite(folder: Path) -> Iterator[Callable[[int], Database]]:
    """Yield a function that returns the database for a number of cases."""

    def database_of(count: int) -> Database:
        file = folder / f"{count}.db"
        return Database(f"sqlite:///{file}", lambda: file.unlink(missing_ok=True), folder / f"sqlite-{count}.loaded")

    yield database_of


@contextmanager
def _postgresql(folder: Path) -> Iterator[Callable[[int], Database]]:
    """Yield a function that returns the database for a number of cases."""
    cluster = folder / "postgresql"
    cluster.mkdir(exist_ok=True)
    server = PostgresServer(cluster)

    def database_of(count: int) -> Database:
        name = f"cases_{count}"

        def create() -> None:
            server.run(f"DROP DATABASE IF EXISTS {name}")
            server.create_database(name=name)

        def pids() -> list[int]:
            backends = psutil.Process(server.pid).children()
            return [each.pid for each in backends if f" {name} " in " ".join(each.cmdline())]

        return Database(server.url(name), create, folder / f"postgresql-{count}.loaded", pids)

    server.start()
    try:
        yield database_of
    finally:
        server.close()


_DATABASES = {"sqlite": _sqlite, "postgresql": _postgresql}


@contextmanager
def service(url: str, attachments: Path) -> Iterator[tuple[int, int]]:
    """Run the service on a database; yield its port and process id. Its log is beside the folder of the attachments."""
    port, directory = free_port(), attachments.parent
    env = {
        "PYTHONPATH": str(ROOT / "src"),
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": url,
        "SUPPORT_ATTACHMENT_DIR": str(attachments),
        "SUPPORT_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "support_service", "serve"]
    with running("service", port, command, cwd=directory, env=env, log=directory / "service.log") as pid:
        yield port, pid


def _var() -> Path:
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    return folder


def show_progress(what: str, done: int, of: int) -> None:
    """Show the progress in one line that is overwritten."""
    if sys.stderr.isatty():
        bar = f" [{'#' * (30 * done // of):30}] {done:,} of {of:,}" if of else ""
        print(f"\r\033[K{what}{bar}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
