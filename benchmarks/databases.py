"""The databases of a benchmark: SQLite files, or databases of one PostgreSQL cluster."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.support.servers import MissingServer, PostgresServer

from benchmarks import process_stats
from benchmarks.load_generator import Failed

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}  # as in production, unlike in tests
MAX_CONNECTIONS = 200  # for four replicas of the service, and the servers beside them
POSTGRES_FOLDER = "/var/tmp"  # noqa: S108 - on a disk, and the user `postgres` may enter it


@dataclass(frozen=True, slots=True)
class Databases:
    """A source of empty databases, and the process that serves them, None for files."""

    create: Callable[[str], str]  # from a name; returns a URL
    postgres_pid: int | None = None

    def cpu_seconds(self) -> dict[int, float]:
        """Return the CPU time in seconds of each running process of PostgreSQL by its id; nothing for files."""
        if self.postgres_pid is None:
            return {}
        found = {}
        for child in psutil.Process(self.postgres_pid).children():
            with contextlib.suppress(OSError):  # it ended meanwhile
                found[child.pid] = process_stats.cpu_seconds(child.pid)
        return found


@contextlib.contextmanager
def databases(kind: str, directory: Path) -> Iterator[Databases]:
    """Yield databases of one of configurations.DATABASES. Raises Failed if PostgreSQL is not installed."""
    if kind == "sqlite":
        yield Databases(lambda name: f"sqlite:///{directory / name}.db")
        return
    with postgres_cluster(DURABLE) as server:
        yield Databases(lambda _: server.url(server.create_database()), server.pid)


@contextlib.contextmanager
def postgres_cluster(settings: Mapping[str, str], copied_from: Path | None = None) -> Iterator[PostgresServer]:
    """Run a PostgreSQL cluster with settings such as DURABLE; a copy of a stopped cluster, if its folder is given.

    Raises Failed if PostgreSQL is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-postgres-", dir=POSTGRES_FOLDER) as name:
        try:
            server = PostgresServer(Path(name), copied_from, max_connections=MAX_CONNECTIONS, **settings)
        except MissingServer as missing:
            raise Failed(str(missing)) from missing
        try:
            server.start()
            yield server
        finally:
            server.close()
