"""Fixtures: a service that the tests of a module share, callers with and without rights, and an issuer of JWTs."""

from pathlib import Path

import pytest_asyncio
from aiohttp.test_utils import TestClient

from tests.conftest import MakeClient
from tests.support.access.fixtures import issuer  # noqa: F401 - fixtures
from tests.support.access.principals import Principals, shared_principals  # noqa: F401 - fixtures
from tests.support.links import open_owned  # noqa: F401 - fixtures
from tests.support.service import empty
from tests.support.stream_desk import Desk, open_desk


@pytest_asyncio.fixture(loop_scope="module")
async def client(shared_client: TestClient) -> TestClient:
    """A client of a service that the tests of a module share. The test finds no data of others."""
    await empty(shared_client)
    return shared_client


@pytest_asyncio.fixture(loop_scope="module")
async def principals(shared_principals: Principals) -> Principals:  # noqa: F811 - a fixture
    """A principal of each role, of a service as for `client`."""
    await empty(shared_principals.client)
    return shared_principals


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def token_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shared") / "tokens.json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_desk(make_shared_client: MakeClient, token_file) -> Desk:
    """A caller of each kind, of a service that the tests of a module share."""
    return await open_desk(make_shared_client, token_file)


@pytest_asyncio.fixture(loop_scope="module")
async def desk(shared_desk: Desk) -> Desk:
    """A caller of each kind, of a service as for `client`."""
    await empty(shared_desk.client)
    return shared_desk
