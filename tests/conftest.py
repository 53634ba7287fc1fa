"""Fixtures of all tests. Nothing of the service is mocked: databases, caches and upstream services are real."""

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from support_service.app import build_app
from support_service.guard.guard import Guard
from support_service.guard.server import GuardedRunner
from support_service.platform.database import Database
from support_service.platform.database.shared import create_database
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.server import READ_BUFFER_BYTES
from support_service.timeline.cache import InProcessCache, SnapshotStore
from support_service.timeline.redis_cache import RedisCache
from support_service.timings import Timings
from tests.support.calls import GENEROUS_TIMEOUT
from tests.support.examples import load_profile
from tests.support.scrape import Changes, Scrape
from tests.support.servers import PostgresServer
from tests.support.service import service_of
from tests.support.sessions import (  # noqa: F401 - fixtures
    postgres,
    postgres_cluster,
    postgres_server,
    postgres_template,
    promtool,
    redis,
    redis_server,
    s3,
    s3_server,
    sqlite_template,
)
from tests.support.times import count_service, measured
from tests.support.timings import PATIENT_DATABASE, change_constants, patient_timings
from tests.support.upstream import SourceService, source_services, url_variables

load_profile()

pytest_plugins = (
    "tests.support.plugins.bytecode",
    "tests.support.plugins.tiers",
    "tests.support.plugins.forms",
    "tests.support.plugins.isolation",
    "tests.support.plugins.built_once",
    "tests.support.plugins.times",
)

