"""Metrics of database and Redis operations, of connection pools, and of active requests."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service.attachments.opening import AttachmentTimings
from support_service.cases.gauges import GaugeTimings
from support_service.cases.opening import CaseTimings
from support_service.core.errors import Unavailable, case_not_found
from support_service.events.broker.base import FencedError
from support_service.events.relay import RelayTimings
from support_service.platform.audit.log import SealerTimings
from support_service.platform.database import DatabaseTimings, SqliteTimings
from support_service.platform.database.opening import create_database
from support_service.platform.telemetry.stores import REDIS_OPERATIONS
from support_service.timeline.aggregator import AggregatorTimings
from support_service.timeline.opening import TimelineTimings
from support_service.timeline.single_flight import SingleFlightTimings
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_problem, open_case, read_case, read_detail, refresh
from tests.support.service import service_of
from tests.support.timings import PATIENT_POSTGRES, patient_events, patient_timings

TIME = "db_client_operation_duration_seconds"
POOL = "db_client_connections"
ACTIVE = "http_server_active_requests"
READ = "/support/cases/{case_id}"


def operations(metrics, system):
    """Return the number of operations of a system, by name and error."""
    counted = [
        (given["db_operation_name"], given.get("error_type", ""), value)
        for _, given, value in metrics.samples(f"{TIME}_count")
        if given["db_system_name"] == system
    ]
    return {(name, error): value for name, error, value in counted}


@pytest.fixture(autouse=True)
def no_background_work(environment):
    """Disable background work that would count as operations: the event consumer and the relay."""
    environment["SUPPORT_EVENTS_CONSUME"] = "false"


@pytest.fixture
def timings():
    """Timings with no periodic work while a test runs."""
    return patient_timings(
        audit=SealerTimings(seal_interval=3600.0),
        cases=CaseTimings(gauges=GaugeTimings(refresh_interval=3600.0)),
        timeline=TimelineTimings(
            override_refresh_interval=3600.0,
            aggregator=AggregatorTimings(single_flight=SingleFlightTimings(lease_extend_interval=3600.0)),
        ),
        attachments=AttachmentTimings(backlog_refresh_interval=3600.0),
        events=patient_events(backlog_refresh_interval=3600.0, relay=RelayTimings(batch_interval=3600.0)),
    )


@pytest.fixture
def with_redis(environment, redis, orders):
    """A service with Redis and an order service."""
    orders.add("ORD-1")
    environment |= {"SUPPORT_REDIS_URL": redis.url, "SUPPORT_REDIS_TIMEOUT": "60", "SUPPORT_ORDER_URL": orders.url}
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


@both_databases
async def test_not_found_is_no_database_error(client, metrics, backend):
    await expect_problem(
        await client.post("/support/cases/nobody/status", params={"status": "closed"}), 404, "case_not_found"
    )
    assert {error for _, error in operations(metrics, backend)} == {""}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_operations_count_an_error_while_postgresql_is_down(client, metrics, postgres, caplog):
    """Each operation counts an error and logs a warning; after the restart operations count without an error."""
    case = await open_case(client)
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


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_lock_timeout_is_counted_as_timeout(database_url, backend):
    """A change that can't get its lock in time counts as `timeout` and raises `database_busy`."""
    measured = []
    database = create_database(
        database_url,
        measure=lambda *operation: measured.append((operation[0], operation[2])),
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
    assert measured[-2:] == [("TRANSACTION", "timeout"), ("TRANSACTION", "")]
    await database.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_busy_sqlite_is_counted_as_timeout(database_url, backend):
    """A change that waits too long for another process's write counts as `timeout`."""
    measured = []
    database = create_database(
        database_url,
        measure=lambda *operation: measured.append((operation[0], operation[2])),
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
    assert measured[-1] == ("TRANSACTION", "timeout")
    await database.close()


async def test_redis_operations_of_reads_and_refreshes(with_redis, client, metrics):
    """A cold read takes two reads, a lease, a write and a release; a cached read takes one; a refresh takes two."""
    cache_operations = {(name, "") for name in REDIS_OPERATIONS}
    assert {name: operations(metrics, "redis")[name] for name in cache_operations} == dict.fromkeys(cache_operations, 0)
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await read_detail(client, case)
    await read_detail(client, case)
    await refresh(client, case)
    await (await client.get("/readyz")).read()
    await eventually(lambda: operations(metrics, "redis")["EVAL", ""] == 4)  # the release runs in the background
    found = operations(metrics, "redis")
    assert {name: found[name] for name in cache_operations} == {
        ("MGET", ""): 4,
        ("EVAL", ""): 4,
        ("DEL", ""): 0,
        ("PING", ""): 1,
    }


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
    with_redis.kill()
    await read_detail(client, case)
    assert operations(metrics, "redis")["MGET", "_OTHER"] == 1
    assert {error for _, error in operations(metrics, "redis")} == {"", "timeout", "_OTHER"}


async def test_refusal_of_a_stale_publisher_is_no_failure_of_redis(with_redis, client, metrics):
    """A publisher whose lease is over is refused by Redis, which works."""
    with_redis.run("SET", "support.other:fence", "9")
    with pytest.raises(FencedError):
        await service_of(client).broker.publish("support.other", ["{}"], max_length=9, fence=1)
    assert {error for name, error in operations(metrics, "redis") if name == "XADD"} == {""}


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


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_connection_of_a_waiting_transaction_is_counted_as_used(client, metrics, postgres, database):
    """A transaction that waits for a lock uses one connection, and returns it to the pool."""
    case = await open_case(client)
    used = {"db_client_connection_pool_name": "database", "db_client_connection_state": "used"}
    async with database.transaction() as other:
        await other.execute(sa.text("LOCK TABLE tickets IN EXCLUSIVE MODE"))
        changing = asyncio.create_task(client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}))
        await eventually(lambda: postgres.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1")
        await eventually(lambda: metrics.value(POOL, **used) == 1)  # beside it there may be a periodic read
    async with await changing as response:
        assert response.status == 200
    await eventually(lambda: metrics.value(POOL, **used) == 0)


@pytest.mark.parametrize("method", ["GET", "POST", "_OTHER"])
async def test_active_requests_are_zero_at_the_start(metrics, method):
    assert metrics.value(ACTIVE, http_request_method=method, url_scheme="http") == 0


async def test_requests_waiting_for_a_source_are_active(with_redis, client, metrics, orders):
    """Requests count as active by method until they are answered."""
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
async def test_rejected_request_is_no_longer_active(client, metrics, method):
    """A rejected request ends like any other, even with an unknown method."""
    async with client.request(method, "/support/cases/nobody") as response:
        assert response.status in (404, 405)
    assert metrics.total("http_server_request_duration_seconds_count") == 1
    assert metrics.total(ACTIVE) == 0
