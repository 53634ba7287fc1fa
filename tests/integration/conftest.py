"""Fixtures of tests with servers: a database that replicas share."""

from contextlib import AsyncExitStack

import pytest

from support_service.platform.database.shared import create_database
from tests.support.timings import PATIENT_DATABASE


@pytest.fixture
async def two_databases(database_url):
    """The database as two replicas are connected to it, which share no write slots."""
    async with AsyncExitStack() as closing:
        opened = [create_database(database_url, timings=PATIENT_DATABASE) for _ in range(2)]
        for each in opened:
            await each.open()
            closing.push_async_callback(each.close)
        yield opened
