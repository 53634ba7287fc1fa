"""Servers that one test run shares, as fixtures that conftest.py imports."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support_service.database import migrate
from tests.support.servers import MissingServer, PostgresServer, RedisServer, S3Server, find_binary


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run blocking work that uses its own event loop in a thread; return its result."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


@pytest.fixture(scope="session")
def redis_server(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of the session."""
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
def postgres_server(servers: None) -> Iterator[PostgresServer]:
    """The PostgreSQL of the session."""
    # The user `postgres` may not enter pytest's own directory.
    folder = Path(tempfile.mkdtemp(prefix="support-postgres-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    server = None
    try:
        server = PostgresServer(folder)
        server.start()
        yield server
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a migrated, empty database."""
    name = postgres_server.create_database()
    in_thread(migrate.upgrade, postgres_server.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    in_thread(migrate.upgrade, f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def promtool(servers: None) -> str:
    """The path of Prometheus's linter."""
    try:
        return find_binary("promtool")
    except MissingServer as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture(scope="session")
def s3_server(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server of the session."""
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
    """A running, empty Redis."""
    redis_server.start()
    redis_server.empty()
    return redis_server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    """A running PostgreSQL."""
    postgres_server.start()
    return postgres_server
