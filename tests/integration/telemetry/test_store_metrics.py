"""Operations on the database and on Redis, the pools, and requests in work."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service import database as databases
from support_service.attachments.component import AttachmentTimings
from support_service.audit.sealer import SealerTimings
from support_service.cases.gauges import GaugeTimings
from support_service.core.errors import Unavailable, case_not_found
from support_service.database.timings import DatabaseTimings, SqliteTimings
from support_service.events.relay import RelayTimings
from support_service.telemetry.instruments.stores import REDIS_OPERATIONS
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.component import CACHE, TimelineTimings
from support_service.timeline.single_flight import SingleFlightTimings
from tests.conftest import both_databases
from tests.support.calls import PATIENCE, eventually, open_case, read_case, read_detail, refresh, refused
from tests.support.timings import PATIENT_POSTGRES, patient_events, patient_timings

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
def only_what_the_test_does(environment):
    """No look at overrides, cases, files and outbox, no consumer, sealing or hold on a claim: each would count, too."""
    environment["SUPPORT_EVENTS_CONSUME"] = "false"


@pytest.fixture
def timings():
    """Nothing is done at intervals while a test runs."""
    return patient_timings(
        audit=SealerTimings(seal_interval=3600.0),
        cases=GaugeTimings(refresh_interval=3600.0),
        timeline=TimelineTimings(
            override_refresh_interval=3600.0,
            aggregator=AggregatorTimings(single_flight=SingleFlightTimings(lease_extend_interval=3600.0)),
        ),
        attachments=AttachmentTimings(backlog_refresh_interval=3600.0),
        events=patient_events(backlog_refresh_interval=3600.0, relay=RelayTimings(poll_interval=3600.0)),
    )


@pytest.fixture
def with_redis(environment, redis, orders):
    """A service with a Redis and an order service."""
    orders.add("ORD-1")
    environment |= {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_REDIS_TIMEOUT": "60", "SUPPORT_ORDER_URL": orders.url}
    return redis


@both_databases
async def test_database_operations(client, metrics, backend):
    """A read is one SELECT and a change one TRANSACTION, under the name of the database that is configured."""
    made = []
    for _ in range(20):  # the service looks at its database by itself now and then, which may fall between two scrapes
        before = operations(metrics, backend)
        assert set(before) == {("SELECT", ""), ("TRANSACTION", "")}
        case = await open_case(client)
        await read_case(client, case)
        await read_case(client, case)
        after = operations(metrics, backend)
        made.append({name: after[name, ""] - before[name, ""] for name in ("TRANSACTION", "SELECT")})
        if made[-1] == {"TRANSACTION": 1, "SELECT": 2}:
            break
    else:
        pytest.fail(f"never one transaction and two reads: {made}")
    assert {given["db_system_name"] for given in metrics.series(f"{TIME}_count")} == {backend}


@both_databases
async def test_a_refusal_is_no_error_of_the_database(client, metrics, backend):
    """A case that is not there leaves the operations without an error."""
    await refused(await client.post("/support/cases/nobody/status", params={"status": "closed"}), 404, "case_not_found")
    assert {error for _, error in operations(metrics, backend)} == {""}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_stopped_postgresql_is_an_error(client, metrics, postgres, caplog):
    """Each operation on a database that is gone counts with an error and warns, and without one again afterwards."""
    case = await open_case(client)
    postgres.stop()
    await refused(await client.get(f"/support/cases/{case['id']}"), 503, "database_unavailable")
    body = {"subject": "A", "channel": "email"}
    await refused(await client.post("/support/cases", json=body), 503, "database_unavailable")
    assert [entry.levelname for entry in caplog.records if entry.name == "support_service.access"] == ["WARNING"] * 2
    found = operations(metrics, "postgresql")
    assert (found["SELECT", "_OTHER"], found["TRANSACTION", "_OTHER"]) == (1, 1)
    postgres.start()
    good = found["SELECT", ""]
    await read_case(client, case)
    assert operations(metrics, "postgresql")["SELECT", ""] == good + 1


@both_databases
async def test_a_block_that_breaks_is_an_error(database_url, backend):
    """An error of ours or the database's own within a transaction is `_OTHER`, a refusal of the domain's is none."""
    told = []
    database = databases.connect(database_url, measure=lambda *operation: told.append((operation[0], operation[2])))
    await database.open()
    told.clear()
    broken = sa.text("INSERT INTO messages (id) VALUES ('m')")

    async def change(failure):
        async with database.transaction() as tx:
            if failure is None:
                await tx.execute(broken)
            raise failure

    for failure, wanted in ((ZeroDivisionError(), "_OTHER"), (case_not_found("x"), ""), (None, "_OTHER")):
        with pytest.raises(type(failure) if failure else Exception):
            await change(failure)
        assert told.pop() == ("TRANSACTION", wanted)
    await database.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_lock_that_is_not_had_in_time(database_url, backend):
    """A change that waits for a lock in vain is `timeout`, and its client is told that the database is busy."""
    told = []
    database = databases.connect(
        database_url,
        measure=lambda *operation: told.append((operation[0], operation[2])),
        timings=DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05)),
    )
    await database.open()
    lock = sa.text("LOCK TABLE tickets IN EXCLUSIVE MODE")
    async with database.transaction() as first:
        await first.execute(lock)
        with pytest.raises(Unavailable) as refusal:
            async with database.transaction() as second:
                await second.execute(lock)
    assert refusal.value.code == "database_busy"
    assert told[-2:] == [("TRANSACTION", "timeout"), ("TRANSACTION", "")]
    await database.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_sqlite_that_stays_busy(database_url, backend):
    """A change that another process's write holds up for too long is `timeout`."""
    told = []
    database = databases.connect(
        database_url,
        measure=lambda *operation: told.append((operation[0], operation[2])),
        timings=DatabaseTimings(sqlite=SqliteTimings(busy_timeout=0.05)),
    )
    await database.open()
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        async with database.transaction():
            pass
    other.execute("ROLLBACK")
    other.close()
    assert told[-1] == ("TRANSACTION", "timeout")
    await database.close()


