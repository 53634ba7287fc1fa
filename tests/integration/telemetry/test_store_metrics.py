"""Metrics of database and Redis operations, of connection pools, and of active requests."""

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable, case_not_found
from support_service.events.broker.base import BrokerError
from support_service.events.relay import RelayTimings
from support_service.platform.database import DatabaseTimings, SqliteTimings
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import tickets
from support_service.platform.telemetry.stores import REDIS_OPERATIONS
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.single_flight import SingleFlightTimings
from support_service.timings import TimelineTimings
from tests.conftest import both_databases
from tests.support.calls import (
    GENEROUS_TIMEOUT,
    eventually,
    expect_json,
    expect_problem,
    open_case,
    read_case,
    read_detail,
    refresh,
)
from tests.support.service import service_of
from tests.support.timings import PATIENT_POSTGRES, patient_events, patient_timings

TIME = "db_client_operation_duration_seconds"
POOL = "db_client_connections"
ACTIVE = "http_server_active_requests"
READ = "/support/cases/{case_id}"


def operations(metrics, system):
    counted = [
        (given["db_operation_name"], given.get("error_type", ""), value)
        for _, given, value in metrics.samples(f"{TIME}_count")
        if given["db_system_name"] == system
    ]
    return {(name, error): value for name, error, value in counted}


pytestmark = pytest.mark.usefixtures("no_consumer", "patient_cache")  # no background work


@pytest.fixture
def timings(constants):
    constants("platform.audit.log", SEAL_INTERVAL=3600.0)
    constants("service", ATTACHMENT_BACKLOG_INTERVAL=3600.0)
    constants("cases.gauges", CASE_REFRESH_INTERVAL=3600.0)
    return patient_timings(
        timeline=TimelineTimings(
            override_refresh_interval=3600.0,
            aggregator=AggregatorTimings(single_flight=SingleFlightTimings(lease_extend_interval=3600.0)),
        ),
        events=patient_events(backlog_refresh_interval=3600.0, relay=RelayTimings(batch_interval=3600.0)),
    )


