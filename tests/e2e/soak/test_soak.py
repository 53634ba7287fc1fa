"""Hours of load on a whole deployment: what it holds open, in memory and in tables does not grow.

On PostgreSQL two replicas serve, and files are on S3. On SQLite one process serves, and files are on its disk.
"""

import asyncio
import json
import os
import random
import shutil
import sqlite3
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from datetime import UTC, datetime

import psutil
import pytest

from support_service.platform.database.tables import metadata
from tests.support.process import running
from tests.support.promql import ROOT
from tests.support.servers import RedisServer, S3Server, free_port
from tests.support.sessions import MIGRATED, copied_postgres
from tests.support.soak.chart import draw
from tests.support.soak.figures import FIGURES, Sample, unsteady
from tests.support.soak.load import Load
from tests.support.soak.work import KINDS, errors_of_work
from tests.support.timeline.harness import open_services
from tests.support.upstream import url_variables

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.long]

SECONDS = float(os.environ.get("SOAK_SECONDS", "5"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
IS_SHORT = SECONDS < 60
SAMPLES, FEWEST_SAMPLES = 200, 10  # of a run: a busy machine may read the figures slowly
SHORTEST, LONGEST = 0.5, 30.0  # seconds between two samples
PAUSE = 0.3  # seconds between two pieces of work of one client, on average
LONGEST_START = 240.0  # seconds that the rest of a run may take on a busy machine
MEBIBYTE = 1024 * 1024
CHARTS = ROOT / "build" / "soak"
# What the service keeps by design: the audit log for ever, keys for a day, counters of reports.
KEPT = {"audit_log", "report_counts", "idempotency_keys"}
COUNTS = ", ".join(f"(SELECT count(*) FROM {name})" for name in sorted(metadata.tables.keys() - KEPT))
COUNT_ROWS = f"SELECT {COUNTS.replace(', ', ' + ')}"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
SMALL_LOG = "max_wal_size = '64MB'", "min_wal_size = '32MB'"
# Short times and a small cache, so that a run of minutes reaches the state of weeks.
SETTINGS = dict.fromkeys(("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS"), "off") | {
    **dict.fromkeys(("SUPPORT_SHED_LAG", "SUPPORT_ACCESS_LOG"), "0"),
    "SUPPORT_LOG_LEVEL": "error",
    "SUPPORT_EVENTS_KEEP": "1000",
    "SUPPORT_TIMELINE_CACHE_TTL": "5",
}


class SqliteFigures:
    """The log and the rows of SQLite, as another process sees them."""

    def __init__(self, path):
        self._path = path

    def log_bytes(self):
        log = self._path.with_name(f"{self._path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    def rows(self):
        """The rows of all tables that do not grow by design."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(COUNT_ROWS).fetchone()[0]


class PostgresFigures:
    """The log and the rows of PostgreSQL."""

    def __init__(self, server):
        self._server = server

    def log_bytes(self):
        return int(self._server.run("SELECT sum(size) FROM pg_ls_waldir()"))

    def rows(self):
        """The rows of all tables that do not grow by design."""
        return int(self._server.run(COUNT_ROWS, MIGRATED))


class Deployment:
    """The processes of a service with their database, Redis and files."""

    def __init__(self, folder, redis, database, variables, replicas):
        self.folder = folder
        self._redis = redis
        self._database = database
        self.variables = SETTINGS | {"SUPPORT_REDIS_URL": redis.url} | variables
        self._ports = [free_port() for _ in range(replicas)]
        self.addresses = [f"http://127.0.0.1:{port}" for port in self._ports]
        self._processes = []

    async def start(self, stack):
        """Start the replicas as an operator does, each in an interpreter of its own."""
        for port, address in zip(self._ports, self.addresses, strict=True):
            own = {"SUPPORT_PORT": str(port), "TASKS_FILE": str(self._tasks_file(port)), "PYTHONPATH": str(ROOT)}
            program = {"cwd": self.folder, "module": "tests.support.soak.counted_service", "forked": False}
            process = await stack.enter_async_context(running("serve", **program, **self.variables | own))
            await process.wait_until_ready(address)
            self._processes.append(psutil.Process(process.pid))

    async def run(self, *arguments):
        """Run a command beside the service; return its status and what it printed."""
        async with running(*arguments, cwd=self.folder, **self.variables) as command:
            status, output, errors = await command.wait_for_exit()
        return status, output + errors

    def read(self):
        """Return the values of FIGURES."""
        memory = self._redis.run("INFO", "memory")
        return (
            sum(process.num_fds() for process in self._processes),
            sum(process.memory_info().rss for process in self._processes) / MEBIBYTE,
            sum(int(self._tasks_file(port).read_text() or 0) for port in self._ports),
            self._database.log_bytes() / MEBIBYTE,
            self._database.rows(),
            self._redis.run("DBSIZE"),
            memory["used_memory"] / MEBIBYTE,
        )

    def _tasks_file(self, port):
        return self.folder / f"tasks-{port}"


@contextmanager
def started(server):
    """A server of Redis or S3 that runs for the length of a block."""
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def deployment(request, tmp_path):
    """A deployment on the database that a parameter names, with servers of its own."""
    with ExitStack() as servers:
        redis = servers.enter_context(started(RedisServer(tmp_path)))
        if request.param == "sqlite":
            path = tmp_path / "support.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), path)
            variables = {"SUPPORT_DATABASE_URL": f"sqlite:///{path}", "SUPPORT_ATTACHMENT_DIR": str(tmp_path / "files")}
            yield Deployment(tmp_path, redis, SqliteFigures(path), variables, replicas=1)
            return
        postgres = servers.enter_context(copied_postgres(request.getfixturevalue("postgres_cluster")))
        for setting in SMALL_LOG:
            postgres.run(f"ALTER SYSTEM SET {setting}")
        postgres.run("SELECT pg_reload_conf()")
        s3 = servers.enter_context(started(S3Server(tmp_path)))
        variables = {
            "SUPPORT_DATABASE_URL": postgres.url(MIGRATED),
            "SUPPORT_ATTACHMENT_STORE": "s3",
            "SUPPORT_S3_BUCKET": s3.create_bucket(),
            "SUPPORT_S3_ENDPOINT": s3.url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        }
        yield Deployment(tmp_path, redis, PostgresFigures(postgres), variables, replicas=2)


async def sample(deployment, load):
    """Read the figures until the time is over and everything has happened.

    Return the samples of each figure, and the counts of each kind of work.
    """
    loop = asyncio.get_running_loop()
    begin, interval = loop.time(), min(LONGEST, max(SHORTEST, SECONDS / SAMPLES))
    series, done = [[] for _ in FIGURES], {kind: [] for kind in KINDS}
    async with asyncio.timeout(SECONDS + LONGEST_START):
        while loop.time() < begin + SECONDS or not load.is_complete or len(series[0]) < FEWEST_SAMPLES:
            at = loop.time() - begin
            for kind, samples in done.items():
                samples.append(Sample(at, load.counts[kind]))
            for samples, value in zip(series, await asyncio.to_thread(deployment.read), strict=True):
                samples.append(Sample(at, value))
            await asyncio.sleep(interval)
    return series, done


def report(backend, verdicts, series, counts):
    """Print the verdicts; after a long run, write them with the samples and a chart."""
    minutes = series[0][-1].at / 60
    lines = [f"Soak on {backend} for {minutes:.1f} min, SOAK_SEED={SEED}: {dict(counts)}", *map(str, verdicts)]
    print(*lines, sep="\n")  # noqa: T201 - pytest shows it if the test fails, and in the long form
    if IS_SHORT:
        return
    CHARTS.mkdir(parents=True, exist_ok=True)
    title = f"{NAMES[backend]}, {minutes:.0f} minutes, {datetime.now(UTC):%Y-%m-%d}: {counts['requests']:,} requests"
    (CHARTS / f"soak-{backend}.svg").write_text(draw(title, list(zip(verdicts, series, strict=True))))
    values = {verdict.figure.name: samples for verdict, samples in zip(verdicts, series, strict=True)}
    (CHARTS / f"soak-{backend}.json").write_text(json.dumps({"report": lines, "samples": values}))


@pytest.mark.timeout(2 * LONGEST_START + SECONDS)
@pytest.mark.parametrize("deployment", NAMES, indirect=True)
async def test_nothing_grows_under_load(deployment, request):
    """Descriptors, memory, tasks, the write-ahead log, tables and Redis, after a warm-up, within stated bounds."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services())
        deployment.variables |= url_variables(services)
        await deployment.start(stack)
        load = Load(deployment.addresses, deployment.folder, deployment.run, seed=SEED, pause=PAUSE)
        async with load.running():
            series, done = await sample(deployment, load)
    verdicts = [figure.judge(samples) for figure, samples in zip(FIGURES, series, strict=True)]
    report(request.node.callspec.params["deployment"], verdicts, series, load.counts)
    assert unsteady(verdicts) == []
    assert IS_SHORT or [*errors_of_work(done, load.counts)] == []