async def test_redis_operations(with_redis, client, metrics):
    """A cold read looks, claims, looks again, keeps, releases; one from the cache looks; a refresh looks and keeps."""
    of_the_cache = {(name, "") for name in REDIS_OPERATIONS}
    assert {name: operations(metrics, "redis")[name] for name in of_the_cache} == dict.fromkeys(of_the_cache, 0)
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    await read_detail(client, case)
    await refresh(client, case)
    await (await client.get("/readyz")).read()
    await eventually(lambda: operations(metrics, "redis")["EVAL", ""] == 4)  # the release waits for nobody
    found = operations(metrics, "redis")
    assert {name: found[name] for name in of_the_cache} == {
        ("MGET", ""): 4,
        ("EVAL", ""): 4,
        ("DEL", ""): 0,
        ("PING", ""): 1,
    }


async def test_a_dead_redis_is_an_error(with_redis, client, metrics):
    """Operations on a Redis that is gone count as `_OTHER`, on one that hangs as `timeout`."""
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    client.app[CACHE].connection.timeout = 0.2
    with_redis.freeze()
    try:
        await read_detail(client, case)
    finally:
        with_redis.thaw()
    client.app[CACHE].connection.timeout = PATIENCE
    assert operations(metrics, "redis")["MGET", "timeout"] == 1

    async def cached():
        return (await read_detail(client, case))["timelineSources"]["order"]["status"] == "cached"

    await eventually(cached)
    with_redis.kill()
    await read_detail(client, case)
    assert operations(metrics, "redis")["MGET", "_OTHER"] == 1
    assert {error for _, error in operations(metrics, "redis")} == {"", "timeout", "_OTHER"}


@both_databases
async def test_pools(with_redis, client, metrics, backend):
    """Each pool says how many of its connections are used and how many are idle; at rest none is used."""
    await asyncio.gather(*(open_case(client) for _ in range(5)))
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)

    def pools():
        return {tuple(given.values()): value for name, given, value in metrics.samples() if name == POOL}

    await eventually(lambda: pools()["cache", "used"] == pools()["database", "used"] == 0)
    found = pools()
    assert {pool for pool, _ in found} == {"database", "cache", "events"}
    assert found["database", "idle"] >= 1
    assert found["cache", "idle"] >= 1


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_connection_in_use_is_counted(client, metrics, postgres, database):
    """A transaction that waits for a lock holds one connection of the pool, and gives it back."""
    case = await open_case(client)
    used = {"db_client_connection_pool_name": "database", "db_client_connection_state": "used"}
    async with database.transaction() as other:
        await other.execute(sa.text("LOCK TABLE tickets IN EXCLUSIVE MODE"))
        changing = asyncio.create_task(client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}))
        await eventually(lambda: postgres.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        assert metrics.value(POOL, **used) == 1
    async with await changing as response:
        assert response.status == 200
    await eventually(lambda: metrics.value(POOL, **used) == 0)


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
