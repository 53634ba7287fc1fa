"""Servers that one test run shares, as fixtures that conftest.py imports."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from support_service.platform.database import migrate
from tests.support.servers import MissingServer, PostgresServer, RedisServer, S3Server, find_binary

BuiltOnce = Callable[[str, Callable[[Path], None]], Path]  # the fixture of tests/support/plugins/built_once.py
MIGRATED = "migrated"  # the name of the template database
SQLITE_FILE = "template.db"


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run blocking work that uses its own event loop in a thread; return its result."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


def inspect(url: str, look: Callable[[sa.Connection], Any]) -> Any:
    """Return what `look` sees through a connection to a database of either kind, whatever its schema."""
    if url.startswith("sqlite:"):
        engine = sa.create_engine(url.replace("sqlite:", "sqlite+pysqlite:"))
        with engine.connect() as connection:
            seen = look(connection)
        engine.dispose()
        return seen

    async def read() -> Any:
        engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
        async with engine.connect() as connection:
            seen = await connection.run_sync(look)
        await engine.dispose()
        return seen

    return in_thread(asyncio.run, read())


@pytest.fixture(scope="session")
def redis_server(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_cluster(servers: None, built_once: BuiltOnce) -> Path:
    """The folder of a stopped PostgreSQL with a migrated, empty database."""

    def build(folder: Path) -> None:
        with running_postgres(folder) as server:
            server.create_database(name=MIGRATED)
            in_thread(migrate.upgrade, server.url(MIGRATED))

    try:
        return built_once("postgres", build)
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)


@contextmanager
def running_postgres(
    folder: Path, copied_from: Path | None = None, primary: PostgresServer | None = None
) -> Iterator[PostgresServer]:
    """A PostgreSQL that runs inside the block; its data stays in the folder. With a primary it is a standby."""
    server = PostgresServer(folder, copied_from)
    if primary is not None:
        server.follow(primary)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def copied_postgres(cluster: Path, primary: PostgresServer | None = None) -> Iterator[PostgresServer]:
    """A PostgreSQL that runs inside the block on a copy of the data of a stopped one, as a standby of `primary`."""
    # The user `postgres` may not enter pytest's own directory.
    folder = Path(tempfile.mkdtemp(prefix="support-postgres-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    try:
        with running_postgres(folder, cluster, primary) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replicate_synchronously(primary: PostgresServer) -> None:
    """Let a commit on the migrated database wait until a standby has it; return once one is in step."""
    primary.run(f"ALTER DATABASE {MIGRATED} SET synchronous_commit = on")  # the tests' own setting is off
    primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.run("SELECT pg_reload_conf()")
    primary.run(
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync') "
        "LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$"
    )


@pytest.fixture(scope="session")
def postgres_server(postgres_cluster: Path) -> Iterator[PostgresServer]:
    with copied_postgres(postgres_cluster) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    return MIGRATED


@pytest.fixture(scope="session")
def sqlite_template(built_once: BuiltOnce) -> Path:

    def build(folder: Path) -> None:
        in_thread(migrate.upgrade, f"sqlite:///{folder / SQLITE_FILE}")

    return built_once("sqlite", build) / SQLITE_FILE


@pytest.fixture(scope="session")
def promtool(servers: None) -> str:
    try:
        return find_binary("promtool")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture(scope="session")
def s3_server(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A running S3 server, with credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    s3_server.start()
    return s3_server


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    redis_server.start()
    redis_server.empty()
    return redis_server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    postgres_server.start()
    return postgres_server
