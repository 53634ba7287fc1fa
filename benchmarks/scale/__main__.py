"""Measure each read with many cases stored, and compare it with the same read with few.

Loads two databases of each kind, starts the service on each, and prints the median time of each call. The budget of a
call is an absolute time at full size, or twice its time at the small size. On PostgreSQL it also prints how often the
calls read each index of the cases.
"""

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import asyncpg
from tests.support.servers import PostgresServer

from benchmarks.environment import ROOT, free_port, running
from benchmarks.scale.calls import CALLS, PERIODIC, Call
from benchmarks.scale.load import load
from benchmarks.scale.periodic import measure_periodic
from benchmarks.scale.reports import fill_reports
from support_service.platform.database import migrate

SMALL = 10_000
SIZES = {"postgresql": 1_000_000, "sqlite": 300_000}
REQUESTS = 40
SCANS = """
SELECT indexrelname AS name, idx_scan AS scans, pg_relation_size(indexrelid) AS bytes FROM pg_stat_user_indexes
WHERE relname = 'tickets' ORDER BY idx_scan
"""
JSON = {"Content-Type": "application/json"}
SHORT_FACTOR = 2.0  # budget of a call without an absolute budget


@dataclass(frozen=True, slots=True)
class Database:
    """A database: `create` replaces it, and the file `loaded` says that it has all its cases."""

    url: str
    create: Callable[[], object]
    loaded: Path


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
                times = [_measure_with(database_of(count), count, folder, calls) for count in (SMALL, full)]
                scans = asyncio.run(index_scans(database_of(full).url)) if kind == "postgresql" else ""
            show_progress("", 0, 0)
            print(table(kind, full, *times), scans, sep="\n", end="\n\n", flush=True)
    return 0


def _measure_with(database: Database, count: int, folder: Path, calls: Sequence[Call]) -> dict[str, float]:
    """Return the times with a number of cases, which are loaded into the database if it does not have them yet."""
    if not database.loaded.exists():
        database.create()
    migrate.upgrade(database.url)
    if not database.loaded.exists():
        load(database.url, count, show_progress)
        database.loaded.touch()
    asyncio.run(fill_reports(database.url, count, show_progress))
    if database.url.startswith("postgresql:"):
        asyncio.run(_reset_scans(database.url))
    with service(database.url, folder / f"attachments-{database.loaded.stem}") as port:
        return measure(port, count, calls) | asyncio.run(measure_periodic(database.url))


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


def measure(port: int, count: int, calls: Sequence[Call]) -> dict[str, float]:
    """Return the median time of each call in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    found = {}
    for call in calls:
        show_progress(f"{count:,} cases, {call.name}", 0, 0)
        times = []
        for number in range(REQUESTS + 5):
            path, body = call.path(number, count), call.body_of(number, count)
            if call.takes_message:
                connection.request("GET", path.rpartition("/")[0])
                messages = json.load(connection.getresponse())["messages"]
                body = {"messageIds": [messages[-1]["id"]], **(body or {})}
            started = perf_counter()
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), JSON)
            response = connection.getresponse()
            response.read()
            times.append((perf_counter() - started) * 1000)
            if response.status not in (200, 201):
                raise SystemExit(f"{call.name}: status {response.status}")
        found[call.name] = statistics.median(times[5:])
    return found


def table(kind: str, full: int, small_times: dict[str, float], full_times: dict[str, float]) -> str:
    """Return the results as text, one line per call."""
    lines = [f"{kind}: median in ms at {SMALL:,} and at {full:,} cases"]
    lines.append(f"{'call':32} {'small':>8} {'full':>8} {'ratio':>6} {'budget':>8}  verdict")
    for call in (*CALLS, *PERIODIC):
        if call.name not in full_times:
            continue
        small, large = small_times[call.name], full_times[call.name]
        budget = _budget(call, kind) or SHORT_FACTOR * small
        shown = f"{_budget(call, kind):g}" if _budget(call, kind) else f"{SHORT_FACTOR:g}x"
        verdict = "ok" if large <= budget else "miss"
        lines.append(f"{call.name:32} {small:8.2f} {large:8.2f} {large / small:5.2f}x {shown:>8}  {verdict}")
    return "\n".join(lines)


def _budget(call: Call, kind: str) -> float | None:
    return call.sqlite_budget_ms or call.budget_ms if kind == "sqlite" else call.budget_ms


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

        return Database(server.url(name), create, folder / f"postgresql-{count}.loaded")

    server.start()
    try:
        yield database_of
    finally:
        server.close()


_DATABASES = {"sqlite": _sqlite, "postgresql": _postgresql}


@contextmanager
def service(url: str, attachments: Path) -> Iterator[int]:
    """Run the service on a database; yield its port. Its log is beside the folder of the attachments."""
    port, directory = free_port(), attachments.parent
    env = {
        "PYTHONPATH": str(ROOT / "src"),
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": url,
        "SUPPORT_ATTACHMENT_DIR": str(attachments),
        "SUPPORT_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "support_service", "serve"]
    with running("service", port, command, cwd=directory, env=env, log=directory / "service.log"):
        yield port


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
