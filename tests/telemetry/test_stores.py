"""Operations on the database and on Redis, the pools, and requests in work."""

import asyncio

import pytest

from support_service import app
from support_service.events import relay
from support_service.telemetry.labels import REDIS_OPERATIONS
from tests.calls import PATIENCE, eventually, open_case, read_case, read_detail, refresh, refused
from tests.conftest import both_databases

TIME = "db_client_operation_duration_seconds"
POOL = "db_client_connections"
ACTIVE = "http_server_active_requests"
READ = "/support/cases/{case_id}"


def operations(metrics, system):
    """How many operations a system has done, by name and error."""
    counted = [
        (given["db_operation_name"], given.get("error_type", ""), value)
        for name, given, value in metrics.samples()
        if name == f"{TIME}_count" and given["db_system_name"] == system
    ]
    return {(name, error): value for name, error, value in counted}


@pytest.fixture(autouse=True)
def only_what_the_test_does(monkeypatch):
    """No reading of the levers and no look at the outbox in between, which would count too."""
    monkeypatch.setattr(app, "REFRESH_EVERY", 3600.0)
    monkeypatch.setattr(app, "RELAY_LOOK_EVERY", 3600.0)
    monkeypatch.setattr(relay, "EVERY", 3600.0)


@pytest.fixture
def with_redis(environment, redis, orders):
    """A service with a Redis and an order service."""
    orders.add("ORD-1")
    environment |= {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_ORDER_URL": orders.url}
    return redis


@both_databases
async def test_database_operations(client, metrics, backend):
    """A read is one SELECT and a change one TRANSACTION, under the name of the database that is configured."""
    before = operations(metrics, backend)
    assert set(before) == {("SELECT", ""), ("TRANSACTION", "")}
    case = await open_case(client)
    await read_case(client, case)
    await read_case(client, case)
    after = operations(metrics, backend)
    assert after["TRANSACTION", ""] == before["TRANSACTION", ""] + 1
    assert after["SELECT", ""] == before["SELECT", ""] + 2
    assert {given["db_system_name"] for given in metrics.series(f"{TIME}_count")} == {backend}


@both_databases
async def test_a_refusal_is_no_error_of_the_database(client, metrics, backend):
    """A case that is not there leaves the operations without an error."""
    await refused(await client.post("/support/cases/nobody/status", params={"status": "closed"}), 404, "case_not_found")
    assert {error for _, error in operations(metrics, backend)} == {""}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_stopped_postgresql_is_an_error(client, metrics, postgres):
    """Each operation on a database that is gone counts with an error, and without one again afterwards."""
    case = await open_case(client)
    postgres.stop()
    await refused(await client.get(f"/support/cases/{case['id']}"), 503, "database_unavailable")
    body = {"subject": "A", "channel": "email"}
    await refused(await client.post("/support/cases", json=body), 503, "database_unavailable")
    found = operations(metrics, "postgresql")
    assert (found["SELECT", "other"], found["TRANSACTION", "other"]) == (1, 1)
    postgres.start()
    good = found["SELECT", ""]
    await read_case(client, case)
    assert operations(metrics, "postgresql")["SELECT", ""] == good + 1


async def test_redis_operations(with_redis, client, metrics):
    """A cold read looks, claims, looks again and keeps; one from the cache looks; a refresh looks and keeps."""
    of_the_cache = {(name, "") for name in REDIS_OPERATIONS}
    assert {name: operations(metrics, "redis")[name] for name in of_the_cache} == dict.fromkeys(of_the_cache, 0)
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    await read_detail(client, case)
    await refresh(client, case)
    await (await client.get("/readyz")).read()
    found = operations(metrics, "redis")
    assert {name: found[name] for name in of_the_cache} == {
        ("MGET", ""): 4,
        ("SET", ""): 1,
        ("EVALSHA", ""): 2,
        ("DEL", ""): 0,
        ("PING", ""): 1,
    }


async def test_a_dead_redis_is_an_error(with_redis, client, metrics):
    """Operations on a Redis that is gone count as `other`, on one that hangs as `timeout`."""
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    with_redis.freeze()
    try:
        await read_detail(client, case)
    finally:
        with_redis.thaw()
    assert operations(metrics, "redis")["MGET", "timeout"] == 1
    async with asyncio.timeout(PATIENCE):
        while (await read_detail(client, case))["timelineSources"]["order"]["status"] != "cached":
            pass
    with_redis.kill()
    await read_detail(client, case)
    assert operations(metrics, "redis")["MGET", "other"] == 1
    assert {error for _, error in operations(metrics, "redis")} == {"", "timeout", "other"}


@both_databases
async def test_pools(with_redis, client, metrics, backend):
    """Each pool says how many of its connections are used and how many are idle; at rest none is used."""
    await asyncio.gather(*(open_case(client) for _ in range(5)))
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    found = {tuple(given.values()): value for name, given, value in metrics.samples() if name == POOL}
    assert {pool for pool, _ in found} == {"database", "cache", "events"}
    assert found["database", "used"] == found["cache", "used"] == 0
    assert found["database", "idle"] >= 1
    assert found["cache", "idle"] >= 1


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_connection_in_use_is_counted(client, metrics, postgres, database_url):
    """A transaction that waits for a lock holds one connection of the pool, and gives it back."""
    case = await open_case(client)
    used = {"db_client_connection_pool_name": "database", "db_client_connection_state": "used"}
    name = database_url.rpartition("/")[2]
    lock = "BEGIN; LOCK TABLE tickets IN EXCLUSIVE MODE; SELECT pg_sleep(1.5); COMMIT"
    holding = asyncio.create_task(asyncio.to_thread(postgres.run, lock, name))
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'tickets'::regclass AND granted"
    )
    await eventually(lambda: postgres.run(waiting, name) == "1")
    changing = asyncio.create_task(client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}))
    await eventually(lambda: metrics.value(POOL, **used) == 1)
    await holding
    async with await changing as response:
        assert response.status == 200
    assert metrics.value(POOL, **used) == 0


@pytest.mark.parametrize("method", ["GET", "POST", "_OTHER"])
async def test_no_request_is_in_work_at_first(metrics, method):
    """Each method stands at 0 from the start."""
    assert metrics.value(ACTIVE, http_request_method=method, url_scheme="http") == 0


async def test_a_request_that_hangs_is_in_work(with_redis, client, metrics, orders):
    """Requests that wait for a source are counted as in work by their method until they are answered."""
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    get = {"http_request_method": "GET", "url_scheme": "http"}
    release = orders.hang()
    reads = [asyncio.create_task(read_detail(client, case)) for _ in range(3)]
    await eventually(lambda: metrics.value(ACTIVE, **get) == 3)
    assert metrics.total(ACTIVE) == 3
    release.set()
    await asyncio.gather(*reads)
    assert metrics.total(ACTIVE) == 0


@pytest.mark.parametrize("method", ["LOCK", "DELETE", "GET"])
async def test_a_refused_request_is_no_longer_in_work(client, metrics, method):
    """A refusal ends a request as an answer does, of an unknown method too."""
    async with client.request(method, "/support/cases/nobody") as response:
        assert response.status in (404, 405)
    assert metrics.total("http_server_request_duration_seconds_count") == 1
    assert metrics.total(ACTIVE) == 0
