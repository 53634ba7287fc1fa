"""PostgreSQL that goes away, and comes back."""

import asyncio

import pytest

from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.timings import ApiTimings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json, expect_problem, open_case, read_case, upload
from tests.support.process import running
from tests.support.servers import free_port
from tests.support.timings import patient_timings

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
CODES = {"database_busy", "database_pool_exhausted", "database_unavailable"}


async def test_killed_connections_are_replaced(client, postgres, database_url):
    """After its connections were killed, the next read works as if nothing had been, and so does the next write."""
    case = await open_case(client)
    await asyncio.gather(*(read_case(client, case) for _ in range(20)))
    name = database_url.rpartition("/")[2]
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert await read_case(client, case) == case | {"timeline": []}
    await open_case(client)


async def test_requests_are_503_while_the_database_is_down(client, postgres):
    """With Retry-After, and readiness is off. Afterwards everything works again."""
    case = await open_case(client)
    postgres.stop()
    calls = [
        client.get(f"/support/cases/{case['id']}"),
        client.get("/support/cases"),
        client.post("/support/cases", json={"subject": "A", "channel": "email"}),
        client.post(f"/support/cases/{case['id']}/messages", json={"authorType": "agent", "message": "Hello"}),
        client.get("/support/agents/a/workload"),
    ]
    for call in calls:
        response = await call
        await expect_problem(response, 503, "database_unavailable")
        assert int(response.headers["Retry-After"]) > 0
    async with client.get("/readyz") as response:
        assert response.status == 503
        body = await response.json()
        assert (body["status"], body["database"]) == ("unavailable", "database_unavailable")
    await expect_json(client.get("/livez"))
    await expect_json(client.get("/metrics"))
    postgres.start()
    assert await read_case(client, case) == case | {"timeline": []}
    await upload(client, await open_case(client))

    async def ready():
        async with client.get("/readyz") as response:
            return response.status == 200 and await response.json()

    assert (await eventually(ready))["database"] == "ok"


@pytest.fixture
def frozen(postgres):
    """Freezes PostgreSQL, and thaws it after the test."""
    yield postgres.freeze
    postgres.thaw()


async def test_frozen_database_turns_readiness_off(make_client, postgres, frozen):
    """And on again when it recovers."""
    client = await make_client(timings=patient_timings(api=ApiTimings(ping_timeout=0.2)))
    case = await open_case(client)
    frozen()

    async def ready():
        async with client.get("/readyz") as response:
            return response.status, (await response.json())["database"]

    async def recovered():
        return await ready() == (200, "ok")

    reading = asyncio.create_task(read_case(client, case))
    for _ in range(2):
        assert await asyncio.gather(*(ready() for _ in range(10))) == [(503, "database_unavailable")] * 10
    assert not reading.done()  # a statement may take 15 s, and a readiness check does not wait for it
    postgres.thaw()
    assert await reading == case | {"timeline": []}
    await eventually(recovered)


@pytest.mark.long
async def test_every_request_is_refused_in_time_while_the_database_is_frozen(make_client, postgres, frozen):
    """On open connections, and without one. The short form is `test_frozen_database_turns_readiness_off`."""
    short = PostgresTimings(connect_timeout=2.0, pool_timeout=2.0, statement_timeout=2.0, lock_timeout=0.1)
    client = await make_client(timings=patient_timings(database=DatabaseTimings(postgres=short)))
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
                assert (response.status, int(response.headers["Retry-After"]) > 0) == (503, True)
                assert (await response.json())["code"] in CODES
    await expect_json(client.get("/livez"))


@pytest.mark.long
async def test_shutdown_does_not_wait_for_a_frozen_database(tmp_path, database_url, frozen):
    """A process, whose start takes seconds. e2e/server/test_shutdown.py has short forms of a shutdown."""
    port = free_port()
    variables = {"SUPPORT_PORT": str(port), "SUPPORT_DATABASE_URL": database_url}
    async with running("serve", cwd=tmp_path, **variables) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        frozen()
        service.stop()
        assert (await service.wait_for_exit())[0] == 0


async def test_committed_deletion_succeeds_although_the_database_goes_down(client, postgres, monkeypatch):
    """Deleting the bytes and updating the gauges wait for the database."""
    case = await open_case(client)
    attachment = await upload(client, case)
    path = f"/support/cases/{case['id']}/attachments"
    delete = LocalAttachmentStorage.delete

    async def stop_and_delete(storage, key):
        postgres.stop()
        await delete(storage, key)

    monkeypatch.setattr(LocalAttachmentStorage, "delete", stop_and_delete)
    try:
        await expect_json(client.delete(f"{path}/{attachment['id']}"), 204)
    finally:
        postgres.start()
    async with client.get(path) as response:
        assert await response.json() == []
