"""Metrics of what the service depends on: pools, the clock of PostgreSQL, Redis, the token file, certificates."""

import asyncio
import time

import pytest
import redis.asyncio
import sqlalchemy as sa

from support_service.platform.access.tokens import FileTokenVerifier
from support_service.platform.background import Runner
from support_service.platform.database.shared import ClockOffset, open_database, read_database_number
from support_service.platform.settings.resources import DatabaseSettings
from support_service.platform.telemetry.stores import read_redis_server
from tests.support.calls import eventually, open_case
from tests.support.scrape import Scrape
from tests.support.service import service_of

LIMIT, WAITING = "db_client_connection_max", "db_client_connection_pending_requests"
DATABASE_POOL = {"db_client_connection_pool_name": "database"}
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@on_postgresql
async def test_operations_that_wait_for_a_connection(make_client):
    """The limit of the pool is its size; what has no connection yet waits, and is answered later."""
    client = await make_client(SUPPORT_DATABASE_POOL="1")
    metrics = Scrape(service_of(client).metrics)
    assert metrics.value(LIMIT, **DATABASE_POOL) == 1
    await eventually(lambda: metrics.value(WAITING, **DATABASE_POOL) == 0)
    async with service_of(client).database.transaction() as tx:
        await tx.fetch_now(sa.text("SELECT 1"))
        waiting = [asyncio.create_task(open_case(client)) for _ in range(3)]
        await eventually(lambda: metrics.value(WAITING, **DATABASE_POOL) >= 3)
    await asyncio.gather(*waiting)
    await eventually(lambda: metrics.value(WAITING, **DATABASE_POOL) == 0)


@on_postgresql
async def test_clock_of_postgresql(client, database, monkeypatch):
    """The offset is that of this process: positive if its clock is ahead. It is kept while PostgreSQL is away."""
    assert abs(Scrape(service_of(client).metrics).value("support_clock_offset_seconds")) < 60
    offset = ClockOffset(database)
    await offset.refresh()
    real, now = offset.seconds, time.time
    monkeypatch.setattr("support_service.platform.database.shared.time.time", lambda: now() + 600)
    await offset.refresh()
    assert offset.seconds - real == pytest.approx(600, abs=30)


@on_postgresql
async def test_number_of_the_database(client, database, postgres):
    """It is the same for every replica that uses the database, and another one for each other database."""
    number = await read_database_number(database)
    await eventually(lambda: Scrape(service_of(client).metrics).value("support_database_number") == number)
    async with open_database(DatabaseSettings(url=postgres.url()), pool_size=1) as other:
        assert await read_database_number(other) not in (0, number)


async def test_state_of_redis(make_client, redis_server):
    """Role, policy, evicted keys and memory of each Redis; one that does not answer has none."""
    redis_server.start()
    redis_server.empty()
    connection = redis.asyncio.from_url(redis_server.url)
    await connection.config_set("maxmemory-policy", "volatile-ttl")
    await connection.config_set("maxmemory", 500_000_000)
    try:
        metrics = Scrape(service_of(await make_client(SUPPORT_REDIS_URL=redis_server.url)).metrics)
        for server in ("cache", "events"):
            name = "support_redis_eviction_policy"
            await eventually(lambda server=server, name=name: metrics.value(name, server=server, policy="volatile-ttl"))
            assert metrics.value("support_redis_evicted_keys_total", server=server) == 0
            assert metrics.value("support_redis_memory_limit_bytes", server=server) == 500_000_000
            assert metrics.value("support_redis_memory_usage_bytes", server=server) > 0
            assert metrics.value("support_redis_role", server=server, role="master") == 1
        state = await read_redis_server(connection)
        assert (state.role, state.eviction_policy) == ("master", "volatile-ttl")
        await connection.replicaof("127.0.0.1", "1")  # as after a failover, when the address leads to the wrong server
        assert (await read_redis_server(connection)).role == "replica"
        await connection.replicaof("NO", "ONE")
        redis_server.kill()
        assert await read_redis_server(connection) is None
    finally:
        redis_server.start()
        await connection.config_set("maxmemory-policy", "noeviction")
        await connection.config_set("maxmemory", 0)
        await connection.aclose()


@pytest.mark.usefixtures("servers")
async def test_age_of_the_token_file(tmp_path):
    """It grows while the file can't be read, and is 0 after each check that finds it unchanged."""
    now = [100.0]
    path = tmp_path / "tokens.json"
    path.write_text('{"tokens": []}')
    verifier = FileTokenVerifier(path, clock=lambda: now[0])
    async with Runner() as runner:
        await verifier.start(runner)
        now[0] += 30
        assert verifier.age == 30
        await verifier.reload_if_changed()
        assert verifier.age == 0
        path.write_text("not JSON")
        now[0] += 900
        await verifier.reload_if_changed()
        assert (verifier.age, verifier.fault_code) == (900, "tokens_unavailable")
