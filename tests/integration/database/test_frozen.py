"""A PostgreSQL that holds its connections and answers nothing."""

import asyncio

import pytest

from support_service.platform.database import DatabaseTimings, PostgresTimings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case
from tests.support.timings import patient_timings

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

SHORT = PostgresTimings(connect_timeout=2.0, pool_timeout=2.0, statement_timeout=2.0, lock_timeout=0.1)

CODES = {"database_busy", "database_pool_exhausted", "database_unavailable"}


@pytest.fixture
def frozen(postgres):
    """Freezes PostgreSQL, and thaws it after the test."""
    yield postgres.freeze
    postgres.thaw()


async def test_every_request_is_refused_in_time_while_the_database_is_frozen(make_client, postgres, frozen):
    """On open connections, and without one. The process stays live."""
    client = await make_client(timings=patient_timings(database=DatabaseTimings(postgres=SHORT)))
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    reads = [client.get(path) for _ in range(5)]  # open connections; one may take longer than these timings allow
    assert 200 in {response.status for response in await asyncio.gather(*reads)}
    frozen()
    body = {"authorType": "agent", "message": "Hello"}
    async with asyncio.timeout(GENEROUS_TIMEOUT):
        for _ in range(2):
            reads = [client.get(path) for _ in range(15)]
            writes = [client.post(f"{path}/messages", json=body) for _ in range(15)]
            for response in await asyncio.gather(*reads, *writes):
                assert response.status == 503
                assert (await response.json())["code"] in CODES
                assert int(response.headers["Retry-After"]) > 0
    async with client.get("/readyz") as response:
        assert response.status == 503
    async with client.get("/livez") as response:
        assert response.status == 200
    postgres.thaw()

    async def recovered():
        async with client.get(path) as response:
            return response.status == 200

    await eventually(recovered)
