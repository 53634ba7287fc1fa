"""What every test can ask for. Nothing of our own is mocked: databases, caches and upstreams are real."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp.test_utils import TestClient

from support_service import database as databases
from support_service.app import build
from support_service.database import Database, migrate
from support_service.settings import Settings
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics
from support_service.timeline.cache import Cache, InProcessCache, RedisCache
from tests.fakes import Orders, Things, fulfillment_service, payment_service
from tests.scrape import Scrape
from tests.servers import MissingServer, PostgresServer, RedisServer

# The same examples in every run, and no clock in the verdict.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")

MakeClient = Callable[..., Awaitable[TestClient]]
both_databases = pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's Redis."""
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
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL, with a migrated template."""
    # Not below pytest's own folder, which the user `postgres` may not enter.
    folder = Path(tempfile.mkdtemp(prefix="support-postgres-"))
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


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: SQLite, unless the test is marked with `both_databases`."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def database_url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated, empty database."""
    if backend == "sqlite":
        path = tmp_path / "support.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create_database(request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.start()
    server.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database."""
    database = databases.connect(database_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(params=["in-process", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    """Each cache there is."""
    cache = InProcessCache() if request.param == "in-process" else RedisCache(request.getfixturevalue("redis").url)
    yield cache
    await cache.close()


@pytest.fixture
def instruments() -> Iterator[Instruments]:
    """Instruments of their own."""
    metrics = Metrics("tests")
    yield Instruments(metrics.meter)
    metrics.close()


@pytest.fixture
async def orders() -> AsyncIterator[Orders]:
    """The order service."""
    async for service in _served(Orders()):
        yield service


@pytest.fixture
async def payments() -> AsyncIterator[Things]:
    """The payment service."""
    async for service in _served(payment_service()):
        yield service


@pytest.fixture
async def shipments() -> AsyncIterator[Things]:
    """The fulfillment service."""
    async for service in _served(fulfillment_service()):
        yield service


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables of a service without neighbours."""
    return {
        "SUPPORT_DATABASE_URL": database_url,
        "SUPPORT_ATTACHMENT_DIR": str(tmp_path / "attachments"),
        "SUPPORT_ACCESS_LOG": "0",
    }


@pytest.fixture
def neighbours(orders: Orders, payments: Things, shipments: Things, environment: dict[str, str]) -> dict[str, str]:
    """The same, with all three neighbours."""
    environment |= {
        "SUPPORT_ORDER_URL": orders.url,
        "SUPPORT_PAYMENT_URL": payments.url,
        "SUPPORT_FULFILLMENT_URL": shipments.url,
    }
    return environment


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings of the service under test."""
    return Settings.load(environment)


@pytest.fixture
def make_client(aiohttp_client: MakeClient, environment: dict[str, str]) -> MakeClient:
    """Start a service and give a client of it; keywords change its variables, None unsets one."""

    async def make(**changes: str | None) -> TestClient:
        wanted = environment | changes
        app = build(Settings.load({name: value for name, value in wanted.items() if value is not None}))
        return await aiohttp_client(app)

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> TestClient:
    """A client of a running service."""
    return await make_client()


@pytest.fixture
def metrics(client: TestClient) -> Scrape:
    """The metrics of the service that `client` talks to."""
    return Scrape(client.app)


@pytest.fixture
def attachment_dir(environment: dict[str, str]) -> Path:
    """Where the service keeps its files."""
    return Path(environment["SUPPORT_ATTACHMENT_DIR"])


async def _served(service: Orders | Things) -> AsyncIterator[Orders | Things]:
    await service.open()
    yield service
    await service.close()


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do blocking work that runs an event loop of its own; gives what it gives."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()