@pytest.fixture
def with_redis(environment, redis, orders):
    orders.add("ORD-1")
    environment |= {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_ORDER_URL": orders.url}
    return redis


@both_databases
async def test_database_operations_are_counted_by_kind(client, metrics, backend):
    """A read counts one SELECT and a change one TRANSACTION, under the configured database's name."""
    counts = []
    for _ in range(20):  # background work may use the database between two scrapes
        before = operations(metrics, backend)
        assert set(before) == {("SELECT", ""), ("TRANSACTION", "")}
        case = await open_case(client)
        await read_case(client, case)
        await read_case(client, case)
        after = operations(metrics, backend)
        counts.append({name: after[name, ""] - before[name, ""] for name in ("TRANSACTION", "SELECT")})
        if counts[-1] == {"TRANSACTION": 1, "SELECT": 2}:
            break
    else:
        pytest.fail(f"never one transaction and two reads: {counts}")
    assert {given["db_system_name"] for given in metrics.label_sets(f"{TIME}_count")} == {backend}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_transactions_and_operations_of_postgresql(client, metrics, postgres, database, caplog):
    """A transaction that waits for a lock uses one connection, and returns it to the pool.

    While PostgreSQL is down, each operation counts an error and logs a warning, and none afterwards.
    """
    case = await open_case(client)
    used = {"db_client_connection_pool_name": "database", "db_client_connection_state": "used"}
    async with database.transaction() as other:
        await other.execute(sa.text("LOCK TABLE tickets IN EXCLUSIVE MODE"))
        changing = asyncio.create_task(client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}))
        await eventually(lambda: postgres.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        await eventually(lambda: metrics.value(POOL, **used) == 1)  # beside it there may be a periodic read
    await expect_json(await changing)
    await eventually(lambda: metrics.value(POOL, **used) == 0)
    postgres.stop()
    await expect_problem(await client.get(f"/support/cases/{case['id']}"), 503, "database_unavailable")
    body = {"subject": "A", "channel": "email"}
    await expect_problem(await client.post("/support/cases", json=body), 503, "database_unavailable")
    assert [entry.levelname for entry in caplog.records if entry.name == "support_service.access"] == ["WARNING"] * 2
    found = operations(metrics, "postgresql")
    assert found["SELECT", "_OTHER"] >= 1  # background work may use the database, too
    assert found["TRANSACTION", "_OTHER"] == 1
    postgres.start()
    await read_case(client, case)
    assert operations(metrics, "postgresql")["SELECT", ""] > found["SELECT", ""]


@both_databases
async def test_failed_transaction_counts_an_error(database_url, backend):
    """An unexpected error within a transaction counts as `_OTHER`; a domain error counts as none."""
    measured = []
    database = create_database(database_url, measure=lambda *operation: measured.append((operation[0], operation[2])))
    await database.open()
    measured.clear()
    invalid_insert = sa.text("INSERT INTO messages (id) VALUES ('m')")

    async def change(failure):
        async with database.transaction() as tx:
            if failure is None:
                await tx.execute(invalid_insert)
            raise failure

    for failure, wanted in ((ZeroDivisionError(), "_OTHER"), (case_not_found("x"), ""), (None, "_OTHER")):
        with pytest.raises(type(failure) if failure else Exception):
            await change(failure)
        assert measured.pop() == ("TRANSACTION", wanted)
    await database.close()


@both_databases
async def test_lock_timeout_is_counted_as_timeout(database_url, backend):
    """A change that can't get its lock in time counts as `timeout` and raises `database_busy`."""
    measured = []
    short = replace(PATIENT_POSTGRES, lock_timeout=0.05)
    timings = DatabaseTimings(sqlite=SqliteTimings(busy_timeout=0.05), postgres=short)
    first = create_database(database_url)
    second = create_database(database_url, measure=lambda *done: measured.append((done[0], done[2])), timings=timings)
    change = tickets.update().values(subject="A")
    await first.open()
    await second.open()
    async with first.transaction() as one:
        await one.execute(change if backend == "sqlite" else sa.text("LOCK TABLE tickets IN EXCLUSIVE MODE"))
        with pytest.raises(Unavailable) as refusal:
            async with second.transaction() as other:
                await other.execute(change)
    assert (refusal.value.code, measured[-1]) == ("database_busy", ("TRANSACTION", "timeout"))
    await first.close()
    await second.close()


async def test_redis_operations_of_reads_and_refreshes(with_redis, client, metrics, orders):
    """A cold read takes two reads, a lease, a write and a release; a cached read takes one; a refresh takes two.

    Requests that wait for a source count as active by method until they are answered.
    """
    cache_operations = {(name, "") for name in REDIS_OPERATIONS}
    assert {operations(metrics, "redis")[name] for name in cache_operations} == {0}
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    await read_detail(client, case)
    await refresh(client, case)
    await (await client.get("/readyz")).read()
    await eventually(lambda: operations(metrics, "redis")["EVAL", ""] == 4)  # the release runs in the background
    found = operations(metrics, "redis")
    assert {name: found[name, ""] for name, _ in cache_operations} == {"MGET": 4, "EVAL": 4, "DEL": 0, "PING": 1}
    get = {"http_request_method": "GET", "url_scheme": "http"}
    release = orders.hang()
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    reads = [asyncio.create_task(read_detail(client, case)) for _ in range(3)]
    await eventually(lambda: metrics.value(ACTIVE, **get) == 3)
    assert metrics.total(ACTIVE) == 3
    release.set()
    await asyncio.gather(*reads)
    assert metrics.total(ACTIVE) == 0


async def test_redis_failures_are_counted_by_error(with_redis, client, metrics):
    """Operations on a Redis that is down count as `_OTHER`, and on one that hangs as `timeout`."""
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    service_of(client).cache.connection.timeout = 0.2
    with_redis.freeze()
    try:
        await read_detail(client, case)
    finally:
        with_redis.thaw()
    service_of(client).cache.connection.timeout = GENEROUS_TIMEOUT
    assert operations(metrics, "redis")["MGET", "timeout"] == 1

    async def cached():
        return (await read_detail(client, case))["timelineSources"]["order"]["status"] == "cached"

    await eventually(cached)
    with_redis.run("SET", "support.other:fence", "9")
    with pytest.raises(
        BrokerError, match="newer fence"
    ):  # a publisher whose lease is over, which Redis refuses while it works
        await service_of(client).broker.publish("support.other", ["{}"], max_length=9, fence=1)
    assert operations(metrics, "redis").get(("XADD", "_OTHER"), 0) == 0
    with_redis.kill()
    await read_detail(client, case)
    assert operations(metrics, "redis")["MGET", "_OTHER"] == 1
    assert {error for _, error in operations(metrics, "redis")} == {"", "timeout", "_OTHER"}


@both_databases
async def test_pools_report_used_and_idle_connections(with_redis, client, metrics, backend):
    """Each pool reports its used and idle connections; none is used without traffic."""
    await asyncio.gather(*(open_case(client) for _ in range(5)))
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)

    def pools():
        return {tuple(given.values()): value for name, given, value in metrics.samples() if name == POOL}

    await eventually(lambda: pools()["cache", "used"] == pools()["database", "used"] == 0)
    found = pools()
    assert {pool for pool, _ in found} == {"database", "cache", "events", "stream"}
    assert found["database", "idle"] >= 1
    assert found["cache", "idle"] >= 1


async def test_rejected_request_is_no_longer_active(client, metrics):
    """A rejected request ends like any other, even with an unknown method. At the start none is active."""
    for method in ("GET", "POST", "_OTHER"):
        assert metrics.value(ACTIVE, http_request_method=method, url_scheme="http") == 0
    for number, method in enumerate(("LOCK", "DELETE", "GET"), start=1):
        async with client.request(method, "/support/cases/nobody") as response:
            assert response.status in (404, 405)
        assert metrics.total("http_server_request_duration_seconds_count") == number
        assert metrics.total(ACTIVE) == 0