MakeClient = Callable[..., Awaitable[TestClient]]
both_databases = pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of a shared service on its event loop, which is that of their module."""
    for item in items:
        if "make_shared_client" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


# Tests of a module with the same database run one after the other, and can share services.
@pytest.fixture(scope="module", params=["sqlite"], ids=[pytest.HIDDEN_PARAM])
def backend(request: pytest.FixtureRequest) -> str:
    """The database of a test: SQLite, unless the test is marked with `both_databases`."""
    return request.param


@pytest.fixture
def database_url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated, empty database."""
    url = _create_database(request, backend, tmp_path)
    server: PostgresServer | None = request.getfixturevalue("postgres_server") if backend == "postgresql" else None
    yield url
    if server is not None:
        server.drop_with_the_next(url.rpartition("/")[2])


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = create_database(database_url, timings=PATIENT_DATABASE)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(params=["in-process", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[SnapshotStore]:
    """Each kind of timeline cache."""
    cache = (
        InProcessCache()
        if request.param == "in-process"
        else RedisCache(request.getfixturevalue("redis").url, GENEROUS_TIMEOUT)
    )
    yield cache
    await cache.close()


@pytest.fixture
def instruments() -> Iterator[Instruments]:
    """Instruments with their own metrics provider."""
    metrics = Metrics(("prometheus",), build_resource())
    yield Instruments(metrics.meter)
    metrics.close()


@pytest.fixture
async def sources() -> AsyncIterator[dict[str, SourceService]]:
    services = source_services()
    for service in services.values():
        await service.open()
    yield services
    for service in services.values():
        await service.close()


@pytest.fixture
def orders(sources: dict[str, SourceService]) -> SourceService:
    return sources["order"]


@pytest.fixture
def payments(sources: dict[str, SourceService]) -> SourceService:
    return sources["payment"]


@pytest.fixture
def shipments(sources: dict[str, SourceService]) -> SourceService:
    """The fulfillment service."""
    return sources["fulfillment"]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The variables of a service without upstream services."""
    return _variables(database_url, tmp_path)


@pytest.fixture
def upstream_services(sources: dict[str, SourceService], environment: dict[str, str]) -> dict[str, str]:
    """The variables of a service with all upstream services."""
    environment |= url_variables(sources)
    return environment


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings of the service under test."""
    return Settings.load(environment)


@pytest.fixture
def constants(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change constants of a module of the service: `constants("desk.bulk", KEY_TIME=timedelta(0))`."""
    return partial(change_constants, monkeypatch)


@pytest.fixture(scope="module")
def shared_constants() -> Iterator[Callable[..., None]]:
    """Like `constants`, for services that all tests of a module share."""
    with pytest.MonkeyPatch.context() as patch:
        yield partial(change_constants, patch)


@pytest.fixture(autouse=True, scope="session")
def exact_counts() -> Iterator[None]:
    """Let no count of cases be shared, so that each is exact, and leave enough time to count every view."""
    with pytest.MonkeyPatch.context() as patch:
        change_constants(patch, "cases.listing.case_list", MIN_SHARED_DURATION=math.inf)
        change_constants(patch, "api.views", COUNT_TIMEOUT=6 * GENEROUS_TIMEOUT)
        yield


@pytest.fixture
def timings() -> Timings:
    """The timings of the service under test."""
    return patient_timings()


@pytest.fixture
def make_client(aiohttp_client: MakeClient, environment: dict[str, str], timings: Timings) -> MakeClient:
    """Start a service and return its client; keywords change its variables (None unsets one) and its timings."""

    async def make(*, timings: Timings = timings, **changes: str | None) -> TestClient:
        with measured("start of a service"):
            return await aiohttp_client(_server(environment | changes, timings))

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> TestClient:
    """A client of a running service."""
    return await make_client()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def make_shared_client(
    request: pytest.FixtureRequest, backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MakeClient]:
    """Like `make_client`, for services that all tests of a module share. Each service has a database of its own."""
    async with AsyncExitStack() as clients:

        async def make(*, timings: Timings | None = None, **changes: str | None) -> TestClient:
            folder = tmp_path_factory.mktemp("shared")
            unlimited = dict.fromkeys(("SUPPORT_RATE_LIMIT", "SUPPORT_RATE_LIMIT_ADDRESS"), "off")
            wanted = _variables(_create_database(request, backend, folder), folder) | unlimited | changes
            with measured("start of a service"):
                server = _server(wanted, timings or patient_timings(), shared=True)
                return await clients.enter_async_context(TestClient(server))

        yield make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client: MakeClient) -> TestClient:
    """A client of one service for all tests of the module, whose data they must not see from each other.

    An async fixture that uses it needs `loop_scope="module"`.
    """
    return await make_shared_client()


@pytest.fixture
def metrics(client: TestClient) -> Scrape:
    """The metrics of the service that `client` talks to."""
    return Scrape(service_of(client).metrics)


@pytest.fixture
def metric_changes(client: TestClient) -> Changes:
    """By how much a test changes the metrics of the service that `client` talks to, which other tests may share."""
    return Changes(service_of(client).metrics)


@pytest.fixture
def attachment_dir(environment: dict[str, str]) -> Path:
    """The directory in which the service stores attachments."""
    return Path(environment["SUPPORT_ATTACHMENT_DIR"])


class ServiceServer(TestServer):
    """Runs an app as `support-service serve` does. aiohttp's test server would cancel handlers of clients that left."""

    def __init__(self, app: web.Application, guard: Guard) -> None:
        super().__init__(app)
        self._guard = guard

    async def _make_runner(self, **_: Any) -> web.BaseRunner:
        return GuardedRunner(self.app, self._guard, access_log=None, read_bufsize=READ_BUFFER_BYTES)


def _create_database(request: pytest.FixtureRequest, backend: str, folder: Path) -> str:
    if backend == "sqlite":
        path = folder / "support.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    server.start()
    return server.url(server.create_database(request.getfixturevalue("postgres_template")))


@pytest.fixture
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that may answer late, on a busy machine."""
    monkeypatch.setattr("support_service.service.REDIS_TIMEOUT", GENEROUS_TIMEOUT)


@pytest.fixture
def no_consumer() -> Iterator[pytest.MonkeyPatch]:
    """Services that start leave inbound events where they are, until `undo`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("support_service.events.consumer.EventConsumer.run", lambda _: asyncio.Event().wait())
        patch.setattr("support_service.events.consumer.EventConsumer.handle_waiting", lambda *_: asyncio.sleep(0))
        yield patch


def _variables(database_url: str, folder: Path) -> dict[str, str]:
    return {
        # A healthy source looks late after a stall of the machine.
        "SUPPORT_TIMELINE_SOURCE_TIMEOUT": "60",
        "SUPPORT_DATABASE_URL": database_url,
        "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
        "SUPPORT_ACCESS_LOG": "0",
        "SUPPORT_SHED_LAG": "0",  # a busy machine must not shed load
    }


def _server(variables: dict[str, str | None], timings: Timings, *, shared: bool = False) -> ServiceServer:
    count_service(shared=shared)
    settings = Settings.load({name: value for name, value in variables.items() if value is not None})
    return ServiceServer(*build_app(settings, timings))
