"""Fixtures: a client of a service that the tests of a module share, without waiting between attempts."""

import pytest_asyncio
from aiohttp.test_utils import TestClient

from support_service.client import SupportClient
from tests.support.client.fixtures import QUICK, answering  # noqa: F401 - fixtures
from tests.support.service import empty


@pytest_asyncio.fixture(loop_scope="module")
async def client(shared_client: TestClient) -> TestClient:
    """The test finds no data of others."""
    await empty(shared_client)
    return shared_client


@pytest_asyncio.fixture(loop_scope="module")
async def api(client):
    async with SupportClient(str(client.make_url("/")), timings=QUICK) as api:
        yield api
